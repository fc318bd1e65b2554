//! Memory that nobody uses is not held: no huge pages, and what reading and compiling needed is given back.
//!
//! The allocator keeps freed pages for the thread that freed them until that thread allocates again. The threads that
//! read and compile may not do so for hours, and their peak would stay resident.

/// Keeps huge pages away from this process: the allocator asks for them, and with 10,000 routes about 25 MB more would be
/// resident (seen as `AnonHugePages` in `smaps`). Called before the first thread starts.
pub(crate) fn refuse_huge_pages() {
    #[cfg(target_os = "linux")]
    if let Err(error) = nix::sys::prctl::set_thp_disable(true) {
        tracing::debug!(%error, "the kernel does not refuse huge pages: more memory will be resident");
    }
}

/// Returns the free pages of this thread to the system. Worth it after work that took much memory; it takes time in
/// proportion to the pages that the thread has.
#[expect(unsafe_code, reason = "the allocator's interface is that of a C library")]
pub(crate) fn give_back() {
    // SAFETY: callable on any thread at any time; it touches nothing but free pages.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
