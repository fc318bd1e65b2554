//! From defaults, file, environment and flags to a [`Config`].

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::document::{self, Document, Entry, Format, Node, Value};
use crate::dynamic::{Layered as _, ServiceOptions};
use crate::layer::{self, Setting};
use crate::raw::RawConfig;
use crate::resolve::{self, Resolution};
use crate::schema::{Reading, Shape, read};
use crate::{Config, ConfigError, ConfigErrors, Origin, unsupported};

/// Where the configuration is looked for when nobody names it.
pub const SEARCH_PATH: [&str; 4] = [
    "/opt/constellation/config/constellation.yaml",
    "/opt/constellation/config/constellation.yml",
    "/opt/constellation/config/constellation.toml",
    "/opt/constellation/config/constellation.json",
];

/// What a configuration is made from, least binding first: defaults, file, environment, flags.
#[derive(Clone, Default)]
pub struct LoadOptions {
    /// The file asked for; `None`: the variable `CONFIG_FILE`, else the first of [`SEARCH_PATH`] that exists, else no
    /// file.
    pub file: Option<PathBuf>,
    /// The environment, usually `std::env::vars()`.
    pub env: Vec<(String, String)>,
    /// Key path (`control.address`) and value of command line flags.
    pub flags: Vec<(String, String)>,
    /// The name of this machine; `None`: the kernel is asked. `node.name` without a value takes its first label.
    pub host_name: Option<String>,
}

/// Values may be secrets, so only names are shown.
impl fmt::Debug for LoadOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |pairs: &[(String, String)]| -> Vec<String> {
            pairs.iter().map(|(name, _)| name.clone()).collect()
        };
        f.debug_struct("LoadOptions")
            .field("file", &self.file)
            .field("env", &names(&self.env))
            .field("flags", &names(&self.flags))
            .field("host_name", &self.host_name)
            .finish()
    }
}

/// A configuration and what is worth saying about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Every key with its value in the form of the file, defaults included and secrets redacted.
    pub effective: serde_json::Value,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// What works but deserves a look, one sentence each.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads, layers, checks. Either every value is usable or every error is reported. Blocks on file reads.
    pub fn load(options: LoadOptions) -> Result<Loaded, ConfigErrors> {
        let env: BTreeMap<String, String> = options.env.into_iter().collect();
        let file = options.file.or_else(|| named_or_found(&env));
        let Document { mut root, errors } = match &file {
            Some(path) => read_file(path)?,
            None => Document {
                root: Node::null(Origin::Default),
                errors: Vec::new(),
            },
        };
        if root.is_null() {
            root = Node::map(root.origin, Vec::new());
        }
        if !matches!(root.value, Value::Map(_)) {
            let error = ConfigError::new(root.origin.clone(), "", "the configuration is not a map")
                .value(root.shown())
                .expected("keys such as entryPoints, providers, log");
            return Err(ConfigErrors(vec![error]));
        }
        let host_name = options.host_name.unwrap_or_else(kernel_host_name);
        let (config, effective, warnings) = layered(root, errors, &env, &options.flags, &host_name)?;
        Ok(Loaded {
            config,
            effective,
            file,
            warnings,
        })
    }
}

/// The compiled schema of the static configuration.
pub(crate) fn shape() -> &'static Shape {
    static SHAPE: OnceLock<Shape> = OnceLock::new();
    SHAPE.get_or_init(|| Shape::compile(schemars::schema_for!(RawConfig).as_value()))
}

