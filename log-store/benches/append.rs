//! Group commit against the bare loop: the same bytes to the same kind of file, one write and one
//! `fdatasync` a round, with nothing around them.
//!
//! `in_flight` appends of one entry of 256 bytes each wait at any time; each that is answered is asked for
//! again: by another thread that is woken once a commit, one by one (`log`) or
//! all of a round in one append (`log-batch`, as a node does it), or on the spot by the
//! writer's own thread (`log-inline`, what the log itself can do). The bare loop writes as many bytes a
//! round as a commit of all of them. Ratios count, from one run: the machine's load moves all of them.

mod load;

use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

use load::{Bare, IN_FLIGHT, Load, frame_len};

fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("append");
    group.sample_size(20).measurement_time(Duration::from_secs(3));
    group.warm_up_time(Duration::from_millis(500));
    for in_flight in IN_FLIGHT {
        group.throughput(Throughput::Elements(in_flight));
        group.bench_function(BenchmarkId::new("bare", in_flight), |b| {
            let mut bare = Bare::new();
            let bytes = vec![7; frame_len(in_flight)];
            b.iter(|| bare.round(&bytes));
        });
        let rounds = |name: &str, run: fn(&Arc<Load>, u64, u64) -> Duration, g: &mut Group<'_>| {
            g.bench_function(BenchmarkId::new(name, in_flight), |b| {
                let dir = tempfile::tempdir_in(".").expect("a directory");
                let load = Load::new(&dir);
                b.iter_custom(|rounds| {
                    let took = run(&load, rounds * in_flight, in_flight);
                    load.purge();
                    took
                });
            });
        };
        rounds("log-batch", Load::one_append, &mut group);
        rounds("log", Load::across_threads, &mut group);
        rounds("log-inline", Load::inline, &mut group);
    }
    group.finish();
}

type Group<'a> = criterion::BenchmarkGroup<'a, criterion::measurement::WallTime>;

criterion_group!(benches, append);
criterion_main!(benches);
