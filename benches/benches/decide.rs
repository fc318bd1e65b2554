//! What one decision costs, and that it does not grow with the number of hosts.
//!
//! Requests go round through many hosts, so that the caches hold what they would hold in service and not one route.

use std::error::Error;
use std::hint::black_box;
use std::time::Duration;

use constellation_benches::{request, snapshot};
use constellation_table::decide;
use criterion::{BenchmarkId, Criterion};
use http::{HeaderMap, HeaderValue};

const SIZES: [usize; 4] = [10, 1_000, 10_000, 100_000];

fn main() -> Result<(), Box<dyn Error>> {
    let mut criterion = Criterion::default()
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    let mut headers = HeaderMap::new();
    headers.insert("user-agent", HeaderValue::from_static("bench"));
    let mut group = criterion.benchmark_group("decide");
    for size in SIZES {
        let snapshot = snapshot(size)?;
        // A stride that visits every host in an order no prefetcher guesses.
        let hosts: Vec<_> = (0..size)
            .map(|n| format!("app-{}.example.test", n * 7919 % size))
            .collect();
        let others: Vec<_> = (0..size).map(|n| format!("nobody-{n}.example.test")).collect();
        let wild: Vec<_> = (0..size)
            .map(|n| format!("x{n}.tenant-{}.example.test", n % 100))
            .collect();
        for (shape, hosts, path) in [
            ("hit", &hosts, "/index.html"),
            ("miss", &others, "/index.html"),
            ("wildcard", &wild, "/index.html"),
            ("path prefix only", &others, "/shared/0/x"),
        ] {
            let mut round = hosts.iter().cycle();
            group.bench_function(BenchmarkId::new(shape, size), |bencher| {
                bencher.iter(|| {
                    let host = round.next().map_or("", String::as_str);
                    black_box(
                        decide(&snapshot, &request(host, path, &headers))
                            .router()
                            .is_some(),
                    )
                });
            });
        }
    }
    group.finish();
    criterion.final_summary();
    Ok(())
}