fn layered(
    mut root: Node,
    mut errors: Vec<ConfigError>,
    env: &BTreeMap<String, String>,
    flags: &[(String, String)],
    host_name: &str,
) -> Result<(Config, serde_json::Value, Vec<String>), ConfigErrors> {
    add_defaults(&mut root);
    let contract = layer::lay_contract(&root, env);
    errors.extend(contract.errors);
    let flags = flags
        .iter()
        .map(|(key, value)| {
            Setting::at(
                key,
                value,
                Origin::Flag {
                    name: key.as_str().into(),
                },
            )
        })
        .collect();
    for settings in [contract.settings, layer::variables(env), flags] {
        errors.extend(layer::lay(&mut root, shape(), settings));
    }
    let Reading { value, errors: found } = read(&root, shape(), &unsupported::explain);
    errors.extend(found);
    // The value fits the schema of the type, so this fails only where the two disagree.
    let mut raw: RawConfig = serde_json::from_value(value).map_err(|error| {
        let error = ConfigError::new(root.origin.clone(), "", error.to_string());
        ConfigErrors(vec![error])
    })?;
    raw.service_defaults = raw.service_defaults.over(&ServiceOptions::built_in());
    let Resolution {
        config,
        errors: found,
        mut warnings,
    } = resolve::resolve(&raw, &root, host_name);
    // What was left out because its form is wrong is not also missing.
    let new: Vec<ConfigError> = found
        .into_iter()
        .filter(|new| !errors.iter().any(|old| related(&old.key, &new.key)))
        .collect();
    errors.extend(new);
    if !errors.is_empty() {
        errors.sort_by(|a, b| a.origin.cmp(&b.origin));
        return Err(ConfigErrors(errors));
    }
    warnings.splice(0..0, contract.warnings);
    warnings.extend(unsupported::without_effect(&root));
    raw.node.name.clone_from(&config.node.name);
    let effective = serde_json::to_value(&raw).unwrap_or_default();
    Ok((config, effective, warnings))
}

/// Whether one key is the other or leads to it.
fn related(a: &str, b: &str) -> bool {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let rest = long.strip_prefix(short);
    !short.is_empty() && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// The default entry points and providers as nodes, so that the environment can be laid over them. A section of the
/// file replaces them as a whole.
fn add_defaults(root: &mut Node) {
    let map = |entries: Vec<(&str, Node)>| {
        let entries = entries
            .into_iter()
            .map(|(key, node)| Entry {
                key: key.to_owned(),
                origin: Origin::Default,
                node,
            })
            .collect();
        Node::map(Origin::Default, entries)
    };
    let empty = || map(Vec::new());
    let address = |text: &str| ("address", Node::text(Origin::Default, text));
    let entry_points = map(vec![
        ("web", map(vec![address(":80")])),
        (
            "websecure",
            map(vec![address(":443"), ("http", map(vec![("tls", empty())]))]),
        ),
    ]);
    let providers = map(vec![("docker", empty())]);
    for (key, default) in [("entryPoints", entry_points), ("providers", providers)] {
        let Value::Map(entries) = &mut root.value else {
            return;
        };
        let given = entries
            .iter_mut()
            .find(|entry| entry.key.eq_ignore_ascii_case(key));
        let nothing =
            |node: &Node| node.is_null() || matches!(&node.value, Value::Map(entries) if entries.is_empty());
        match given {
            Some(entry) if nothing(&entry.node) => entry.node = default,
            Some(_) => {}
            None => entries.push(Entry {
                key: key.to_owned(),
                origin: Origin::Default,
                node: default,
            }),
        }
    }
}

fn read_file(path: &Path) -> Result<Document, ConfigErrors> {
    let Some(format) = Format::of(path) else {
        let message = "the name doesn't say which format the file has";
        let hint = "let it end in .yaml, .yml, .toml or .json".to_owned();
        return Err(ConfigErrors::about_file(path, message, Some(hint)));
    };
    let text = document::read_text(path)?;
    document::parse(&text, format, path)
}

fn named_or_found(env: &BTreeMap<String, String>) -> Option<PathBuf> {
    let named = env.get(layer::CONFIG_FILE).filter(|path| !path.is_empty());
    named
        .map(PathBuf::from)
        .or_else(|| SEARCH_PATH.iter().map(PathBuf::from).find(|path| path.exists()))
}

/// Linux; elsewhere the node is called `localhost` until it is given a name.
fn kernel_host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default()
}
