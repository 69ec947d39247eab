//! Waiters that the store has lost: one that is found to be lost makes the client ask about all.

use tokio::time::Instant;

use super::harness::{Harness, LEASE, LEASE_MS};
use crate::error::{StoreError, StoreErrorKind};
use crate::id::{ClientId, PermitId};
use crate::options::Wake;
use crate::store::{WaiterOutcome, WakeUp, WhenFull};

/// An asking period, and a little.
const PERIOD_MS: u64 = 1_100;

fn others(client: u64, count: u64) -> Vec<PermitId> {
    (1..=count).map(|n| PermitId::new(ClientId::from_bits(client), n, 1, LEASE)).collect()
}

fn not_ready() -> StoreError {
    StoreError::new(StoreErrorKind::NotReady, "the slot is moving")
}

/// All `limit` units are held by another client.
fn full(limit: u32) -> (Harness, Vec<PermitId>) {
    let mut harness = Harness::new(limit);
    let holders = others(8, limit.into());
    let reply = harness.foreign(8, |turn| {
        turn.limit = limit;
        turn.admit.extend(holders.iter().map(|&id| (id, WhenFull::Wait)));
    });
    assert!(reply.admitted.iter().all(|settled| matches!(settled, WaiterOutcome::Granted { .. })));
    (harness, holders)
}

impl Harness {
    /// Sends and answers what the state has to say. Returns how many turns that took.
    fn talk(&mut self) -> usize {
        let mut turns = 0;
        while let Some(turn) = self.next() {
            turns += 1;
            self.run_and_settle(turn);
        }
        turns
    }

    /// Lets time pass. Returns how many turns the state took.
    async fn live(&mut self, ms: u64) -> usize {
        let mut turns = 0;
        for _ in 0..ms / 10 {
            self.pass(10).await;
            turns += self.talk();
        }
        turns
    }

    /// Sends what the state has to say to a server that does not run it.
    fn talk_in_vain(&mut self) {
        if let Some(turn) = self.next() {
            self.state.did_not_run(turn.number, &not_ready(), Instant::now());
        }
    }

    fn in_the_queue(&mut self) -> u64 {
        self.store.inspect(self.micros / 1000).waiters_total
    }

