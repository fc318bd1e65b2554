//! What a node tells the others of its routes: definitions, and how many instances can serve.
//!
//! Left out is what only concerns the node that has the instances: addresses of servers (but for services with sticky
//! cookies, whose values are made of them), transports, TLS, health checks. Middlewares are told whole, with the users and
//! keys in them, as a node that takes requests for a route must run them; that goes over mTLS, and where a node remembers
//! it, into a file that it alone may read.
//!
//! The bytes are JSON of one version. The same readings give the same bytes; an object that can't be read costs that object
//! alone, so that nodes of neighbouring versions understand each other as far as that goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use constellation_config::dynamic::{Dynamic, LoadBalancer, Service, ServiceOptions, TcpLoadBalancer};
use constellation_table::Condition;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::sources::{Contribution, Section};

/// The version of the format.
const VERSION: u64 = 1;
/// Most bytes of an export.
pub const MAX_BYTES: usize = 16 << 20;
/// Most objects of an export, all kinds together.
const MAX_OBJECTS: usize = 100_000;
/// Longest name of an object, bytes.
const MAX_NAME: usize = 1024;
/// Most instances of one service that are listed for the sake of its cookies.
const MAX_LISTED: usize = 1000;
/// Whose objects are told: the providers of routes, by the names that compile knows.
const PROVIDERS: [&str; 3] = ["demo", "docker", "file"];

/// What a node serves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Export {
    /// By provider.
    pub providers: BTreeMap<&'static str, ProviderExport>,
    /// What could not be read of it.
    pub unread: Vec<String>,
}

/// What a node serves of one provider.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProviderExport {
    /// Definitions; services without their servers.
    pub dynamic: Dynamic,
    /// The instances of services with servers, by [`Section::key`].
    pub instances: BTreeMap<String, Instances>,
}

/// The instances of a service at a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instances {
    /// How many there are.
    pub defined: u32,
    /// How many of them can serve.
    pub fit: u32,
    /// Their URLs as written, where clients have cookies made of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<Box<str>>,
}

/// An export as bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The bytes.
    pub bytes: Arc<[u8]>,
    /// SHA-256 of them.
    pub digest: [u8; 32],
    /// The services that have instances, by their names among those of all sections, `web@docker` or `tcp/db@docker`.
    pub services: Arc<[Box<str>]>,
}

/// Why bytes are no export, or an export fits no bytes.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Too long.
    #[error("an export of {0} bytes is longer than {MAX_BYTES} bytes: define fewer routes on one node")]
    TooLong(usize),
    /// Too much.
    #[error("an export of {0} objects has more than {MAX_OBJECTS}: define fewer routes on one node")]
    TooMany(usize),
    /// No JSON.
    #[error("an export that is no JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Another version.
    #[error(
        "an export of version {0}, and this node reads version {VERSION}: bring the nodes to the same version"
    )]
    Version(String),
}

impl Export {
    /// What readings say, without what is not to be told.
    pub fn of(readings: &[Arc<Contribution>]) -> Self {
        let told = |reading: &&Arc<Contribution>| PROVIDERS.contains(&reading.provider);
        let providers = readings
            .iter()
            .filter(told)
            .map(|reading| (reading.provider, ProviderExport::of(reading)));
        Self {
            providers: providers.collect(),
            unread: Vec::new(),
        }
    }

    /// The bytes.
    pub fn encode(&self) -> Result<Exported, ExportError> {
        let objects = self.providers.values().map(ProviderExport::objects).sum();
        if objects > MAX_OBJECTS {
            return Err(ExportError::TooMany(objects));
        }
        let providers: Map<String, Value> = self
            .providers
            .iter()
            .map(|(name, provider)| Ok(((*name).to_owned(), provider.encode()?)))
            .collect::<Result<_, serde_json::Error>>()?;
        let bytes = serde_json::to_vec(&json!({ "version": VERSION, "providers": providers }))?;
        if bytes.len() > MAX_BYTES {
            return Err(ExportError::TooLong(bytes.len()));
        }
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
        let mut of_bytes = [0; 32];
        of_bytes.copy_from_slice(digest.as_ref());
        Ok(Exported {
            bytes: bytes.into(),
            digest: of_bytes,
            services: self.names().map(|(name, _)| name.into()).collect(),
        })
    }

    /// The services that have instances, by their names among those of all sections, with their instances.
    pub fn names(&self) -> impl Iterator<Item = (String, &Instances)> {
        self.providers.iter().flat_map(|(provider, of)| {
            let instances = of.instances.iter();
            instances.map(move |(key, instances)| (format!("{key}@{provider}"), instances))
        })
    }

