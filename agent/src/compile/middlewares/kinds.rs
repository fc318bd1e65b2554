//! From the options of a middleware to what it does. Errors name the option, its value and what is expected.

use std::sync::Arc;

use constellation_config::dynamic;
use constellation_middleware::Kind;
use constellation_table::Target;

use super::{access, attempts, content, limit, paths};

/// What a middleware is made of beside its definition.
pub(super) struct Input<'a> {
    /// The qualified name.
    pub(super) name: &'a Arc<str>,
    /// The service that it names.
    pub(super) service: Option<&'a Target>,
    /// What deserves a look although it works.
    pub(super) warnings: &'a mut Vec<String>,
}

impl Input<'_> {
    /// Builds what is no chain.
    pub(super) fn build(self, definition: &dynamic::Middleware) -> Result<Kind, String> {
        let kinds = definition.kinds();
        match kinds.as_slice() {
            [_] => {}
            [] => return Err("it has no kind: write one such as stripPrefix with its options".to_owned()),
            several => {
                return Err(format!(
                    "it has several kinds ({}): keep one, and list the others as middlewares of their own",
                    several.join(", ")
                ));
            }
        }
        if let Some(kind) = paths::build(definition)
            .or_else(|| content::build(definition, self.service, self.warnings))
            .or_else(|| attempts::build(definition, self.warnings))
            .or_else(|| access::build(self.name, definition, self.warnings))
            .or_else(|| limit::build(definition))
        {
            return kind;
        }
        if let Some(plugin) = &definition.plugin {
            return Err(unsupported(plugin));
        }
        Err(format!(
            "{} is not served by this version: remove it from the router to have it served",
            kinds.join("")
        ))
    }
}

fn unsupported(plugin: &dynamic::Plugin) -> String {
    let names = plugin.names().join(", ");
    format!(
        "plugins ({names}) are not supported, as they are code for Traefik's interpreter: see \"Not supported\" in \
         docs/traefik-compatibility.md for what stands in for them"
    )
}
