//! A failover to a replica that lags behind, under load: how much is granted too much, and for how long nothing is.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use zset_semaphore::{Client, ZSetSemaphore};

use crate::alone;
use test_support::fault_proxy::FaultProxy;
use test_support::redis_pair::RedisPair;
use test_support::wait::{PATIENCE, eventually, ms, within};

const CLIENTS: u64 = 30;
/// Of each client. Three times as many as the limit hold or wait.
const WORKERS: u64 = 3;
const LIMIT: u32 = 30;
const LEASE: Duration = Duration::from_secs(2);
/// How long the writes before the failover do not reach the replica.
const LAG: Duration = Duration::from_millis(300);
/// By how much holders find the new primary later than waiters.
const LATE: Duration = Duration::from_millis(500);
/// How long the holders of the lost grants hold, where nothing is lost for good.
const LONG_HOLD: Duration = Duration::from_secs(5);
/// From the death of the primary to the promotion of the replica.
const ELECTION: Duration = Duration::from_secs(1);

/// From when until when a unit was held, and whether it was lost.
type Hold = (Instant, Instant, bool);
type Holds = Arc<Mutex<Vec<Hold>>>;

/// Holds one unit after the other, as long as it believes in each.
async fn work(
    semaphore: ZSetSemaphore,
    seed: u64,
    hold: Range<u64>,
    stop: Arc<AtomicBool>,
    holds: Holds,
) {
    let mut random = fastrand::Rng::with_seed(seed);
    while !stop.load(SeqCst) {
        let Ok(permit) = semaphore.acquire(1).timeout(PATIENCE).await else { continue };
        let from = Instant::now();
        let lost = timeout(ms(random.u64(hold.clone())), permit.lost()).await.is_ok();
        holds.lock().unwrap().push((from, Instant::now(), lost));
    }
}

/// What one failover has cost.
#[derive(Debug)]
struct Cost {
    /// The most units above the limit at one time.
    excess: i64,
    /// Units above the limit times seconds.
    unit_seconds: f64,
    /// From the promotion to the first grant after it.
    first_grant: Duration,
    /// From the promotion until twice the limit has been granted.
    as_before: Duration,
    /// Holds that ended with a loss.
    lost: usize,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { excess, unit_seconds, first_grant, as_before, lost } = self;
        write!(
            f,
            "{excess} units too many, {unit_seconds:.1} unit-seconds; the first grant after "
        )?;
        write!(f, "{first_grant:?}, twice the limit after {as_before:?}; {lost} lost")
    }
}

fn cost(holds: &[Hold], promoted: Instant) -> Cost {
    let mut edges: Vec<(Instant, i64)> =
        holds.iter().flat_map(|&(from, until, _)| [(until, -1), (from, 1)]).collect();
    edges.sort();
    let (mut held, mut excess, mut unit_seconds) = (0, 0, 0.0);
    let mut last = promoted;
    for (at, change) in edges {
        let above = (held - i64::from(LIMIT)).max(0);
        excess = excess.max(above);
        unit_seconds += above as f64 * at.saturating_duration_since(last).as_secs_f64();
        (last, held) = (at, held + change);
    }
    let mut after: Vec<Duration> = holds
        .iter()
        .filter(|(from, ..)| *from > promoted)
        .map(|(from, ..)| from.duration_since(promoted))
        .collect();
    after.sort();
    let nth = |nth: usize| after.get(nth).copied().unwrap_or(Duration::MAX);
    Cost {
        excess,
        unit_seconds,
        first_grant: nth(0),
        as_before: nth(LIMIT as usize * 2),
        lost: holds.iter().filter(|(.., lost)| *lost).count(),
    }
}

/// Workers of many clients, and what they have held.
struct Load {
    workers: JoinSet<()>,
    stop: Arc<AtomicBool>,
    holds: Holds,
    started: u64,
}

impl Load {
    fn new() -> Self {
        Self { workers: JoinSet::new(), stop: Arc::default(), holds: Holds::default(), started: 0 }
    }

