//! Slots that move in one step, with all of their keys.

use std::time::Duration;

use test_support::redis_cluster::RedisCluster;
use test_support::redis_cluster::slot_move::AtomicMove;
use test_support::redis_cluster::slots::slot_of;
use test_support::server_program;
use test_support::wait::{PATIENCE, eventually, ms, within};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use zset_semaphore::{AcquireError, Permit, ZSetSemaphore};

use crate::load::{Load, client};

const MOVES: usize = 20;
/// The most that a move may cost the names of the slot, in the middle of all moves.
const COST: Duration = ms(100);
/// The most that one move of them may cost, on a machine that is busy.
const WORST: Duration = ms(500);

/// The only unit of a name, held by one client while another one waits for it.
struct Pair {
    holds: ZSetSemaphore,
    waits: ZSetSemaphore,
    held: Permit,
    waiting: JoinHandle<Result<Permit, AcquireError>>,
}

impl Pair {
    async fn start([holds, waits]: [ZSetSemaphore; 2]) -> Self {
        let held = holds.acquire(1).await.unwrap();
        let waiting = queued(&waits, &holds).await;
        Self { holds, waits, held, waiting }
    }

    /// Hands the unit to the one who waits. Returns how long it took, and the pair in its new roles.
    async fn hand_over(self) -> (Duration, Self) {
        let Self { holds, waits, held, waiting } = self;
        assert!(!held.is_lost());
        let released = Instant::now();
        let release = tokio::spawn(held.release());
        let held = within(PATIENCE, waiting).await.unwrap().unwrap();
        let took = released.elapsed();
        within(PATIENCE, release).await.unwrap().unwrap();
        let waiting = queued(&holds, &waits).await;
        (took, Self { holds: waits, waits: holds, held, waiting })
    }
}

/// A waiter that is in the queue, as another client sees it.
async fn queued(
    semaphore: &ZSetSemaphore,
    other: &ZSetSemaphore,
) -> JoinHandle<Result<Permit, AcquireError>> {
    let waiting = tokio::spawn(semaphore.acquire(1));
    let is_queued = async || other.inspect().await.unwrap().waiters.len() == 1;
    eventually("it waits", PATIENCE, is_queued).await;
    waiting
}

/// The middle one, and the longest one.
fn p50_and_max(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() - 1])
}

// Behaviour 82
#[tokio::test]
async fn a_slot_that_moves_in_one_step_costs_a_tenth_of_a_second() {
    let Some(by) = AtomicMove::of_server() else {
        return server_program::skip("atomic move of slots");
    };
    let cluster = RedisCluster::start(2).await;
    let clients = [client(cluster.url()).await, client(cluster.url()).await];
    let busy = cluster.name_at(0, "busy").await;
    let slot = slot_of(&busy);
    let quiet = (0..).map(|n| format!("quiet-{n}")).find(|name| slot_of(name) == slot).unwrap();
    let handles =
        |name: &str| clients.each_ref().map(|client| client.semaphore(name, 1).build().unwrap());
    let load = Load::start(&handles(&busy), 8);
    let mut pair = Pair::start(handles(&quiet)).await;

    load.goes_on(100).await;
    load.take_waits();
    load.goes_on(500).await;
    println!("no grant for {:?} without a move", load.take_waits().longest_gap());
    let (mut gaps, mut handovers) = (Vec::new(), Vec::new());
    for nth in 0..MOVES {
        load.goes_on(20).await;
        load.take_waits();
        load.goes_on(20).await;
        cluster.move_atomically(by, slot, (nth + 1) % 2).await;
        let (handover, next) = pair.hand_over().await;
        pair = next;
        load.goes_on(50).await;
        let gap = load.take_waits().longest_gap();
        println!("no grant for {gap:?}; the unit of a holder was handed over in {handover:?}");
        gaps.push(gap);
        handovers.push(handover);
    }
    load.stop().await;
    let ((gap, longest_gap), (handover, longest_handover)) =
        (p50_and_max(gaps), p50_and_max(handovers));
    println!("{MOVES} moves by {by:?}: no grant for {gap:?} (p50), {longest_gap:?} (max)");
    println!("handed over in {handover:?} (p50), {longest_handover:?} (max)");
    assert!(gap < COST && handover < COST, "{gap:?}, {handover:?}");
    assert!(
        longest_gap < WORST && longest_handover < WORST,
        "{longest_gap:?}, {longest_handover:?}"
    );
}
