//! From the static configuration to the data plane's settings.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use constellation_config::{AccessLogFormat, Config, EdgeMode, FieldMode, TraefikProvider};
use constellation_dataplane::access_log;
use constellation_dataplane::mesh::Mesh;
use constellation_dataplane::settings::{
    EntryPoint, ForwardedHeaders, Limits, Protocol, ProxyProtocolTrust, Settings, TcpSettings, UdpSettings,
};
use constellation_dataplane::tenure::Tenure;
use constellation_table::EntryPointId;

use crate::guard::Guard;

/// Longer than any connection lives; stands for "no limit" where the data plane wants a time.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// What the data plane is told at start.
pub fn of(config: &Config, guard: &Guard, tenure: &Tenure, mesh: Mesh) -> Settings {
    let entry_points = config.entry_points.iter().zip(0u16..);
    let from_traefik = entrance(config).map(|address| of_entrance(address, config.entry_points.len()));
    let available = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    Settings {
        entry_points: entry_points
            .map(|(entry_point, id)| of_entry_point(entry_point, id, tenure))
            .chain(from_traefik)
            .collect(),
        node: config.node.name.as_str().into(),
        workers: config.proxy.workers.unwrap_or_else(available),
        cpus: if config.proxy.cpu_affinity {
            allowed()
        } else {
            Vec::new()
        },
        drain: config.shutdown.drain,
        served_by_for: config.proxy.served_by_for.clone(),
        gate: guard.gate(),
        offences: guard.offences(),
        mesh,
    }
}

/// Where requests of a Traefik come in, if they do.
pub fn entrance(config: &Config) -> Option<SocketAddr> {
    let provider = config.traefik_provider.as_ref()?;
    (config.edge.mode != EdgeMode::ProviderOnly).then_some(provider.failover.address)
}

/// Its id.
pub fn entrance_id(config: &Config) -> Option<EntryPointId> {
    let position = u16::try_from(config.entry_points.len()).ok()?;
    entrance(config).map(|_| EntryPointId(position))
}

/// The names of all that the data plane listens at, each at the position that is its id.
pub fn entry_point_names(config: &Config) -> Vec<Arc<str>> {
    let names = config
        .entry_points
        .iter()
        .map(|entry_point| entry_point.name.as_str());
    names
        .chain(entrance(config).map(|_| TraefikProvider::ENTRANCE))
        .map(Arc::from)
        .collect()
}

/// It has no limits of its own: Traefik keeps to those towards clients.
fn of_entrance(address: SocketAddr, position: usize) -> EntryPoint {
    EntryPoint {
        id: EntryPointId(u16::try_from(position).unwrap_or(u16::MAX)),
        name: TraefikProvider::ENTRANCE.into(),
        protocol: Protocol::Tcp,
        addresses: vec![address],
        key: "traefikProvider.failover.address".into(),
        forwarded: ForwardedHeaders {
            insecure: true,
            trusted_ips: Vec::new(),
        },
        // It says who the client of a TCP connection is.
        proxy_protocol: ProxyProtocolTrust {
            insecure: true,
            trusted_ips: Vec::new(),
        },
        limits: Limits {
            // Traefik takes headers of up to 1 MiB.
            max_header_bytes: 1 << 20,
            max_headers: 1000,
            ..Limits::of_a_proxy()
        },
        tcp: TcpSettings::default(),
        udp: UdpSettings::default(),
        exempt_sources: Vec::new(),
        default_tls_options: "default".into(),
        // Whoever holds the edge: this is between two processes of one machine.
        tenure: Tenure::default(),
        by_service: true,
        shared: false,
    }
}

/// The CPUs that this process may use.
fn allowed() -> Vec<usize> {
    use nix::sched::{CpuSet, sched_getaffinity};
    let set = sched_getaffinity(nix::unistd::Pid::from_raw(0)).unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot tell which CPUs this process may use: proxy.cpuAffinity has no effect");
        CpuSet::new()
    });
    (0..CpuSet::count())
        .filter(|&cpu| set.is_set(cpu).unwrap_or(false))
        .collect()
}

