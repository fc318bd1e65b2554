//! What it costs to sort and index a generation whose rules are compiled already, as after any single change.

use std::error::Error;

use constellation_benches::routers;
use constellation_table::Snapshot;
use criterion::{BatchSize, BenchmarkId, Criterion};

fn main() -> Result<(), Box<dyn Error>> {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("snapshot");
    for size in [10, 1_000, 10_000, 100_000] {
        let routers = routers(size)?;
        let services: Vec<_> = routers
            .iter()
            .filter_map(|router| router.service().cloned())
            .collect();
        group.bench_function(BenchmarkId::new("build", size), |bencher| {
            bencher.iter_batched(
                || (routers.clone(), services.clone()),
                |(routers, services)| Snapshot::build(1, 1, routers, services),
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
    criterion.final_summary();
    Ok(())
}
