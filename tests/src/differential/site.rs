//! Loopback addresses of one run: both proxies use the same ports, each on an address of its own, so that nothing a back
//! end sees tells them apart.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Back ends have the addresses from this one on.
const FIRST_BACKEND: u8 = 10;
/// So many addresses of back ends.
pub(super) const BACKENDS: u8 = 8;
/// Ports on which each of them listens, and one on which none does.
pub(super) const PORTS: [u16; 2] = [8080, 8081];
/// A port on which no back end listens.
pub(super) const DEAD_PORT: u16 = 8099;

/// A network of a process's own, `127.77.N.0/24`.
#[derive(Debug)]
pub(super) struct Site {
    number: u8,
    /// Held for as long as the network is in use.
    _claim: TcpListener,
}

impl Site {
    /// The first that no other process uses, so that a run that is alone always has the same.
    ///
    /// # Panics
    /// When all are taken.
    pub(super) fn claim() -> Self {
        let claim = |number| {
            let address = SocketAddr::from(([127, 77, number, 1], 7777));
            TcpListener::bind(address).ok()
        };
        (0..=u8::MAX)
            .find_map(|number| {
                Some(Self {
                    number,
                    _claim: claim(number)?,
                })
            })
            .expect("one of 256 loopback networks is free")
    }

    /// The third byte of all addresses here.
    pub(super) fn number(&self) -> u8 {
        self.number
    }

    /// Where clients come from: two of them, `0` and `1`.
    pub(super) fn client(&self, which: u8) -> Ipv4Addr {
        client(self.number, which)
    }

    /// Where a proxy listens: `0` and `1`; `2`: where a node does that stands behind one.
    pub(super) fn proxy(&self, which: u8) -> Ipv4Addr {
        self.address(3 + which)
    }

    /// Where a back end listens.
    pub(super) fn backend(&self, which: u8) -> Ipv4Addr {
        backend(self.number, which)
    }

    /// Where a back end listens that uses the host's network.
    pub(super) fn host(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, host_port(self.number)).into()
    }

    fn address(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, 77, self.number, host)
    }
}

/// See [`Site::client`].
pub(super) fn client(site: u8, which: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 77, site, 1 + which)
}

/// See [`Site::backend`].
pub(super) fn backend(site: u8, which: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 77, site, FIRST_BACKEND + which)
}

/// The port of [`Site::host`].
pub(super) fn host_port(site: u8) -> u16 {
    18_000 + u16::from(site)
}