    async fn start(&mut self, url: String, clients: u64, grace: Duration, hold: Range<u64>) {
        let connected = join_all((0..clients).map(|_| Client::connect(url.clone()))).await;
        for client in connected.into_iter().map(Result::unwrap) {
            let builder = client.semaphore("s", LIMIT).lease(LEASE).failover_grace(grace);
            let semaphore = builder.build().unwrap();
            for _ in 0..WORKERS {
                self.started += 1;
                let (stop, holds) = (Arc::clone(&self.stop), Arc::clone(&self.holds));
                self.workers.spawn(work(
                    semaphore.clone(),
                    self.started,
                    hold.clone(),
                    stop,
                    holds,
                ));
            }
        }
    }

    async fn end(self, promoted: Instant) -> Cost {
        sleep_until(promoted + LEASE * 3 / 2).await;
        self.stop.store(true, SeqCst);
        within(PATIENCE * 2, self.workers.join_all()).await;
        let holds = self.holds.lock().unwrap();
        cost(&holds, promoted)
    }
}

/// All units are in use all the time, by holders that come and go.
async fn under_steady_load(grace: Duration) -> Cost {
    let mut pair = RedisPair::start().await;
    let mut load = Load::new();
    load.start(pair.proxy.url(), CLIENTS, grace, 50..1_000).await;
    sleep(LEASE).await;
    pair.lag().await;
    sleep(LAG).await;
    pair.kill_primary();
    sleep(ELECTION).await;
    pair.promote().await;
    load.end(Instant::now()).await
}

/// The worst case: the replica has none of the grants, and all holders find it later than all waiters.
async fn with_all_grants_lost(grace: Duration) -> Cost {
    let mut pair = RedisPair::start().await;
    let far = FaultProxy::start(pair.primary.addr()).await;
    let mut load = Load::new();
    let mut first = Load::new();
    first.start(pair.proxy.url(), 1, grace, 1..2).await;
    sleep(ms(100)).await;
    first.end(Instant::now() - LEASE * 3).await;
    pair.lag().await;
    let hold = LONG_HOLD.as_millis() as u64;
    load.start(far.url(), u64::from(LIMIT) / WORKERS, grace, hold..hold + 1).await;
    let all_held = async || {
        let held: usize = pair.primary.query(&["ZCARD", "zsem:{s}:permits"]).await;
        held == LIMIT as usize
    };
    eventually("all units are in use", PATIENCE, all_held).await;
    load.start(pair.proxy.url(), CLIENTS, grace, 50..1_000).await;
    far.refuse(true);
    far.cut();
    pair.fail_over().await;
    let promoted = Instant::now();
    sleep(LATE).await;
    far.lead_to(pair.replica.addr());
    far.refuse(false);
    load.end(promoted).await
}

// Behaviour 79
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_grace_of_one_lease_a_failover_under_load_never_passes_the_limit() {
    let _alone = alone().await;
    for grace in [Duration::ZERO, LEASE] {
        let steady = under_steady_load(grace).await;
        println!("steady load, grace {grace:?}: {steady}");
        let worst = with_all_grants_lost(grace).await;
        println!("all grants lost, grace {grace:?}: {worst}");
        // Where the grace has let all holders put their permits back, there is no room until the first one ends.
        let all_put_back = grace == LEASE && worst.lost == 0;
        let room_in_worst = if all_put_back { LONG_HOLD } else { grace + LEASE };
        for (cost, room_in) in [(steady, grace + LEASE), (worst, room_in_worst)] {
            assert!(grace < LEASE || cost.excess == 0, "{cost:?}");
            // Within the leases of permits that nobody renews, and the delay of a new attempt to connect.
            assert!(cost.first_grant < room_in, "{cost:?}");
            assert!(cost.unit_seconds < f64::from(LIMIT) * LEASE.as_secs_f64(), "{cost:?}");
        }
    }
}
