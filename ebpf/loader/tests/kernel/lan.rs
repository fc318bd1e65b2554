//! The network of an address that moves: both nodes have it to themselves, and the client's neighbour entry says which of
//! them gets its packets.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener};

use constellation_tests::busy;
use constellation_tests::lan::{Lan, OLD, mac};

use crate::sandbox::like_the_service;

pub(crate) const PORT: u16 = 443;
/// Neither is at the bridge's network, so that nobody asks for them there.
pub(crate) const VIP4: &str = "10.8.0.100";
pub(crate) const VIP6: &str = "fd08::100";

pub(crate) fn vip(is_v6: bool) -> IpAddr {
    if is_v6 { VIP6 } else { VIP4 }.parse().unwrap()
}

pub(crate) fn target(is_v6: bool) -> SocketAddr {
    (vip(is_v6), PORT).into()
}

/// The address is with the old holder.
pub(crate) fn lan() -> Lan {
    let lan = Lan::new(like_the_service);
    for node in [&lan.old, &lan.new] {
        node.ip([
            format!("addr add {VIP4}/32 dev lo"),
            format!("addr add {VIP6}/128 dev lo nodad"),
        ]);
    }
    // As by a router that knows where the address is: by its neighbour entry.
    lan.client.ip([
        format!("route add {VIP4}/32 dev edge"),
        format!("-6 route add {VIP6}/128 dev edge"),
    ]);
    move_to(&lan, OLD);
    lan
}

/// From now on the client's packets for the address go to this node, as after a gratuitous ARP.
pub(crate) fn move_to(lan: &Lan, number: u8) {
    let entry = |vip| {
        format!(
            "neigh replace {vip} lladdr {} dev edge nud permanent",
            mac(number)
        )
    };
    lan.client.ip([VIP4, VIP6].map(entry));
}

/// Answers every SYN with a cookie, always.
pub(crate) fn force_cookies(lan: &Lan) {
    for node in [&lan.old, &lan.new] {
        node.run(|| fs::write("/proc/sys/net/ipv4/tcp_syncookies", "2").expect("cookies"));
    }
}

/// Has both nodes serve, by name.
pub(crate) fn serve(lan: &Lan) {
    for (name, node) in [('O', &lan.old), ('N', &lan.new)] {
        node.run(move || {
            for is_v6 in [false, true] {
                busy::serve(TcpListener::bind(target(is_v6)).unwrap(), name);
            }
        });
    }
}
