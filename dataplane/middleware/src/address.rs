//! Networks, and which address of a request is the client's.

use std::borrow::Cow;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use pingora_http::RequestHeader;
use smallvec::SmallVec;

use crate::Seen;

/// A set of networks.
#[derive(Debug)]
pub(crate) struct Networks(Box<[IpNet]>);

impl Networks {
    /// Reads addresses and networks; the error names the one that is neither.
    pub(crate) fn parse(texts: &[String], option: &str) -> Result<Self, String> {
        let networks = texts.iter().map(|text| {
            network(text.trim()).ok_or_else(|| {
                format!("{option} has {text:?}: write an IP address or a network such as 10.0.0.0/8")
            })
        });
        networks.collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// A network; one of IPv4 addresses in IPv6 form is one of IPv4 addresses.
fn network(text: &str) -> Option<IpNet> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(IpNet::from(address.to_canonical()));
    }
    let network = text.parse::<IpNet>().ok()?.trunc();
    if let IpNet::V6(six) = network
        && let Some(four) = six.addr().to_ipv4_mapped()
        && let Some(length) = six.prefix_len().checked_sub(96)
    {
        return Ipv4Net::new(four, length).ok().map(|net| net.trunc().into());
    }
    Some(network)
}

/// Which address is the client's. Where it is taken from `X-Forwarded-For`, it is what a proxy before us says there.
#[derive(Debug)]
pub struct ClientAddress {
    origin: Origin,
    /// Bits of an IPv6 address that count.
    subnet: Option<u8>,
}

#[derive(Debug)]
enum Origin {
    Connection,
    /// The n-th of `X-Forwarded-For` from the right.
    Depth(usize),
    /// The rightmost of `X-Forwarded-For` that is none of these.
    Excluding(Networks),
}

impl Default for ClientAddress {
    fn default() -> Self {
        Self {
            origin: Origin::Connection,
            subnet: None,
        }
    }
}

impl ClientAddress {
    /// From the options of an `ipStrategy`: a `depth` above 0 wins over `excluded`.
    pub fn new(depth: i64, excluded: &[String], subnet: Option<i64>) -> Result<Self, String> {
        let subnet = match subnet {
            None => None,
            Some(bits) => match u8::try_from(bits) {
                Ok(bits @ 1..=128) => Some(bits),
                _ => {
                    return Err(format!(
                        "ipStrategy.ipv6Subnet is {bits}: write a number of bits from 1 to 128"
                    ));
                }
            },
        };
        let origin = match usize::try_from(depth) {
            Ok(0) | Err(_) if excluded.is_empty() => Origin::Connection,
            Ok(0) | Err(_) => Origin::Excluding(Networks::parse(excluded, "ipStrategy.excludedIPs")?),
            Ok(depth) => Origin::Depth(depth),
        };
        Ok(Self { origin, subnet })
    }

    /// The address as it stands there; empty when there is none.
    pub(crate) fn text(&self, request: &RequestHeader, seen: &Seen<'_>) -> String {
        match &self.origin {
            Origin::Connection => self.masked(seen.client.ip()).to_string(),
            Origin::Depth(depth) => {
                let listed = forwarded_for(request);
                let text = listed
                    .len()
                    .checked_sub(*depth)
                    .and_then(|at| listed.get(at))
                    .map(|text| text.trim());
                match (text, self.subnet) {
                    (Some(text), Some(_)) => match text.parse() {
                        Ok(address @ IpAddr::V6(_)) => self.masked(address).to_string(),
                        _ => text.to_owned(),
                    },
                    (text, _) => text.unwrap_or_default().to_owned(),
                }
            }
            Origin::Excluding(excluded) => {
                let listed = forwarded_for(request);
                let mut addresses = listed.iter().rev().map(|text| text.trim());
                let client = addresses.find(|text| {
                    let is_excluded = |address: IpAddr| excluded.contains(address);
                    !text.is_empty() && !text.parse().is_ok_and(is_excluded)
                });
                client.unwrap_or_default().to_owned()
            }
        }
    }

    /// The address; `None` when there is none that can be read.
    pub(crate) fn read(&self, request: &RequestHeader, seen: &Seen<'_>) -> Option<IpAddr> {
        if let Origin::Connection = self.origin {
            return Some(self.masked(seen.client.ip()));
        }
        without_port(&self.text(request, seen)).parse().ok()
    }

    fn masked(&self, address: IpAddr) -> IpAddr {
        match (address, self.subnet) {
            (IpAddr::V6(six), Some(bits)) if six.to_ipv4_mapped().is_none() => {
                let network = Ipv6Net::new(six, bits).map(|net| net.network());
                IpAddr::V6(network.unwrap_or(six))
            }
            (address, _) => address,
        }
    }
}

/// The addresses of all lines of `X-Forwarded-For`.
fn forwarded_for(request: &RequestHeader) -> SmallVec<[Cow<'_, str>; 4]> {
    let lines = request.headers.get_all("x-forwarded-for").iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(String::from_utf8_lossy)
        .collect()
}

/// An address without the port behind it.
fn without_port(text: &str) -> &str {
    if let Some(rest) = text.strip_prefix('[') {
        return match rest.split_once("]:") {
            Some((address, port)) if !port.contains(':') => address,
            _ => text,
        };
    }
    match text.split_once(':') {
        Some((address, port)) if !port.contains(':') => address,
        _ => text,
    }
}
