//! Names made from containers.

use std::collections::BTreeMap;

const COMPOSE_PROJECT: &str = "com.docker.compose.project";
const COMPOSE_SERVICE: &str = "com.docker.compose.service";
const COMPOSE_NUMBER: &str = "com.docker.compose.container-number";
const COMPOSE_ONE_OFF: &str = "com.docker.compose.oneoff";

/// Every run of characters other than letters and digits becomes one `-`; none at the ends. Case is kept.
pub(super) fn normalize(name: &str) -> String {
    let words = name
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-")
}

/// The name of the default router and service: `SERVICE-PROJECT` of a Compose container, else the container's name.
pub(super) fn service_name(container_name: &str, labels: &BTreeMap<String, String>) -> String {
    match (labels.get(COMPOSE_SERVICE), labels.get(COMPOSE_PROJECT)) {
        (Some(service), Some(project)) => normalize(&format!("{service}_{project}")),
        _ => normalize(container_name),
    }
}

/// Which place of a Compose service a container fills; a container that replaces another fills the same.
pub(super) fn compose_place(labels: &BTreeMap<String, String>) -> Option<[&str; 4]> {
    let get = |key: &str| labels.get(key).map(String::as_str);
    Some([
        get(COMPOSE_PROJECT)?,
        get(COMPOSE_SERVICE)?,
        get(COMPOSE_NUMBER)?,
        get(COMPOSE_ONE_OFF).unwrap_or_default(),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalizes_as_traefik() {
        for (name, expected) in [
            ("my_app.1", "my-app-1"),
            ("_x_", "x"),
            ("Web", "Web"),
            ("a--b", "a-b"),
            ("größe/2", "größe-2"),
            ("___", ""),
            ("a b\tc", "a-b-c"),
        ] {
            assert_eq!(normalize(name), expected, "{name}");
        }
    }

    #[test]
    fn compose_names_need_both_labels() {
        let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect()
        };
        let both = labels(&[(COMPOSE_SERVICE, "web"), (COMPOSE_PROJECT, "my_shop")]);
        assert_eq!(service_name("my_shop-web-1", &both), "web-my-shop");
        let one = labels(&[(COMPOSE_SERVICE, "web")]);
        assert_eq!(service_name("my_shop-web-1", &one), "my-shop-web-1");
    }
}
