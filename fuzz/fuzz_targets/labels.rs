//! Labels of a container, one on each line as `KEY=VALUE`: read or refused, and the same whatever has read them before.
#![no_main]

use std::collections::BTreeMap;

use constellation_agent::sources::docker::labels::{ContainerOptions, LabelledOptions, LabelledRoutes};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let lines = text.lines().filter_map(|line| line.split_once('='));
    let labels: BTreeMap<String, String> = lines
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    drop(ContainerOptions::read(&labels));
    drop(LabelledOptions::read(&labels));
    if let Ok(routes) = LabelledRoutes::read(&labels) {
        let again = LabelledRoutes::read(&labels).expect("what was read is read again");
        assert_eq!(format!("{routes:?}"), format!("{again:?}"));
    }
});
