//! `edge.chase` as written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Time, network_list};
use crate::resolved::Chase;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawChase {
    /// Network devices, by name, at whose networks this node and those before it are direct neighbours. At these, packets
    /// of connections that this node does not know go to the previous holder, once `constellation chase on` says that
    /// addresses have moved here. Empty: off.
    pub(crate) devices: Vec<String>,
    /// Networks and addresses that have moved when the command names none. Empty: those of the entry points, where they
    /// name any.
    #[schemars(schema_with = "network_list")]
    pub(crate) addresses: Vec<String>,
    /// Who had them before, when the command does not say: an address of that node's own, at most one of each family. An
    /// IPv6 address needs an IPv6 one.
    pub(crate) previous: Vec<String>,
    /// For how long, when the command does not say, 1s to 24h: as long as the longest connections that are to be kept.
    #[serde(rename = "for")]
    pub(crate) duration: Time,
}

impl Default for RawChase {
    fn default() -> Self {
        Self {
            devices: Vec::new(),
            addresses: Vec::new(),
            previous: Vec::new(),
            duration: Chase::default().duration.into(),
        }
    }
}
