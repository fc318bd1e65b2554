//! Addresses to listen on.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use super::Judge;
use crate::resolved::{EntryPoint, Prefix, Protocol};

const EXPECTED: &str =
    "`:PORT` or `IP:PORT`, such as `:80`, `127.0.0.1:0` or `[::1]:443`, port 0 for any free one";

/// Why a text is no address.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    message: &'static str,
    hint: Option<String>,
}

impl Refusal {
    pub(super) fn report(self, key: &str, judge: &mut Judge<'_>) {
        let error = judge.refuse(key, self.message).expects(EXPECTED);
        error.hint = self.hint;
    }
}

/// What an entry point may be reached at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Address(SocketAddr),
    Prefix(Prefix),
}

/// Reads an address in Traefik's form that is for TCP, `/tcp` allowed.
pub(super) fn parse(text: &str) -> Result<SocketAddr, Refusal> {
    match parse_any(text)? {
        (Place::Address(address), Protocol::Tcp) => Ok(address),
        (Place::Prefix(_), Protocol::Tcp) => Err(Refusal {
            message: "is a network, and must be one address",
            hint: None,
        }),
        (_, Protocol::Udp) => Err(Refusal {
            message: "must be for TCP",
            hint: Some("remove /udp".to_owned()),
        }),
    }
}

/// Reads an address in Traefik's form or a network with a port, `/tcp` and `/udp` allowed.
pub(super) fn parse_any(text: &str) -> Result<(Place, Protocol), Refusal> {
    let refuse = |message, hint: Option<String>| Err(Refusal { message, hint });
    let text = text.trim();
    // The length of a prefix has the port behind it, a protocol has nothing.
    let protocol = text.rsplit_once('/').filter(|(_, tail)| !tail.contains(':'));
    let (address, protocol) = protocol.unwrap_or((text, "tcp"));
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => {
            return refuse(
                "names an unknown protocol",
                Some("write /tcp or /udp, or nothing for TCP".to_owned()),
            );
        }
    };
    let Some((host, port)) = address.rsplit_once(':') else {
        let hint = address.parse::<u16>().ok().map(|port| format!("write `:{port}`"));
        return refuse("is not an address with a port", hint);
    };
    let Ok(port) = port.parse::<u16>() else {
        let message = if port.is_empty() {
            "has no port"
        } else {
            "has no valid port"
        };
        return refuse(message, Some("ports are numbers from 0 to 65535".to_owned()));
    };
    if let Some((ip, length)) = host.split_once('/') {
        return prefix(ip, length, port).map(|prefix| (Place::Prefix(prefix), protocol));
    }
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let ip = match (host, bare) {
        ("", _) => Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        (name, None) if name.eq_ignore_ascii_case("localhost") => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        (_, Some(v6)) => v6.parse().map(IpAddr::V6).ok(),
        (v4, None) => v4.parse().map(IpAddr::V4).ok(),
    };
    match ip {
        Some(ip) => Ok((Place::Address(SocketAddr::new(ip, port)), protocol)),
        None if host == "*" => refuse("is not an IP address", Some(format!("write `:{port}`"))),
        None if host.parse::<Ipv6Addr>().is_ok() => {
            let hint = format!("IPv6 addresses need brackets: `[{host}]:{port}`");
            refuse("is not an IP address", Some(hint))
        }
        None => {
            let hint = "host names are not looked up here; write the IP address".to_owned();
            refuse("is not an IP address", Some(hint))
        }
    }
}

fn prefix(ip: &str, length: &str, port: u16) -> Result<Prefix, Refusal> {
    let bare = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']'));
    let ip = match bare {
        Some(v6) => v6.parse().map(IpAddr::V6).ok(),
        None => ip.parse().map(IpAddr::V4).ok(),
    };
    let network = ip
        .zip(length.parse().ok())
        .and_then(|(ip, length)| IpNet::new(ip, length).ok());
    let Some(network) = network else {
        return Err(Refusal {
            message: "is no network with a port",
            hint: Some("write them like `10.1.0.0/16:443` or `[fd00::]/64:443`".to_owned()),
        });
    };
    if port == 0 {
        return Err(Refusal {
            message: "is a network with port 0",
            hint: Some("a free port can be picked for one address only; name the port".to_owned()),
        });
    }
    Ok(Prefix {
        network: network.trunc(),
        port,
    })
}

