//! What `run --demo` prints once it is ready: commands to try, each of which works as printed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Where the node listens, as far as the guide needs it.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// An entry point in clear text.
    pub plain: Option<SocketAddr>,
    /// An entry point whose routers are TLS routers.
    pub tls: Option<SocketAddr>,
    /// The control address.
    pub control: SocketAddr,
}

/// The text.
pub fn text(addresses: &Addresses, program: &str) -> String {
    let mut text = String::from("\nConstellation serves two demo back ends. Try, in another terminal:\n\n");
    let mut add = |what: &str, command: String| text.push_str(&format!("  # {what}\n  {command}\n"));
    if let Some(plain) = addresses.plain.map(reachable) {
        add("HTTP, both back ends in turn", format!("curl http://{plain}/"));
        add(
            "HTTP, a back end by its host name",
            format!("curl -H 'Host: one.localhost' http://{plain}/headers"),
        );
        add("server-sent events", format!("curl -N http://{plain}/sse"));
        add(
            "a WebSocket: 101 Switching Protocols, a greeting, and the end",
            format!(
                "curl -i -N --http1.1 --max-time 10 -H 'Connection: Upgrade' -H 'Upgrade: websocket' \
                 -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' \
                 --output - 'http://{plain}/ws?greet'"
            ),
        );
    }
    if let Some(tls) = addresses.tls.map(reachable) {
        add(
            "HTTPS with the node's self-signed certificate",
            format!("curl -k https://{tls}/"),
        );
    }
    let control = reachable(addresses.control);
    add("metrics", format!("curl http://{control}/metrics"));
    add("health", format!("curl http://{control}/health"));
    if let Some(asked) = addresses.plain.or(addresses.tls).map(reachable) {
        let scheme = if addresses.plain.is_some() {
            "http"
        } else {
            "https"
        };
        let url = format!("{scheme}://{asked}/");
        add(
            "why a request goes where it goes",
            format!("curl 'http://{control}/api/v1/explain?url={url}'"),
        );
        add("the same for people", format!("{program} explain {url}"));
    }
    add("all routes", format!("{program} routes"));
    text.push_str("\nCtrl-C stops the node and its back ends.\n\n");
    text
}

/// An address that a client on this machine can use: a wildcard stands for loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listener_that_there_is_has_its_command() {
        let addresses = Addresses {
            plain: Some("0.0.0.0:1".parse().unwrap()),
            tls: Some("[::]:2".parse().unwrap()),
            control: "127.0.0.1:3".parse().unwrap(),
        };
        let all = text(&addresses, "constellation");
        for command in [
            "curl http://127.0.0.1:1/\n",
            "'http://127.0.0.1:1/ws?greet'\n",
            "curl -k https://[::1]:2/\n",
            "curl http://127.0.0.1:3/metrics\n",
            "constellation explain http://127.0.0.1:1/\n",
        ] {
            assert!(all.contains(command), "{command}{all}");
        }
        let only_tls = text(
            &Addresses {
                plain: None,
                ..addresses
            },
            "constellation",
        );
        assert!(
            only_tls.contains("explain?url=https://[::1]:2/'") && !only_tls.contains("/ws"),
            "{only_tls}"
        );
    }
}
