//! What it costs to parse and compile a rule.

use std::hint::black_box;

use constellation_table::Rule;
use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("rule");
    for (shape, text) in [
        ("host", "Host(`app.example.test`)"),
        (
            "host and path",
            "Host(`app.example.test`) && (PathPrefix(`/api`) || Path(`/health`)) && !Method(`TRACE`)",
        ),
        (
            "pattern",
            r"HostRegexp(`^[a-z0-9-]+\.example\.test$`) && PathRegexp(`^/v\d+/`)",
        ),
        ("refused", "Host(`a.test`, `b.test`)"),
    ] {
        group.bench_function(shape, |bencher| {
            bencher.iter(|| black_box(Rule::parse_http(black_box(text)).is_ok()))
        });
    }
    group.finish();
    criterion.final_summary();
}
