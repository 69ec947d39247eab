//! Tasks that take and give back the permits of a name, and what they noticed.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use test_support::wait::{PATIENCE, eventually, ms, within};
use tokio::task::JoinSet;
use tokio::time::Instant;
use zset_semaphore::{Client, ClientBuilder, ZSetSemaphore};

use crate::common::connect::connected;

pub(crate) async fn client(url: impl AsRef<str>) -> Client {
    connected(builder(url)).await
}

pub(crate) fn builder(url: impl AsRef<str>) -> ClientBuilder {
    Client::builder().url(url).call_timeout(ms(500))
}

/// What all tasks of a name share.
#[derive(Default)]
struct Seen {
    rounds: AtomicU64,
    held: AtomicU32,
    /// Whether a permit that was granted may be forgotten, as in a failover.
    forgetful: AtomicBool,
    peak: AtomicU32,
    token: AtomicU64,
    stop: AtomicBool,
    waits: Mutex<Waits>,
}

/// Tasks that take and give back the units of one name, through several clients. They panic if more units
/// than the limit are held, if a token does not rise, if a permit is lost, or if a call fails.
pub(crate) struct Load {
    tasks: JoinSet<()>,
    seen: Arc<Seen>,
    limit: u32,
}

impl Load {
    pub(crate) fn start(handles: &[ZSetSemaphore], tasks: usize) -> Self {
        let (seen, limit) = (Arc::<Seen>::default(), handles[0].limit());
        let mut load = Self { tasks: JoinSet::new(), seen, limit };
        for nth in 0..tasks {
            let (seen, semaphore) = (Arc::clone(&load.seen), handles[nth % handles.len()].clone());
            load.tasks.spawn(async move {
                while !seen.stop.load(Ordering::SeqCst) {
                    round(&seen, &semaphore, limit).await;
                }
            });
        }
        load
    }

    /// From now on, a permit that was granted may be forgotten, as in a failover.
    pub(crate) fn forgive(&self) {
        self.seen.forgetful.store(true, Ordering::SeqCst);
    }

    /// Returns how many permits were given back.
    pub(crate) fn rounds(&self) -> u64 {
        self.seen.rounds.load(Ordering::SeqCst)
    }

    pub(crate) async fn goes_on(&self, more: u64) {
        let goal = self.seen.rounds.load(Ordering::SeqCst) + more;
        let goes_on = async || self.seen.rounds.load(Ordering::SeqCst) >= goal;
        eventually("the load goes on", PATIENCE, goes_on).await;
    }

    /// Returns how long each acquire took since the last call.
    pub(crate) fn take_waits(&self) -> Waits {
        let mut waits = std::mem::take(&mut *self.seen.waits.lock().unwrap());
        waits.took.sort_unstable();
        waits
    }

    /// Panics if any task has met an error, or if the limit was never reached.
    pub(crate) async fn stop(mut self) {
        self.seen.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = within(PATIENCE, self.tasks.join_next()).await {
            ended.unwrap();
        }
        assert!(self.seen.peak.load(Ordering::SeqCst) >= self.limit, "the limit was never reached");
    }
}

async fn round(seen: &Seen, semaphore: &ZSetSemaphore, limit: u32) {
    let asked = Instant::now();
    let permit = semaphore.acquire(1).await.unwrap();
    seen.waits.lock().unwrap().note(asked);
    let held = seen.held.fetch_add(1, Ordering::SeqCst) + 1;
    let forgetful = seen.forgetful.load(Ordering::SeqCst);
    assert!(forgetful || held <= limit, "{held} held of {limit}");
    seen.peak.fetch_max(held, Ordering::SeqCst);
    if limit == 1 {
        let before = seen.token.swap(permit.fencing_token(), Ordering::SeqCst);
        assert!(before < permit.fencing_token(), "a token does not rise");
    }
    tokio::time::sleep(ms(1)).await;
    assert!(forgetful || !permit.is_lost());
    seen.held.fetch_sub(1, Ordering::SeqCst);
    permit.release().await.unwrap();
    seen.rounds.fetch_add(1, Ordering::SeqCst);
}

/// How long acquires took, and for how long no permit was granted.
#[derive(Default)]
pub(crate) struct Waits {
    /// The shortest first.
    took: Vec<Duration>,
    last_grant: Option<Instant>,
    longest_gap: Duration,
}

impl Waits {
    /// An acquire that began at `asked` was granted now.
    fn note(&mut self, asked: Instant) {
        let now = Instant::now();
        self.took.push(now - asked);
        let gap = self.last_grant.map_or(Duration::ZERO, |last| now - last);
        self.longest_gap = self.longest_gap.max(gap);
        self.last_grant = Some(now);
    }

    pub(crate) fn count(&self) -> usize {
        self.took.len()
    }

    pub(crate) fn p99(&self) -> Duration {
        self.took[(self.took.len() - 1) * 99 / 100]
    }

    pub(crate) fn longest(&self) -> Duration {
        *self.took.last().unwrap()
    }

    /// The longest time from a grant to the next one.
    pub(crate) fn longest_gap(&self) -> Duration {
        self.longest_gap
    }
}
