//! Carrying the datagrams of a session that is known allocates nothing. A test binary of its own: the allocator counts
//! for the whole process.
#![expect(
    unsafe_code,
    reason = "a global allocator that counts can't be written without"
)]
#![expect(
    clippy::unwrap_used,
    reason = "scripted clients and back ends are test code outside of test functions"
)]

#[expect(dead_code, reason = "one test needs little of it")]
#[path = "../l4_udp/support.rs"]
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::UdpSocket;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::{Client, PATIENCE, Plan};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged; counting is one atomic addition.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System` through `alloc` above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn carrying_allocates_nothing() {
    const ROUNDS: usize = 2000;
    let back_end = UdpSocket::bind("127.0.0.1:0").unwrap();
    back_end.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut plan = Plan::to(&[back_end.local_addr().unwrap()]);
    plan.addresses = vec!["0.0.0.0:0"];
    let node = plan.start();
    let port = node.address.port();
    let client = Client::from_to("127.0.0.1", ([127, 0, 0, 2], port).into());
    let mut room = [0; 64];
    let mut there_and_back = |rounds: usize| {
        for _ in 0..rounds {
            // Two sizes, so that some leave together and some do not.
            for text in [&b"abc"[..], b"def", b"longer"] {
                client.0.send(text).unwrap();
            }
            for _ in 0..3 {
                let (len, session) = back_end.recv_from(&mut room).unwrap();
                back_end.send_to(&room[..len], session).unwrap();
                client.0.recv(&mut room).unwrap();
            }
        }
    };
    there_and_back(100);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    there_and_back(ROUNDS);
    let allocated = ALLOCATIONS.load(Ordering::Relaxed) - before;
    // The health checks and the housekeeping of the worker live in the same process.
    assert!(
        allocated < ROUNDS / 10,
        "{allocated} in {ROUNDS} rounds of 6 datagrams"
    );
}
