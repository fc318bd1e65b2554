//! A bridge with a client and two nodes at it, for an address that moves from one to the other.

use std::net::{IpAddr, Ipv4Addr};

use crate::host::Host;

/// The number of the old holder: of its own addresses.
pub const OLD: u8 = 2;
/// That of the new one.
pub const NEW: u8 = 3;
const CLIENT: u8 = 9;

/// All of it, each at the device `edge`.
pub struct Lan {
    /// Who has connections.
    pub client: Host,
    /// Who has the address first.
    pub old: Host,
    /// Who has it then.
    pub new: Host,
    switch: Host,
}

/// A host's IPv4 address at the bridge, in a /24.
#[must_use]
pub fn own4(host: u8) -> IpAddr {
    Ipv4Addr::new(10, 7, 0, host).into()
}

/// Its IPv6 address, in a /64.
#[must_use]
pub fn own6(host: u8) -> IpAddr {
    std::net::Ipv6Addr::new(0xfd07, 0, 0, 0, 0, 0, 0, host.into()).into()
}

/// The hardware address of its device.
#[must_use]
pub fn mac(host: u8) -> String {
    format!("02:00:00:00:07:{host:02x}")
}

impl Lan {
    /// Wires it, after something was done at the two nodes.
    #[must_use]
    pub fn new(at_nodes: fn()) -> Self {
        let lan = Self {
            client: Host::start(|| {}),
            old: Host::start(at_nodes),
            new: Host::start(at_nodes),
            switch: Host::start(|| {}),
        };
        let hosts = [(CLIENT, &lan.client), (OLD, &lan.old), (NEW, &lan.new)];
        lan.switch.ip(["link add br0 type bridge", "link set br0 up"]);
        for (number, host) in hosts {
            let thread = host.thread();
            lan.switch.ip([
                format!("link add port{number} type veth peer name edge netns {thread}"),
                format!("link set port{number} master br0 up"),
            ]);
            host.ip([
                format!("link set edge address {}", mac(number)),
                format!("addr add {}/24 dev edge", own4(number)),
                format!("addr add {}/64 dev edge nodad", own6(number)),
                "link set edge up".to_owned(),
            ]);
        }
        lan
    }
}
