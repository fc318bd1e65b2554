//! Two nodes at a network, as far as the edge sees them: listeners that say their name, steering, the chase, and a lease.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use constellation_agent::chase::Chase;
use constellation_agent::edge::{Edge, EdgeError, PreviousHolder};
use constellation_agent::kernel::Kernel;
use constellation_agent::steering::{self, Authority, Steering};
use constellation_config::{Config, EntryPoint, SteeringMode};
use constellation_tests::host::Host;
use constellation_tests::lan::{own4, own6};
use constellation_tests::{busy, require};

use crate::lessor::{Lessor, Tenant};

pub(crate) const PORT: u16 = 443;
pub(crate) const VIPS: [&str; 2] = ["10.7.0.100/24", "fd07::64/64"];

pub(crate) fn targets() -> [SocketAddr; 2] {
    VIPS.map(|vip| {
        let (address, _) = vip.split_once('/').unwrap();
        SocketAddr::new(address.parse().unwrap(), PORT)
    })
}

pub(crate) fn config() -> Config {
    let any = SocketAddr::new("::".parse().unwrap(), PORT);
    let mut config = Config {
        entry_points: vec![EntryPoint::new("tcp", vec![any])],
        ..Config::default()
    };
    config.edge.steering = SteeringMode::Ebpf;
    config.edge.chase.devices = vec!["edge".to_owned()];
    config.edge.virtual_ips = VIPS.map(|vip| vip.parse().unwrap()).to_vec();
    config
}

pub(crate) fn may_make_namespaces() -> Result<(), String> {
    require::root().map_err(|_| "needs root to make namespaces".to_owned())?;
    require::program("ip").map(drop)
}

/// A node.
pub(crate) struct Site<'a> {
    host: &'a Host,
    number: u8,
    parts: Arc<Parts>,
}

pub(crate) struct Parts {
    pub(crate) edge: Edge,
    pub(crate) steering: Steering,
    pub(crate) chase: Chase,
    tenant: Mutex<Tenant>,
}

impl<'a> Site<'a> {
    /// On a host of the network, under the name that its server says.
    pub(crate) fn start(host: &'a Host, number: u8, name: char, lessor: &Lessor, ttl: Duration) -> Self {
        let tenant = Mutex::new(lessor.tenant(number.into(), ttl));
        let parts = host.run(move || {
            let listener = TcpListener::bind(SocketAddr::new("::".parse().unwrap(), PORT)).unwrap();
            let (config, kernel) = (config(), Kernel::new(None));
            let steering = steering::prepare(&config, &kernel, Authority::cluster(&[7; 16])).unwrap();
            let chase = Chase::new(&config, &kernel);
            let edge = Edge::prepare(&config, steering.clone(), chase.clone()).unwrap();
            let socket: OwnedFd = listener.try_clone().unwrap().into();
            let bound = listener.local_addr().unwrap();
            steering.engage(&config, &[(Arc::from("tcp"), socket)]).unwrap();
            chase.engage(&config, &[(Arc::from("tcp"), bound)]);
            assert!(chase.is_active(), "{:?}", chase.report());
            edge.engage();
            busy::serve(listener, name);
            Parts {
                edge,
                steering,
                chase,
                tenant,
            }
        });
        Self {
            host,
            number,
            parts: Arc::new(parts),
        }
    }

    /// Does something there.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Parts, &mut Tenant) -> T + Send + 'static,
    ) -> T {
        let parts = Arc::clone(&self.parts);
        self.host
            .run(move || job(&parts, &mut parts.tenant.lock().unwrap()))
    }

    /// Gets the lease, and holds the edge.
    pub(crate) fn gain(&self, previous: Option<&Self>) {
        let previous = previous.map(|site| PreviousHolder {
            addresses: vec![own4(site.number), own6(site.number)],
        });
        let gained: Result<(), EdgeError> =
            self.run(move |parts, tenant| parts.edge.gained(tenant.acquire(), previous.as_ref()));
        gained.unwrap();
    }

    /// Lets go of both, as planned.
    pub(crate) fn release(&self) {
        self.run(|parts, tenant| {
            parts.edge.release().unwrap();
            tenant.release();
        });
    }

    /// The devices that an address is on.
    pub(crate) fn devices_of(&self, address: IpAddr) -> Vec<String> {
        self.host.run(move || {
            let all = nix::ifaddrs::getifaddrs().unwrap();
            let on = all.filter(|interface| {
                let own = interface.address.as_ref();
                own.is_some_and(|own| {
                    let v4 = own.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
                    v4.or_else(|| own.as_sockaddr_in6().map(|v6| v6.ip().into())) == Some(address)
                })
            });
            on.map(|interface| interface.interface_name).collect()
        })
    }

    /// How the device does ARP.
    pub(crate) fn arp(&self) -> [String; 2] {
        self.host.run(|| {
            ["arp_ignore", "arp_announce"].map(|key| {
                let value = std::fs::read_to_string(format!("/proc/sys/net/ipv4/conf/edge/{key}")).unwrap();
                value.trim().to_owned()
            })
        })
    }
}