fn of_entry_point(entry_point: &constellation_config::EntryPoint, id: u16, tenure: &Tenure) -> EntryPoint {
    let (timeouts, limits) = (&entry_point.timeouts, &entry_point.limits);
    EntryPoint {
        id: EntryPointId(id),
        name: entry_point.name.as_str().into(),
        protocol: match entry_point.protocol {
            constellation_config::Protocol::Tcp => Protocol::Tcp,
            constellation_config::Protocol::Udp => Protocol::Udp,
        },
        addresses: entry_point.addresses.clone(),
        key: entry_point.address_key().into(),
        forwarded: ForwardedHeaders {
            insecure: entry_point.forwarded_headers.insecure,
            trusted_ips: entry_point.forwarded_headers.trusted_ips.clone(),
        },
        proxy_protocol: ProxyProtocolTrust {
            insecure: entry_point.proxy_protocol.insecure,
            trusted_ips: entry_point.proxy_protocol.trusted_ips.clone(),
        },
        limits: Limits {
            header_timeout: timeouts.header,
            read_timeout: timeouts.read,
            write_timeout: timeouts.write,
            idle_timeout: timeouts.idle.unwrap_or(FOR_EVER),
            handshake_timeout: timeouts.handshake,
            max_header_bytes: limits.max_header_bytes,
            max_headers: limits.max_headers,
            max_body_bytes: limits.max_body_bytes,
            max_concurrent_streams: limits.max_concurrent_streams,
            max_connections: limits.max_connections,
            max_connections_per_source: limits.max_connections_per_source,
            min_body_rate: limits.min_body_rate,
            min_send_rate: limits.min_send_rate,
            rate_grace: limits.rate_grace,
            max_requests_per_connection: limits.max_requests_per_connection,
        },
        tcp: TcpSettings {
            idle_timeout: timeouts.tcp_idle,
        },
        udp: UdpSettings {
            timeout: entry_point.udp.timeout,
            max_sessions: entry_point.udp.max_sessions,
            max_sessions_per_source: entry_point.udp.max_sessions_per_source,
        },
        // A balancer that says whose connections it brings brings those of many.
        exempt_sources: [&limits.exempt_sources, &entry_point.proxy_protocol.trusted_ips]
            .into_iter()
            .flatten()
            .copied()
            .collect(),
        default_tls_options: "default".into(),
        tenure: tenure.clone(),
        by_service: false,
        shared: entry_point.reuse_port,
    }
}

/// What the access log is told at start.
pub fn of_access_log(config: &constellation_config::AccessLog) -> access_log::Settings {
    let modes = |default: FieldMode, named: &BTreeMap<String, FieldMode>| access_log::Modes {
        default: field_mode(default),
        named: named
            .iter()
            .map(|(name, mode)| (name.clone(), field_mode(*mode)))
            .collect(),
    };
    let statuses = config.filters.status_codes.iter();
    access_log::Settings {
        file: config.file_path.clone(),
        format: match config.format {
            AccessLogFormat::Common => access_log::Format::Common,
            AccessLogFormat::GenericClf => access_log::Format::GenericClf,
            AccessLogFormat::Json => access_log::Format::Json,
        },
        queue: config.buffering_size,
        sampling: config.sampling,
        filters: access_log::Filters {
            statuses: statuses.map(|range| range.from..=range.to).collect(),
            min_duration: config.filters.min_duration,
            retried: config.filters.retry_attempts,
        },
        fields: modes(config.field_mode, &config.field_modes),
        headers: modes(config.header_mode, &config.header_modes),
    }
}

fn field_mode(mode: FieldMode) -> access_log::FieldMode {
    match mode {
        FieldMode::Keep => access_log::FieldMode::Keep,
        FieldMode::Drop => access_log::FieldMode::Drop,
        FieldMode::Redact => access_log::FieldMode::Redact,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_positions_and_limits_arrive() {
        let mut config = Config::default();
        config.entry_points[1].limits.max_headers = 7;
        config.entry_points[1].timeouts.idle = None;
        config.entry_points[1].protocol = constellation_config::Protocol::Udp;
        config.entry_points[1].udp.max_sessions = 9;
        let guard = crate::guard::prepare(&config, &crate::kernel::Kernel::new(None)).unwrap();
        let settings = of(&config, &guard, &Tenure::default(), Mesh::default());
        let ids: Vec<u16> = settings.entry_points.iter().map(|e| e.id.0).collect();
        assert_eq!(ids, [0, 1]);
        assert_eq!(settings.entry_points[1].limits.max_headers, 7);
        assert_eq!(settings.entry_points[1].limits.idle_timeout, FOR_EVER);
        assert_eq!(settings.entry_points[1].protocol, Protocol::Udp);
        assert_eq!(settings.entry_points[1].udp.max_sessions, 9);
        assert_eq!(settings.entry_points[0].protocol, Protocol::Tcp);
        assert_eq!(&*settings.entry_points[0].key, "entryPoints.web.address");
    }
}