/// Refuses addresses that could not be bound together, and networks that two entry points claim.
pub(super) fn no_overlaps(
    entry_points: &[EntryPoint],
    others: &[(&'static str, SocketAddr)],
    judge: &mut Judge<'_>,
) {
    // By protocol and port, since there may be many ports.
    let mut seen: HashMap<(Protocol, u16), Vec<(String, SocketAddr)>> = HashMap::new();
    for (key, address) in others {
        let seen = seen.entry((Protocol::Tcp, address.port())).or_default();
        if let Some((other, taken)) = seen.iter().find(|(_, taken)| overlap(*taken, *address)) {
            judge
                .refuse(key, format!("is taken by {other} ({taken})"))
                .advises("give one of them another port or another IP address");
        } else {
            seen.push(((*key).to_owned(), *address));
        }
    }
    for entry_point in entry_points {
        for (index, address) in entry_point.addresses.iter().enumerate() {
            // Between networks the position is not known any more.
            let key = match (entry_point.addresses.len(), entry_point.prefixes.is_empty()) {
                (2.., true) => format!("{}[{index}]", entry_point.address_key()),
                _ => entry_point.address_key(),
            };
            let seen = seen.entry((entry_point.protocol, address.port())).or_default();
            if let Some((other, taken)) = seen.iter().find(|(_, taken)| overlap(*taken, *address)) {
                let both = address.ip().is_unspecified()
                    && taken.ip().is_unspecified()
                    && address.ip() != taken.ip();
                let hint = match both {
                    true => "`:PORT` and `[::]:PORT` are IPv4 and IPv6; leave the other one out",
                    false => "give one of them another port or another IP address",
                };
                judge
                    .refuse(&key, format!("is taken by {other} ({taken})"))
                    .advises(hint);
            } else {
                seen.push((key, *address));
            }
        }
    }
    let mut claimed: HashMap<Prefix, &EntryPoint> = HashMap::new();
    for entry_point in entry_points {
        for prefix in &entry_point.prefixes {
            let key = entry_point.address_key();
            if let Some(other) = claimed.insert(*prefix, entry_point) {
                judge
                    .refuse(
                        &key,
                        format!(
                            "holds the network {prefix}, which is taken by {}",
                            other.address_key()
                        ),
                    )
                    .advises("leave it out of one of them");
            }
            // Steering would take these connections, and the node could not be asked any more.
            for (other, address) in others {
                if prefix.port == address.port() && prefix.network.contains(&address.ip()) {
                    judge
                        .refuse(
                            &key,
                            format!("holds the network {prefix}, which contains {other} ({address})"),
                        )
                        .advises("give one of them another port");
                }
            }
        }
    }
}

/// Whether two listeners would want the same packets. `[::]` takes IPv4 as well.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let covers = |all: IpAddr, one: IpAddr| all.is_unspecified() && (all.is_ipv6() || one.is_ipv4());
    a.port() == b.port()
        && a.port() != 0
        && (a.ip() == b.ip() || covers(a.ip(), b.ip()) || covers(b.ip(), a.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_traefiks_addresses() {
        let table = [
            (":80", Ok("[::]:80")),
            (" :80 ", Ok("[::]:80")),
            (":80/tcp", Ok("[::]:80")),
            (":80/TCP", Ok("[::]:80")),
            ("127.0.0.1:0", Ok("127.0.0.1:0")),
            ("[::]:80", Ok("[::]:80")),
            ("[::1]:80", Ok("[::1]:80")),
            ("localhost:80", Ok("127.0.0.1:80")),
            ("0.0.0.0:65535", Ok("0.0.0.0:65535")),
            (":53/udp", Err("must be for TCP")),
            (":53/sctp", Err("names an unknown protocol")),
            ("80", Err("is not an address with a port")),
            ("", Err("is not an address with a port")),
            ("127.0.0.1:", Err("has no port")),
            (":65536", Err("has no valid port")),
            (":-1", Err("has no valid port")),
            (":http", Err("has no valid port")),
            ("*:80", Err("is not an IP address")),
            ("::1:80", Err("is not an IP address")),
            ("example.org:80", Err("is not an IP address")),
            ("[127.0.0.1]:80", Err("is not an IP address")),
            ("1.2.3:80", Err("is not an IP address")),
        ];
        for (text, expected) in table {
            let read = parse(text).map(|address| address.to_string());
            let read = read.as_deref().map_err(|refusal| refusal.message);
            assert_eq!(read, expected, "{text:?}");
        }
    }

    #[test]
    fn networks_have_their_port_behind_them() {
        let table = [
            ("10.1.0.0/16:443", Ok("10.1.0.0/16:443")),
            ("10.1.2.3/16:443/tcp", Ok("10.1.0.0/16:443")),
            ("[fd00::1]/64:443", Ok("[fd00::]/64:443")),
            ("0.0.0.0/0:80", Ok("0.0.0.0/0:80")),
            ("10.1.0.0/16:0", Err("is a network with port 0")),
            ("10.1.0.0/33:1", Err("is no network with a port")),
            ("10.1.0.0/:1", Err("is no network with a port")),
            ("[10.1.0.0]/16:1", Err("is no network with a port")),
            ("fd00::/64:443", Err("is no network with a port")),
            ("10.1.0.0/16", Err("names an unknown protocol")),
        ];
        for (text, expected) in table {
            let read = parse_any(text).map(|(place, _)| match place {
                Place::Prefix(prefix) => prefix.to_string(),
                Place::Address(address) => panic!("{address}"),
            });
            let read = read.as_deref().map_err(|refusal| refusal.message);
            assert_eq!(read, expected, "{text:?}");
        }
        assert_eq!(
            parse("10.0.0.0/8:1").unwrap_err().message,
            "is a network, and must be one address"
        );
    }

    #[test]
    fn an_address_may_say_its_protocol() {
        let table = [
            (":53", Protocol::Tcp),
            (":53/tcp", Protocol::Tcp),
            (":53/udp", Protocol::Udp),
            (":53/UDP", Protocol::Udp),
        ];
        for (text, expected) in table {
            assert_eq!(
                parse_any(text).map(|(_, protocol)| protocol),
                Ok(expected),
                "{text:?}"
            );
        }
    }

    #[test]
    fn addresses_that_want_the_same_packets() {
        let table = [
            ("1.1.1.1:80", "1.1.1.1:80", true),
            ("1.1.1.1:80", "1.1.1.1:81", false),
            ("1.1.1.1:80", "2.2.2.2:80", false),
            ("0.0.0.0:80", "2.2.2.2:80", true),
            ("[::]:80", "2.2.2.2:80", true),
            ("[::]:80", "0.0.0.0:80", true),
            ("0.0.0.0:80", "[::1]:80", false),
            ("[::]:0", "[::]:0", false),
        ];
        for (a, b, expected) in table {
            let (a, b): (SocketAddr, SocketAddr) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!((overlap(a, b), overlap(b, a)), (expected, expected), "{a} {b}");
        }
    }
}
