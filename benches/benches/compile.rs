//! What a change costs from a source's reading to the swap: compile, `Snapshot::build`, publish.

use std::collections::BTreeMap;
use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use constellation_agent::compile::{Compiler, Statics};
use constellation_agent::sources::Contribution;
use constellation_config::Config;
use constellation_config::dynamic::{Dynamic, LoadBalancer, Router, Server, Service};
use constellation_dataplane::{Generation, Published};
use constellation_table::Snapshot;
use criterion::{BatchSize, BenchmarkId, Criterion};

const SIZES: [usize; 3] = [10, 1_000, 10_000];

fn main() -> Result<(), Box<dyn Error>> {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .measurement_time(Duration::from_secs(5))
        .configure_from_args();
    let statics = Statics::new(&Config::default(), &[])?;
    let published = Published::new(generation(Snapshot::default()));
    let mut group = criterion.benchmark_group("compile and publish");
    for size in SIZES {
        let readings = [0, 1].map(|port| [reading(size, port)]);
        group.bench_function(BenchmarkId::new("cold", size), |bencher| {
            bencher.iter_batched(
                || Compiler::new(statics.clone()),
                |mut compiler| {
                    let compiled = compiler.compile(&readings[0], 1);
                    published.publish(generation(compiled.snapshot));
                    compiler
                },
                BatchSize::PerIteration,
            );
        });
        // Two readings that differ in one server take turns: everything was read again, one service changed.
        let mut compiler = Compiler::new(statics.clone());
        let mut turn = 0;
        group.bench_function(BenchmarkId::new("one server changed", size), |bencher| {
            bencher.iter(|| {
                turn += 1;
                let compiled = compiler.compile(&readings[turn % 2], 1);
                published.publish(generation(compiled.snapshot));
            });
        });
        let mut compiler = Compiler::new(statics.clone());
        group.bench_function(BenchmarkId::new("nothing changed", size), |bencher| {
            bencher.iter(|| black_box(compiler.compile(&readings[0], 1).changes.is_empty()));
        });
    }
    group.finish();
    criterion.final_summary();
    Ok(())
}

fn generation(table: Snapshot) -> Generation {
    Generation {
        table,
        tls: Default::default(),
        published: SystemTime::UNIX_EPOCH,
    }
}

/// `size` routers with a service each; the server of the first one is on port `8000 + port`.
fn reading(size: usize, port: usize) -> Arc<Contribution> {
    let mut dynamic = Dynamic::default();
    let routers: BTreeMap<String, Arc<Router>> = (0..size)
        .map(|n| {
            let router = Router {
                rule: format!("Host(`app-{n}.example.test`)"),
                service: format!("app-{n}"),
                ..Router::default()
            };
            (format!("app-{n}"), Arc::new(router))
        })
        .collect();
    let services: BTreeMap<String, Arc<Service>> = (0..size)
        .map(|n| {
            let server = Server {
                url: format!(
                    "http://10.0.{}.{}:{}",
                    n / 250 % 250,
                    n % 250,
                    if n == 0 { 8000 + port } else { 8000 }
                ),
                ..Server::default()
            };
            let service = Service {
                load_balancer: Some(LoadBalancer {
                    servers: vec![server],
                    ..LoadBalancer::default()
                }),
                ..Service::default()
            };
            (format!("app-{n}"), Arc::new(service))
        })
        .collect();
    dynamic.http.routers = routers;
    dynamic.http.services = services;
    Arc::new(Contribution {
        provider: "file",
        dynamic,
        ..Contribution::default()
    })
}
