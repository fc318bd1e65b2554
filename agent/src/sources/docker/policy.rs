//! The provider's options, checked and compiled once at start.

use constellation_config::DockerProvider;

use super::constraint::{Constraint, ConstraintError};
use super::template::{Template, TemplateError};

/// How containers are turned into routes.
///
/// `allowEmptyServices` and the label `traefik.docker.allownonrunning` have no part in it: here the routes of containers
/// that don't serve stay in any case, and answer 503.
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) exposed_by_default: bool,
    pub(super) network: Option<String>,
    pub(super) default_rule: Template,
    pub(super) constraint: Option<Constraint>,
    pub(super) use_bind_port_ip: bool,
    /// Where ports of containers in the host's network are reached.
    pub(super) host_address: String,
}

/// An option of `providers.docker` that can't be used; found before anything runs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// The template of the default rule.
    #[error("providers.docker.defaultRule: `{rule}`: {error}")]
    DefaultRule {
        /// As written.
        rule: String,
        /// What is wrong with it.
        error: TemplateError,
    },
    /// The constraint expression.
    #[error("providers.docker.constraints: `{expression}`: {error}")]
    Constraints {
        /// As written.
        expression: String,
        /// What is wrong with it.
        error: ConstraintError,
    },
}

impl Policy {
    pub(super) fn new(provider: &DockerProvider) -> Result<Self, OptionError> {
        let default_rule =
            Template::parse(&provider.default_rule).map_err(|error| OptionError::DefaultRule {
                rule: provider.default_rule.clone(),
                error,
            })?;
        let expression = provider.constraints.as_deref().map(str::trim).unwrap_or_default();
        let constraint = match expression {
            "" => None,
            text => Some(Constraint::parse(text).map_err(|error| OptionError::Constraints {
                expression: text.to_owned(),
                error,
            })?),
        };
        Ok(Self {
            exposed_by_default: provider.exposed_by_default,
            network: Some(provider.network.clone()).filter(|network| !network.is_empty()),
            default_rule,
            constraint,
            use_bind_port_ip: provider.use_bind_port_ip,
            host_address: "127.0.0.1".to_owned(),
        })
    }
}