    /// Takes what was granted and gives it back at once; how many that were.
    fn serve(&mut self, waiters: &mut Vec<u64>) -> usize {
        let before = waiters.len();
        waiters.retain(|&counter| match self.granted(counter) {
            Some(hold) => {
                assert!(hold.release());
                self.state.give_back(counter, None);
                false
            }
            None => true,
        });
        before - waiters.len()
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_is_put_back_and_granted_in_one_turn_tells_of_the_others() {
    let (mut harness, holders) = full(5);
    let mut waiters: Vec<u64> = (0..200).map(|_| harness.enter()).collect();
    harness.talk();
    harness.store.lose_queue();
    harness.foreign(8, |turn| turn.release.extend(&holders));
    let mut served = 0;
    for _ in 0..PERIOD_MS / 10 {
        harness.live(10).await;
        served += harness.serve(&mut waiters);
        harness.talk();
    }
    // Five at a time and one round a step: what is left is on its way.
    assert!(served >= 25, "only {served} of 200 were served");
    assert_eq!(
        harness.in_the_queue() + harness.store.inspect(harness.micros / 1000).in_use,
        200 - served as u64
    );
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_is_put_back_and_too_large_tells_of_the_others() {
    let (mut harness, _) = full(3);
    harness.enter_as(WhenFull::Wait, 3, LEASE_MS, Wake::Push);
    for _ in 0..4 {
        harness.enter();
    }
    harness.talk();
    harness.store.lose_queue();
    harness.store.set_limit(Some(2), harness.micros);
    harness.live(PERIOD_MS).await;
    assert_eq!(harness.in_the_queue(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_tells_that_too_few_wait_hastens_the_heartbeat() {
    let (mut harness, _) = full(1);
    for _ in 0..200 {
        harness.enter();
    }
    harness.talk();
    harness.store.lose_queue();
    harness.enter();
    harness.live(150).await;
    assert_eq!(harness.in_the_queue(), 201);
}

#[tokio::test(start_paused = true)]
async fn waiters_behind_one_that_polls_are_not_forgotten() {
    let (mut harness, _) = full(1);
    harness.enter_as(WhenFull::Wait, 1, LEASE_MS, Wake::Poll);
    for _ in 0..4 {
        harness.enter();
    }
    harness.talk();
    harness.store.lose_queue();
    harness.live(PERIOD_MS).await;
    assert_eq!(harness.in_the_queue(), 5);
}

#[tokio::test(start_paused = true)]
async fn waiters_behind_one_that_was_woken_late_are_not_forgotten() {
    let (mut harness, holders) = full(1);
    for _ in 0..5 {
        harness.enter();
    }
    harness.talk();
    // Granted to our first waiter, which is not told in time. Then permits and queue are lost.
    let token = harness.foreign(8, |turn| turn.release.extend(&holders)).last.unwrap();
    harness.pass(2_000).await;
    harness.store.lose_permits();
    harness.store.lose_queue();
    let newcomer = others(9, 1)[0];
    harness.foreign(9, |turn| turn.admit.push((newcomer, WhenFull::Wait)));
    harness.state.wake(Harness::id(1), WakeUp::Granted(token), Instant::now());
    harness.live(PERIOD_MS).await;
    assert_eq!(harness.in_the_queue(), 5);
}

#[tokio::test(start_paused = true)]
async fn asking_about_a_thousand_lost_waiters_ends_after_a_second_round() {
    let (mut harness, _) = full(1);
    for _ in 0..1_000 {
        harness.enter();
    }
    let round = harness.talk();
    assert_eq!(round, 8);
    harness.store.lose_queue();
    let turns = harness.live(PERIOD_MS).await;
    assert_eq!(harness.in_the_queue(), 1_000);
    assert!(turns <= 2 + 2 * round, "{turns} turns");
    let turns = harness.live(3_000).await;
    assert!(turns <= 3, "{turns} turns in 3 s though nothing is amiss");
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_is_lost_again_during_the_questions_is_asked_about_again() {
    for after in 1..10 {
        let (mut harness, _) = full(1);
        for _ in 0..1_000 {
            harness.enter();
        }
        harness.talk();
        harness.store.lose_queue();
        harness.pass(1_000).await;
        for _ in 0..after {
            let turn = harness.next().unwrap();
            harness.run_and_settle(turn);
        }
        harness.store.lose_queue();
        harness.live(PERIOD_MS).await;
        assert_eq!(harness.in_the_queue(), 1_000, "lost again after {after} turns");
    }
}

// Behaviour 84
#[cfg(feature = "redis")]
#[tokio::test(start_paused = true)]
async fn a_turn_that_is_cut_short_makes_the_client_ask_about_all() {
    let (mut harness, _) = full(1);
    for _ in 0..4 {
        harness.enter();
    }
    harness.talk();
    harness.enter();
    let cut = harness.next().unwrap();
    harness.store.lose_queue();
    let error = not_ready().into_cut_short();
    harness.state.refused(cut.number, &error, Instant::now());
    harness.live(20).await;
    assert_eq!(harness.in_the_queue(), 5);
}

// Behaviour 59
#[tokio::test(start_paused = true)]
async fn turns_that_do_not_run_do_not_delay_the_heartbeat() {
    let (mut harness, _) = full(1);
    harness.enter();
    harness.talk();
    harness.store.lose_queue();
    harness.enter();
    for _ in 0..PERIOD_MS / 10 {
        harness.pass(10).await;
        harness.talk_in_vain();
    }
    harness.pass(200).await;
    let turn = harness.next().unwrap();
    harness.run_and_settle(turn);
    assert_eq!(harness.in_the_queue(), 2, "the first turn that runs asks about both");
}
