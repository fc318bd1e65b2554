//! Templates of default rules and constraints of containers: refused with a position inside of the text, or they say
//! something of any container.
#![no_main]

use std::collections::BTreeMap;

use constellation_agent::sources::docker::{Constraint, Model, Template};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str, &str)| {
    let (text, name, value) = input;
    let labels = BTreeMap::from([("traefik.tags".to_owned(), value.to_owned())]);
    match Template::parse(text) {
        Err(error) => assert!(error.position <= text.chars().count() + 1, "{error}"),
        Ok(template) => drop(template.render(&Model {
            name,
            container_name: name,
            labels: &labels,
        })),
    }
    if let Ok(constraint) = Constraint::parse(text) {
        constraint.matches(&labels);
    }
});
