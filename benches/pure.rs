//! The pure parts of a turn, as the driver goes through them: built, written, read, settled.
//!
//! `cargo bench --bench pure --features __internals`. Nothing here waits or knows a server. A turn of 85 releases and
//! 85 newcomers is what a full one settles at; one of a single newcomer is what a lone caller pays.

#![allow(clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use zset_semaphore::internals::{GrantingReply, TurnBench};

/// Newcomers, and as many releases, of a full turn.
const FULL: u64 = 85;

fn turns(criterion: &mut Criterion) {
    for (label, releases, newcomers) in
        [("one newcomer", 0, 1), ("85 releases and 85 newcomers", FULL, FULL)]
    {
        let mut group = criterion.benchmark_group(label);
        group.bench_function("build", |bench| {
            bench.iter_batched(
                || TurnBench::new(releases, newcomers).unwrap(),
                |mut state| {
                    let turn = state.next_turn();
                    (state, turn)
                },
                BatchSize::SmallInput,
            );
        });
        let turn = TurnBench::new(releases, newcomers).unwrap().next_turn().unwrap();
        assert_eq!(turn.named(), (releases as usize, newcomers as usize));
        group.bench_function("write", |bench| bench.iter(|| black_box(&turn).write()));
        let reply = GrantingReply::new(newcomers);
        group.bench_function("read", |bench| bench.iter(|| turn.read(black_box(&reply)).unwrap()));
        group.bench_function("read and take in", |bench| {
            bench.iter_batched(
                || {
                    let mut state = TurnBench::new(releases, newcomers).unwrap();
                    let turn = state.next_turn().unwrap();
                    (state, turn)
                },
                |(mut state, turn)| {
                    state.settle(&turn, &reply).unwrap();
                    state
                },
                BatchSize::SmallInput,
            );
        });
        group.finish();
    }
}

criterion_group!(benches, turns);
criterion_main!(benches);
