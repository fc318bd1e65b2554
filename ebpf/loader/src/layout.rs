//! The shared layouts as aya takes them.
#![expect(
    unsafe_code,
    reason = "only the layouts' own crate could promise it safely, and that one must not know aya"
)]

use aya::Pod;
use constellation_ebpf_abi::chase;
use constellation_ebpf_abi::guard::{Config, Deny, ExactKey};
use constellation_ebpf_abi::steer::{Bind, BindKey, Grant};

/// A layout of `constellation_ebpf_abi`, as a key or a value of a map.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct Shared<T>(pub(crate) T);

macro_rules! pod {
    ($($layout:ty),+ $(,)?) => {
        $(
            // SAFETY: `repr(C)`, integers only, and no padding: the sizes asserted in the crate are the sums of the
            // fields' sizes. Any bytes that the kernel hands out are a valid value.
            unsafe impl Pod for Shared<$layout> {}
        )+
    };
}

pod!(
    Grant,
    Bind,
    BindKey,
    Config,
    Deny,
    ExactKey<[u8; 4]>,
    ExactKey<[u8; 16]>,
    chase::Config,
    chase::Previous,
);
