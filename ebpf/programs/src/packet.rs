//! Reading a packet. The only raw pointers into packets are here, and no read goes beyond the end.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_skb_pull_data;
use aya_ebpf::programs::{TcContext, XdpContext};
use constellation_ebpf_abi::guard::MAX_HEADERS;

/// The part of a packet that lies in one piece.
pub struct Packet {
    start: usize,
    end: usize,
}

impl Packet {
    /// Of a socket buffer: what lies in one piece, which nearly always is all the headers.
    #[inline(always)]
    pub fn of_skb(ctx: &TcContext) -> Self {
        Self {
            start: ctx.data(),
            end: ctx.data_end(),
        }
    }

    /// Brings more headers of a socket buffer into one piece. Says whether that gave anything: then it is worth another look.
    ///
    /// Not to be done without need: it copies the buffer's head where that is shared, and leaves the receiver with a payload
    /// in two places.
    #[inline(always)]
    pub fn gather(&mut self, ctx: &TcContext) -> bool {
        let length = ctx.len() as usize;
        let needed = if length < MAX_HEADERS { length } else { MAX_HEADERS };
        if self.end - self.start >= needed {
            return false;
        }
        // SAFETY: the context is the kernel's; a failure leaves less to read, and every read checks.
        let failed = unsafe { bpf_skb_pull_data(ctx.as_ptr().cast(), needed as u32) };
        *self = Self::of_skb(ctx);
        failed == 0
    }

    /// Of a frame at XDP: its first buffer.
    #[inline(always)]
    pub fn of_frame(ctx: &XdpContext) -> Self {
        Self {
            start: ctx.data(),
            end: ctx.data_end(),
        }
    }

    /// Bytes at an offset, if the packet has them.
    #[inline(always)]
    pub fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        // The verifier wants a bound before it lets anything be added to the pointer.
        if offset > MAX_HEADERS {
            return None;
        }
        let at = self.start + offset;
        if at + N > self.end {
            return None;
        }
        // SAFETY: within the packet, as was just checked; bytes need no alignment.
        Some(unsafe { *(at as *const [u8; N]) })
    }
}

/// The kernel's idea of a packet's protocol, as in an Ethernet header.
#[inline(always)]
pub fn protocol(ctx: &TcContext) -> u16 {
    let skb: *const __sk_buff = ctx.as_ptr().cast();
    // SAFETY: the context is the kernel's. One load of its own, as everywhere with contexts.
    let protocol = unsafe { (&raw const (*skb).protocol).read_volatile() };
    u16::from_be(protocol as u16)
}
