//! What every program needs: a panic handler that can't be reached, a license, and counters; and what those that look into
//! packets need.
#![no_std]

pub mod headers;
pub mod packet;

use aya_ebpf::maps::PerCpuArray;

/// The verifier rejects a program that could reach this, so nothing that may panic gets past the tests.
#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Adds one to this CPU's share of a counter.
#[inline(always)]
pub fn count(stats: &PerCpuArray<u64>, counter: u32) {
    if let Some(value) = stats.get_ptr_mut(counter) {
        // SAFETY: the entry is this CPU's own, and programs of these types are not preempted by each other on it.
        unsafe { *value += 1 };
    }
}

/// Declares the license, which says which helpers a program may call. None of ours asks for the GPL.
#[macro_export]
macro_rules! license {
    () => {
        #[unsafe(link_section = "license")]
        #[unsafe(no_mangle)]
        static LICENSE: [u8; 11] = *b"Apache-2.0\0";
    };
}