    /// Reads the bytes of another node.
    pub fn decode(bytes: &[u8]) -> Result<Self, ExportError> {
        if bytes.len() > MAX_BYTES {
            return Err(ExportError::TooLong(bytes.len()));
        }
        let mut value: Value = serde_json::from_slice(bytes)?;
        let version = value.get("version").cloned().unwrap_or_default();
        if version.as_u64() != Some(VERSION) {
            return Err(ExportError::Version(version.to_string()));
        }
        let mut export = Self::default();
        let mut reader = Reader {
            objects: 0,
            unread: Vec::new(),
        };
        for provider in PROVIDERS {
            if let Some(value) = value.pointer_mut(&format!("/providers/{provider}")) {
                let read = ProviderExport::decode(value, provider, &mut reader);
                export.providers.insert(provider, read);
            }
        }
        if reader.objects > MAX_OBJECTS {
            return Err(ExportError::TooMany(reader.objects));
        }
        export.unread = reader.unread;
        Ok(export)
    }
}

impl ProviderExport {
    fn of(reading: &Contribution) -> Self {
        let mut instances = BTreeMap::new();
        let mut dynamic = Dynamic::default();
        let Dynamic {
            http,
            tcp,
            udp,
            constellation,
            ..
        } = &reading.dynamic;
        let count =
            |section: Section, name: &str, servers: &mut dyn Iterator<Item = (&str, bool)>, listed: bool| {
                let key = section.key(name);
                let origins = reading.origins.get(&key);
                let mut found = Instances::default();
                for (url, takes) in servers {
                    let origin = origins.and_then(|origins| origins.get(url));
                    let ready = origin.is_none_or(|origin| origin.condition == Condition::Ready);
                    found.defined = found.defined.saturating_add(1);
                    found.fit = found.fit.saturating_add(u32::from(ready && takes));
                    if listed && found.urls.len() < MAX_LISTED {
                        found.urls.push(url.into());
                    }
                }
                (key, found)
            };
        dynamic.http.routers.clone_from(&http.routers);
        for (name, service) in &http.services {
            if let Some(balancer) = &service.load_balancer {
                let mut servers = balancer
                    .servers
                    .iter()
                    .map(|server| (&*server.url, server.weight != Some(0)));
                let sticky = balancer
                    .sticky
                    .as_ref()
                    .is_some_and(|sticky| sticky.cookie.is_some());
                instances.extend([count(Section::Http, name, &mut servers, sticky)]);
            }
            dynamic.http.services.insert(name.clone(), told(service));
        }
        dynamic.http.middlewares.clone_from(&http.middlewares);
        dynamic.tcp.routers.clone_from(&tcp.routers);
        dynamic.tcp.middlewares.clone_from(&tcp.middlewares);
        for (name, service) in &tcp.services {
            let mut service = (**service).clone();
            if let Some(balancer) = &mut service.load_balancer {
                let mut servers = balancer.servers.iter().map(|server| (&*server.address, true));
                instances.extend([count(Section::Tcp, name, &mut servers, false)]);
                *balancer = TcpLoadBalancer::default();
            }
            dynamic.tcp.services.insert(name.clone(), service.into());
        }
        dynamic.udp.routers.clone_from(&udp.routers);
        for (name, service) in &udp.services {
            let mut service = (**service).clone();
            if let Some(balancer) = &mut service.load_balancer {
                let mut servers = balancer.servers.iter().map(|server| (&*server.address, true));
                instances.extend([count(Section::Udp, name, &mut servers, false)]);
                balancer.servers = Vec::new();
            }
            dynamic.udp.services.insert(name.clone(), service.into());
        }
        let ours = &mut dynamic.constellation;
        for (from, to) in [
            (&constellation.http, &mut ours.http),
            (&constellation.tcp, &mut ours.tcp),
            (&constellation.udp, &mut ours.udp),
        ] {
            let told = from.services.iter().map(|(name, options)| {
                let options = ServiceOptions {
                    health_check: None,
                    ..(**options).clone()
                };
                (name.clone(), Arc::new(options))
            });
            to.services = told.collect();
        }
        Self { dynamic, instances }
    }

    fn objects(&self) -> usize {
        let Dynamic {
            http,
            tcp,
            udp,
            constellation,
            ..
        } = &self.dynamic;
        [
            http.routers.len(),
            http.services.len(),
            http.middlewares.len(),
            tcp.routers.len(),
            tcp.services.len(),
            tcp.middlewares.len(),
            udp.routers.len(),
            udp.services.len(),
            constellation.http.services.len(),
            constellation.tcp.services.len(),
            constellation.udp.services.len(),
        ]
        .iter()
        .sum()
    }

    fn encode(&self) -> Result<Value, serde_json::Error> {
        let Dynamic {
            http,
            tcp,
            udp,
            constellation,
            ..
        } = &self.dynamic;
        Ok(json!({
            "http": {
                "routers": lean(&http.routers)?,
                "services": lean(&http.services)?,
                "middlewares": lean(&http.middlewares)?,
                "options": lean(&constellation.http.services)?,
            },
            "tcp": {
                "routers": lean(&tcp.routers)?,
                "services": lean(&tcp.services)?,
                "middlewares": lean(&tcp.middlewares)?,
                "options": lean(&constellation.tcp.services)?,
            },
            "udp": {
                "routers": lean(&udp.routers)?,
                "services": lean(&udp.services)?,
                "options": lean(&constellation.udp.services)?,
            },
            "instances": self.instances,
        }))
    }

