//! SIGHUP: sources and files are read again. Of the static configuration, addresses of entry points change at once where
//! steering is in force; what only a restart can change is named.

use constellation_config::{Config, EntryPoint, Protocol};

use super::{Node, load};
use crate::cli::RunArgs;
use crate::systemd;

impl Node {
    pub(super) fn reload(&mut self, args: &RunArgs) {
        systemd::reloading();
        for (_, source) in &self.sources {
            source.reload.request();
        }
        self.recompile.request();
        self.access_log.reopen();
        match load(args) {
            Ok(loaded) => {
                self.readdress(&loaded.config);
                self.reguard(&loaded.config);
                let changed = changed_sections(&self.config, &loaded.config);
                if changed.is_empty() {
                    tracing::info!("reloading routes, certificates and the access log");
                } else {
                    tracing::warn!(
                        keys = %changed.join(", "),
                        "reloading routes, certificates and the access log; these keys of the static configuration \
                         changed and need a restart"
                    );
                }
            }
            Err(failure) => tracing::error!(
                "the static configuration is wrong now, a restart would fail; the running one stays: {failure}"
            ),
        }
        systemd::ready("serving");
    }

    /// Guards by the configuration as it is now, and the ports that the entry points have now.
    fn reguard(&mut self, now: &Config) {
        let mut config = self.config.clone();
        config.edge.guard.clone_from(&now.edge.guard);
        match self.guard.reload(&config, self.data_plane.bound()) {
            Ok(()) => {
                self.config = config;
                self.kernel
                    .settle(self.steering.is_active() || self.guard.is_active() || self.chase.is_active());
            }
            Err(error) => tracing::error!("edge.guard is not applied as it should be: {error}"),
        }
    }

    /// Steers the addresses that the entry points have now.
    fn readdress(&mut self, now: &Config) {
        let running = &self.config.entry_points;
        let entry_points = readdressed(running, &now.entry_points);
        if entry_points == *running {
            return;
        }
        match self.steering.reload(running, &entry_points) {
            Ok(Some(changes)) => {
                tracing::info!(
                    added = changes.written,
                    removed = changes.removed,
                    "the addresses of entry points are changed; no connection was touched"
                );
                self.chase.set_ports(&entry_points, self.data_plane.bound());
                self.config.entry_points = entry_points;
            }
            // Bound in the ordinary way alone: a restart is needed, which is said with everything else.
            Ok(None) => {}
            Err(error) => tracing::error!("the addresses of entry points stay as they were: {error}"),
        }
    }
}

/// The running entry points, with the addresses that they have now as far as those need no socket of their own.
fn readdressed(running: &[EntryPoint], now: &[EntryPoint]) -> Vec<EntryPoint> {
    let readdressed = |entry_point: &EntryPoint| {
        let mut entry_point = entry_point.clone();
        let now = now.iter().find(|now| now.name == entry_point.name);
        if let Some(now) = now.filter(|now| [now.protocol, entry_point.protocol] == [Protocol::Tcp; 2]) {
            entry_point.addresses.clone_from(&now.addresses);
            entry_point.prefixes.clone_from(&now.prefixes);
        }
        entry_point
    };
    running.iter().map(readdressed).collect()
}

/// The sections of the static configuration that differ.
fn changed_sections(running: &Config, now: &Config) -> Vec<&'static str> {
    [
        ("node", running.node != now.node),
        ("entryPoints", running.entry_points != now.entry_points),
        ("edge", running.edge != now.edge),
        ("providers", running.providers != now.providers),
        ("control", running.control != now.control),
        (
            "traefikProvider",
            running.traefik_provider != now.traefik_provider,
        ),
        ("log", running.log != now.log),
        ("accessLog", running.access_log != now.access_log),
        (
            "serversTransport",
            running.servers_transport != now.servers_transport,
        ),
        (
            "tcpServersTransport",
            running.tcp_servers_transport != now.tcp_servers_transport,
        ),
        ("proxy", running.proxy != now.proxy),
        ("shutdown", running.shutdown != now.shutdown),
    ]
    .into_iter()
    .filter_map(|(section, differs)| differs.then_some(section))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_for_connections_change_while_the_node_runs() {
        let at = |name: &str, address: &str| EntryPoint::new(name, vec![address.parse().unwrap()]);
        let udp = |address: &str| {
            let mut dns = at("dns", address);
            dns.protocol = Protocol::Udp;
            dns
        };
        let running = [udp("127.0.0.1:53"), at("web", "127.0.0.1:80")];
        let mut web = at("web", "127.0.0.1:81");
        web.limits.max_headers = 7;
        let now = [udp("127.0.0.1:54"), at("new", "127.0.0.1:82"), web];
        assert_eq!(
            readdressed(&running, &now),
            [udp("127.0.0.1:53"), at("web", "127.0.0.1:81")]
        );
    }
}
