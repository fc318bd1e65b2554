//! `tcpServersTransport` as written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Time;
use crate::duration;
use crate::resolved::TcpServersTransport;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawTcpServersTransport {
    /// Time to connect, TLS included; more than 0.
    pub(crate) dial_timeout: Time,
    /// Time between two probes of TCP keep-alive; 0: none are sent.
    pub(crate) dial_keep_alive: Time,
    /// Once the client or the server has ended what it sends: the longest silence of the other one before the connection
    /// is ended. 0: at once; below 0: no limit.
    #[schemars(extend("format" = "go-signed-duration"))]
    pub(crate) termination_delay: String,
    /// TLS towards servers that have it.
    pub(crate) tls: RawTcpServersTls,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawTcpServersTls {
    /// Accept any certificate of a server.
    pub(crate) insecure_skip_verify: bool,
    /// PEM files with the authorities that sign the certificates of servers; empty: those of the system.
    #[serde(rename = "rootCAs")]
    pub(crate) root_cas: Vec<String>,
}

impl Default for RawTcpServersTransport {
    fn default() -> Self {
        let defaults = TcpServersTransport::default();
        let delay = defaults.termination_delay.map(duration::format);
        Self {
            dial_timeout: defaults.dial_timeout.into(),
            dial_keep_alive: defaults.dial_keep_alive.into(),
            termination_delay: delay.unwrap_or_else(|| "-1s".to_owned()),
            tls: RawTcpServersTls::default(),
        }
    }
}
