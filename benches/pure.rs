//! The pure parts of a turn, as the driver goes through them: built, written, read, taken in.
//!
//! `cargo bench --bench pure`. They are private, so this compiles the crate's own modules; nothing
//! here waits or knows a server. A turn of 85 releases and 85 newcomers is what a full one settles
//! at; one of a single newcomer is what a caller who is alone pays.

#![allow(clippy::unwrap_used)]
// The modules as they are, with all that is public and all that is not needed here.
#![allow(dead_code, unreachable_pub, unused_imports, missing_docs)]

#[path = "../src/acquire.rs"]
mod acquire;
#[path = "../src/backoff.rs"]
mod backoff;
#[path = "../src/client.rs"]
mod client;
#[path = "../src/control.rs"]
mod control;
#[path = "../src/driver/mod.rs"]
mod driver;
#[path = "../src/error.rs"]
mod error;
#[path = "../src/hold.rs"]
mod hold;
#[path = "../src/id.rs"]
mod id;
#[path = "../src/inspection.rs"]
mod inspection;
#[path = "../src/lease.rs"]
mod lease;
#[path = "../src/lost_reason.rs"]
mod lost_reason;
#[path = "../src/options.rs"]
mod options;
#[path = "../src/permit.rs"]
mod permit;
#[path = "../src/released.rs"]
mod released;
#[path = "../src/semaphore.rs"]
mod semaphore;
#[path = "../src/semaphore_builder.rs"]
mod semaphore_builder;
#[path = "../src/semaphore_inner.rs"]
mod semaphore_inner;
#[path = "../src/store/mod.rs"]
mod store;
#[path = "../src/sync.rs"]
mod sync;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use ::redis::{Cmd, Value};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use tokio::time::Instant;

use backoff::Backoff;
use driver::{Line, WaitEnd};
use id::{ClientId, PermitId};
use options::{Options, Renew, Wake};
use store::redis::wire::{Args, read_turn, write_turn};
use store::{Rule, Turn, TurnOutcome};

const LEASE_MS: u64 = 30_000;
const CALL_TIMEOUT: Duration = Duration::from_millis(500);
/// Newcomers, and as many releases, of a full turn.
const FULL: u64 = 85;
const TOKEN: u64 = 1_795_000_000_000_000;

fn options() -> Arc<Options> {
    Arc::new(Options {
        lease_ms: LEASE_MS,
        renew: Renew::Auto,
        max_hold: None,
        backoff: Backoff::default(),
        wake: Wake::Push,
        max_queue: None,
    })
}

/// A line that holds `releases` permits, gives them back, and wants `newcomers` more.
struct Crowd {
    line: Line,
    client: ClientId,
    entered: u64,
    options: Arc<Options>,
}

impl Crowd {
    fn new(releases: u64, newcomers: u64) -> Self {
        let client = ClientId::random();
        let mut line = Line::new("bench".into(), client);
        line.add_handle(1_000, &"".into());
        let mut crowd = Self { line, client, entered: 0, options: options() };
        for _ in 0..releases {
            crowd.enter();
        }
        if releases > 0 {
            let (turn, number) = crowd.next_turn();
            crowd.take_in(&turn, number, &reply(releases));
            for counter in 1..=releases {
                crowd.give_back(counter);
            }
        }
        for _ in 0..newcomers {
            crowd.enter();
        }
        crowd
    }

    fn enter(&mut self) {
        self.entered += 1;
        let id = PermitId::new(self.client, self.entered, 1, LEASE_MS);
        self.line.enter(id, Rule::Wait, Arc::clone(&self.options));
    }

    fn give_back(&mut self, counter: u64) {
        let polled = self.line.poll_waiter(counter, &mut None);
        let std::task::Poll::Ready(WaitEnd::Granted(hold)) = polled else {
            unreachable!("the reply has granted it: {polled:?}")
        };
        assert!(hold.release());
        self.line.give_back(counter, None);
    }

    fn next_turn(&mut self) -> (Turn, u64) {
        let outgoing = self.line.next_turn(Instant::now(), CALL_TIMEOUT, None).unwrap();
        (outgoing.turn, outgoing.number)
    }

    fn take_in(&mut self, turn: &Turn, number: u64, reply: &Value) {
        match read_turn(reply, turn).unwrap() {
            TurnOutcome::Answered(reply) => self.line.settle(number, reply, Instant::now()),
            TurnOutcome::Stale { .. } => unreachable!("the reply is one of ours"),
        }
    }
}

/// As the server answers where so many newcomers are granted.
fn reply(granted: u64) -> Value {
    let numbers = [1, TOKEN - 9, granted, 0, TOKEN + granted, granted, 1, TOKEN + 1];
    Value::Array(numbers.iter().map(|&number| Value::Int(number as i64)).collect())
}

fn turns(criterion: &mut Criterion) {
    for (label, releases, newcomers) in
        [("one newcomer", 0, 1), ("85 releases and 85 newcomers", FULL, FULL)]
    {
        let mut group = criterion.benchmark_group(label);
        group.bench_function("build", |bench| {
            bench.iter_batched(
                || Crowd::new(releases, newcomers),
                |mut crowd| {
                    let turn = crowd.next_turn();
                    (crowd, turn)
                },
                BatchSize::SmallInput,
            );
        });
        let (turn, _) = Crowd::new(releases, newcomers).next_turn();
        let named = (turn.release.len() as u64, turn.admit.len() as u64);
        assert_eq!(named, (releases, newcomers));
        group.bench_function("write", |bench| {
            bench.iter(|| {
                let mut cmd = Cmd::new();
                write_turn(&mut Args::new(&mut cmd), black_box(&turn));
                cmd.get_packed_command()
            });
        });
        let answer = reply(newcomers);
        group.bench_function("read", |bench| {
            bench.iter(|| read_turn(black_box(&answer), &turn).unwrap());
        });
        group.bench_function("read and take in", |bench| {
            bench.iter_batched(
                || {
                    let mut crowd = Crowd::new(releases, newcomers);
                    let sent = crowd.next_turn();
                    (crowd, sent)
                },
                |(mut crowd, (turn, number))| {
                    crowd.take_in(&turn, number, &answer);
                    crowd
                },
                BatchSize::SmallInput,
            );
        });
        group.finish();
    }
}

criterion_group!(benches, turns);
criterion_main!(benches);
