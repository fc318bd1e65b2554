//! Giving memory back: what reading and compiling a large configuration needed is free again, but not for others.
//!
//! The allocator keeps freed pages for the thread that freed them until that thread allocates again. The threads that
//! read and compile may not do so for hours, and their peak would stay resident.

/// Returns the free pages of this thread to the system. Worth it after work that took much memory; it takes time in
/// proportion to the pages that the thread has.
#[expect(unsafe_code, reason = "the allocator's interface is that of a C library")]
pub(crate) fn give_back() {
    // SAFETY: callable on any thread at any time; it touches nothing but free pages.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