    fn decode(value: &mut Value, provider: &str, reader: &mut Reader) -> Self {
        let mut of = |path: &str| value.pointer_mut(path).map(Value::take).unwrap_or_default();
        let mut read = Self::default();
        let Dynamic {
            http,
            tcp,
            udp,
            constellation,
            ..
        } = &mut read.dynamic;
        http.routers = reader.objects(of("/http/routers"), "router", provider);
        http.services = reader.objects(of("/http/services"), "service", provider);
        http.middlewares = reader.objects(of("/http/middlewares"), "middleware", provider);
        constellation.http.services = reader.objects(of("/http/options"), "options of service", provider);
        tcp.routers = reader.objects(of("/tcp/routers"), "router tcp/", provider);
        tcp.services = reader.objects(of("/tcp/services"), "service tcp/", provider);
        tcp.middlewares = reader.objects(of("/tcp/middlewares"), "middleware tcp/", provider);
        constellation.tcp.services = reader.objects(of("/tcp/options"), "options of service tcp/", provider);
        udp.routers = reader.objects(of("/udp/routers"), "router udp/", provider);
        udp.services = reader.objects(of("/udp/services"), "service udp/", provider);
        constellation.udp.services = reader.objects(of("/udp/options"), "options of service udp/", provider);
        read.instances = reader.objects(of("/instances"), "instances of service", provider);
        read.without_secrets()
    }

    /// As [`ProviderExport::of`] would have made it: another node may have told more than it should.
    fn without_secrets(mut self) -> Self {
        for service in self.dynamic.http.services.values_mut() {
            *service = told(service);
        }
        for service in self.dynamic.tcp.services.values_mut() {
            if let Some(balancer) = &mut Arc::make_mut(service).load_balancer {
                *balancer = TcpLoadBalancer::default();
            }
        }
        for service in self.dynamic.udp.services.values_mut() {
            if let Some(balancer) = &mut Arc::make_mut(service).load_balancer {
                balancer.servers = Vec::new();
            }
        }
        for instances in self.instances.values_mut() {
            instances.urls.truncate(MAX_LISTED);
            instances.fit = instances.fit.min(instances.defined);
        }
        self
    }
}

/// A service as others know it: how requests are shared out, and nothing about its servers.
fn told(service: &Arc<Service>) -> Arc<Service> {
    let Some(balancer) = &service.load_balancer else {
        return service.clone();
    };
    let balancer = LoadBalancer {
        strategy: balancer.strategy.clone(),
        sticky: balancer.sticky.clone(),
        passive_health_check: balancer.passive_health_check.clone(),
        pass_host_header: balancer.pass_host_header,
        ..LoadBalancer::default()
    };
    Arc::new(Service {
        load_balancer: Some(balancer),
        ..(**service).clone()
    })
}

/// Objects without their defaults: that is most of what there is.
fn lean<T: Serialize + Default>(objects: &BTreeMap<String, T>) -> Result<Value, serde_json::Error> {
    let plain = serde_json::to_value(T::default())?;
    let lean = objects.iter().map(|(name, object)| {
        let mut value = serde_json::to_value(object)?;
        if let (Value::Object(value), Value::Object(plain)) = (&mut value, &plain) {
            value.retain(|key, value| plain.get(key) != Some(value));
        }
        Ok((name.clone(), value))
    });
    Ok(Value::Object(lean.collect::<Result<_, serde_json::Error>>()?))
}

/// Reads objects one by one.
struct Reader {
    objects: usize,
    unread: Vec<String>,
}

impl Reader {
    fn objects<T: DeserializeOwned>(
        &mut self,
        value: Value,
        what: &str,
        provider: &str,
    ) -> BTreeMap<String, T> {
        const SHOWN: usize = 100;
        let Value::Object(objects) = value else {
            return BTreeMap::new();
        };
        let mut read = BTreeMap::new();
        self.objects = self.objects.saturating_add(objects.len());
        for (name, object) in objects {
            let outcome = match name.len() > MAX_NAME {
                true => Err("its name is too long".to_owned()),
                false => serde_json::from_value(object).map_err(|error| error.to_string()),
            };
            match outcome {
                Ok(object) => {
                    read.insert(name, object);
                }
                Err(error) if self.unread.len() < SHOWN => {
                    let name: String = name.chars().take(MAX_NAME).collect();
                    let space = if what.ends_with('/') { "" } else { " " };
                    self.unread
                        .push(format!("{what}{space}{name}@{provider}: {error}"));
                }
                Err(_) => {}
            }
        }
        read
    }
}
