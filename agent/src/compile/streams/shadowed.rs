//! Words about TCP routers that never get a connection, because others come first.

use constellation_table::{Shadow, Shadowed, Snapshot};

use crate::compile::statics::Statics;
use crate::sources::Problem;

/// One problem for each router and entry point where that is certain.
pub(in crate::compile) fn problems(snapshot: &Snapshot, statics: &Statics) -> Vec<Problem> {
    let shadowed = snapshot.shadowed();
    shadowed.iter().map(|one| problem(one, statics)).collect()
}

fn problem(shadowed: &Shadowed<'_>, statics: &Statics) -> Problem {
    let entry_point = statics.entry_point(shadowed.entry_point);
    let entry_point = entry_point.map_or("", |entry_point| &*entry_point.name);
    let message = match shadowed.by {
        Shadow::Tcp(by) => format!(
            "on the entry point {entry_point:?} the router {} comes first and takes every connection that this rule does: it \
             never gets one; give it a higher priority, or another rule or entry point",
            by.spec.name
        ),
        Shadow::Name(by, name) => format!(
            "on the entry point {entry_point:?} the HTTPS router {} has the name {name:?}, which puts it before every TCP \
             router, as in Traefik: this one gets no connection for it; use another name or entry point for one of them",
            by.spec.name
        ),
        Shadow::Rest(by) => format!(
            "on the entry point {entry_point:?} the HTTPS router {} is for any name, which puts it before TCP routers that say \
             only HostSNI(`*`), as in Traefik: this one never gets a connection; name hosts in one of the rules, or use \
             another entry point",
            by.spec.name
        ),
    };
    Problem {
        subject: format!("router {}", shadowed.router.spec.name),
        message,
    }
}
