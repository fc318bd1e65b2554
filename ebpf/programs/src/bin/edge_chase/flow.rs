//! A TCP connection as packets name it, and what this node knows about it.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::bpf_sock_tuple;
use aya_ebpf::helpers::generated::{bpf_sk_release, bpf_skc_lookup_tcp};
use aya_ebpf::programs::TcContext;
use constellation_ebpf_abi::chase::{self, Syn};

use crate::maps::CHASE_SYNS;

const TCP_LISTEN: u32 = 10;
/// `BPF_F_CURRENT_NETNS`.
const THIS_NAMESPACE: u64 = u64::MAX;

/// Both ends of a connection.
pub struct Flow {
    pub client: [u8; 16],
    pub address: [u8; 16],
    pub client_port: [u8; 2],
    pub port: [u8; 2],
}

/// `struct bpf_sock_tuple` of IPv4.
#[repr(C)]
struct Tuple4 {
    client: [u8; 4],
    address: [u8; 4],
    client_port: [u8; 2],
    port: [u8; 2],
}

/// `struct bpf_sock_tuple` of IPv6.
#[repr(C)]
struct Tuple6 {
    client: [u8; 16],
    address: [u8; 16],
    client_port: [u8; 2],
    port: [u8; 2],
}

impl Flow {
    /// Whether the kernel has a socket for it: of a connection, of a handshake that is going on, or of one that ended a
    /// moment ago. A listener does not count.
    #[inline(always)]
    pub fn is_known(&self, ctx: &TcContext, is_v6: bool) -> bool {
        let state = if is_v6 {
            let mut tuple = Tuple6 {
                client: self.client,
                address: self.address,
                client_port: self.client_port,
                port: self.port,
            };
            state(ctx, (&raw mut tuple).cast(), size_of::<Tuple6>() as u32)
        } else {
            let mut tuple = Tuple4 {
                client: unmapped(&self.client),
                address: unmapped(&self.address),
                client_port: self.client_port,
                port: self.port,
            };
            state(ctx, (&raw mut tuple).cast(), size_of::<Tuple4>() as u32)
        };
        !matches!(state, None | Some(TCP_LISTEN))
    }

    /// From now on the answer to what answers this SYN is awaited.
    #[inline(always)]
    pub fn remember_syn(&self, seed: u64, sequence: u32) {
        let (slot, print) = self.syn(sequence).place(seed);
        if let Some(entry) = CHASE_SYNS.get_ptr_mut(slot) {
            // SAFETY: the entry is in the map. Processors that race for it forget a SYN at worst, which then counts only
            // where there are cookies.
            unsafe { *entry = chase::remember(*entry, print) };
        }
    }

    /// Whether a SYN of this connection with this sequence number came here.
    #[inline(always)]
    pub fn had_syn(&self, seed: u64, sequence: u32) -> bool {
        let (slot, print) = self.syn(sequence).place(seed);
        CHASE_SYNS
            .get(slot)
            .is_some_and(|entry| chase::remembers(*entry, print))
    }

    #[inline(always)]
    fn syn(&self, sequence: u32) -> Syn {
        Syn {
            client: self.client,
            address: self.address,
            client_port: self.client_port,
            port: self.port,
            sequence,
        }
    }
}

/// The state of the socket that the kernel would give a packet to.
#[inline(always)]
fn state(ctx: &TcContext, tuple: *mut bpf_sock_tuple, size: u32) -> Option<u32> {
    // SAFETY: the context is the kernel's, the tuple is on the stack and as long as said, and what is found is given
    // back.
    unsafe {
        let found = bpf_skc_lookup_tcp(ctx.as_ptr(), tuple, size, THIS_NAMESPACE, 0);
        if found.is_null() {
            return None;
        }
        let state = (&raw const (*found).state).read_volatile();
        bpf_sk_release(found.cast());
        Some(state)
    }
}

#[inline(always)]
const fn unmapped(address: &[u8; 16]) -> [u8; 4] {
    [address[12], address[13], address[14], address[15]]
}
