//! Two turns of one name in flight: what the second one may say, and in which order they may land.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, advance};

use super::harness::{Harness, LEASE, LEASE_MS};
use crate::driver::state::{Deadlines, Outgoing, SemaphoreState};
use crate::error::StoreError;
use crate::hold::{Hold, Truth};
use crate::numbers::{Millis, TurnNumber};
use crate::store::memory::MemoryState;
use crate::store::{TurnReply, WhenFull};

fn admitted(outgoing: &Outgoing) -> Vec<u64> {
    outgoing.turn.admit.iter().map(|(id, _)| id.counter()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_third_turn_waits_and_what_comes_meanwhile_is_gathered() {
    let mut harness = Harness::new(9);
    let turns = [1, 2].map(|counter| {
        assert_eq!(harness.enter(), counter);
        harness.next().unwrap()
    });
    assert_eq!(turns.each_ref().map(admitted), [[1], [2]]);
    harness.enter();
    harness.enter();
    assert!(harness.next().is_none());
    let [first, second] = turns;
    harness.run_and_settle(first);
    assert_eq!(admitted(&harness.next().unwrap()), [3, 4]);
    harness.run_and_settle(second);
    assert!(harness.granted(1).is_some() && harness.granted(2).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_waiter_is_removed_after_the_turn_that_names_it() {
    let mut harness = Harness::new(9);
    let cancelled = harness.enter();
    let first = harness.next().unwrap();
    harness.state.cancel(cancelled, Instant::now());
    harness.enter();
    let second = harness.next().unwrap();
    assert!(second.turn.cancel.is_empty(), "it would run for nothing if it overtook the other");
    harness.run_and_settle(second);
    assert!(harness.next().is_none(), "the first one is still out");
    harness.run_and_settle(first);
    assert_eq!(harness.next().unwrap().turn.cancel, [Harness::id(cancelled)]);
}

#[tokio::test(start_paused = true)]
async fn a_permit_released_during_its_renewal_is_removed_after_it() {
    let mut harness = Harness::new(9);
    let counter = harness.enter();
    let turn = harness.next().unwrap();
    harness.run_and_settle(turn);
    let hold = harness.granted(counter).unwrap();
    advance(Duration::from_millis(LEASE_MS / 2)).await;
    let renewal = harness.next().unwrap();
    assert_eq!(renewal.turn.renew.len(), 1);
    assert!(hold.release());
    harness.state.give_back(counter, None);
    harness.enter();
    let second = harness.next().unwrap();
    assert!(second.turn.release.is_empty(), "after a loss of data the renewal would put it back");
    harness.run_and_settle(renewal);
    harness.run_and_settle(second);
    assert_eq!(harness.next().unwrap().turn.release, [hold.id]);
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_lands_late_does_not_reopen_a_wait_that_has_ended() {
    let mut harness = Harness::new(1);
    let holder = harness.enter();
    let turn = harness.next().unwrap();
    harness.run_and_settle(turn);
    let hold = harness.granted(holder).unwrap();
    // The first turn queues one; the second frees the unit, and so grants it.
    let waiter = harness.enter();
    let queues = harness.next().unwrap();
    assert!(hold.release());
    harness.state.give_back(holder, None);
    let frees = harness.next().unwrap();
    let (queued, freed) = (harness.run(&queues), harness.run(&frees));
    assert_eq!(freed.others.len(), 1);
    harness.state.answered(frees.number, freed, Instant::now());
    harness.state.answered(queues.number, queued, Instant::now());
    assert!(harness.granted(waiter).is_some());
}

#[tokio::test(start_paused = true)]
async fn nothing_follows_a_turn_while_something_is_amiss() {
    type Amiss = fn(&mut SemaphoreState);
    let amiss: [(&str, Amiss); 4] = [
        ("a new connection", SemaphoreState::reconnected),
        ("an outage", |state| {
            state.turn_failed(&StoreError::timeout("away"), Instant::now());
        }),
        ("a question", SemaphoreState::request_turn),
        ("lost data", SemaphoreState::recover_permits),
    ];
    for (what, happens) in amiss {
        let mut harness = Harness::new(9);
        harness.enter();
        assert!(harness.next().is_some());
        harness.enter();
        happens(&mut harness.state);
        assert!(harness.next().is_none(), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_follows_a_turn_on_an_earlier_connection_though_the_data_is_known_to_be_kept() {
    let mut harness = Harness::new(9);
    harness.enter();
    let first = harness.next().unwrap();
    harness.enter();
    let _second = harness.next().unwrap();
    harness.state.reconnected();
    harness.run_and_settle(first); // the store has kept its data
    harness.enter();
    assert!(harness.next().is_none(), "the second turn may run on the earlier connection");
}

#[tokio::test(start_paused = true)]
async fn the_reply_of_a_pipelined_turn_does_not_end_the_recovery() {
    let mut harness = Harness::new(300);
    let mut holds = Vec::new();
    for _ in 0..300 {
        harness.enter();
    }
    while let Some(turn) = harness.next() {
        harness.run_and_settle(turn);
    }
    for counter in 1..=300 {
        holds.push(harness.granted(counter).unwrap());
    }
    harness.store = MemoryState::default(); // data is lost
    harness.enter();
    let first = harness.next().unwrap();
    harness.enter();
    let second = harness.next().unwrap();
    harness.run_and_settle(first);
    harness.run_and_settle(second);
    for _ in 0..50 {
        harness.enter();
    }
    let recovers = harness.next().unwrap();
    assert_eq!(recovers.turn.renew.len(), 224);
    assert_eq!(recovers.turn.admit.len(), 0, "newcomers take the room of those who hold");
}

/// A permit with a lease of 300 ms.
fn hold_briefly(harness: &mut Harness) -> Arc<Hold> {
    let counter = harness.enter_with(WhenFull::Wait, 300);
    let turn = harness.next().unwrap();
    harness.run_and_settle(turn);
    harness.granted(counter).unwrap()
}

#[tokio::test(start_paused = true)]
async fn turns_without_an_answer_do_not_cost_a_short_lease() {
    let mut harness = Harness::new(9);
    let hold = hold_briefly(&mut harness);
    harness.pass(100).await;
    let renewal = harness.next().unwrap();
    assert_eq!(renewal.turn.renew.len(), 1);
    harness.enter();
    let _follower = harness.next().unwrap();
    // Both replies are lost.
    assert!(harness.next().is_none());
    harness.pass(50).await;
    let relief = harness.next().expect("in time for the lease");
    assert_eq!((relief.turn.renew.len(), relief.turn.ask.len()), (1, 0));
    assert!(harness.next().is_none());
    let before = hold.deadline();
    harness.run_and_settle(relief);
    assert!(hold.deadline() > before);
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_without_an_answer_does_not_cost_a_short_lease() {
    let mut harness = Harness::new(9);
    let hold = hold_briefly(&mut harness);
    harness.pass(90).await;
    harness.enter(); // what is due soon would ride along, but not so soon
    *harness.state.deadlines() = Deadlines::default();
    let newcomer = harness.next().unwrap();
    assert!(newcomer.turn.renew.is_empty());
    harness.state.renew_now(hold.id.counter());
    assert!(harness.next().is_none(), "the answer may come any moment");
    harness.pass(50).await;
    let relief = harness.next().expect("in time for the lease");
    assert_eq!(relief.turn.renew.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_short_lease_that_has_gone_relieves_no_long_one() {
    let mut harness = Harness::new(9);
    let brief = hold_briefly(&mut harness);
    let _long = harness.hold();
    harness.release(&brief);
    let turn = harness.next().unwrap();
    harness.run_and_settle(turn);
    harness.pass(10_500).await;
    let _renewal = harness.next().unwrap(); // without an answer
    let mut reliefs = 0;
    for _ in 0..100 {
        harness.pass(5).await;
        while harness.next().is_some() {
            reliefs += 1;
        }
    }
    assert_eq!(reliefs, 0, "for a lease of 30 s");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_late_counts_and_a_release_waits_for_all_that_renew() {
    let mut harness = Harness::new(9);
    let hold = hold_briefly(&mut harness);
    harness.pass(100).await;
    let (sent, renewal) = (Instant::now(), harness.next().unwrap());
    harness.pass(50).await;
    let relief = harness.next().unwrap();
    harness.pass(50).await;
    harness.run_and_settle(renewal);
    assert_eq!(hold.deadline(), sent + Duration::from_millis(294));
    assert!(hold.release());
    harness.state.give_back(hold.id.counter(), None);
    harness.enter();
    let next = harness.next().unwrap();
    assert!(next.turn.release.is_empty(), "after a loss of data the relief would put it back");
    harness.run_and_settle(relief);
    harness.run_and_settle(next);
    assert_eq!(harness.next().unwrap().turn.release, [hold.id]);
}

/// Over a round trip of nearly a third of the lease some renewal is in flight at any time.
#[tokio::test(start_paused = true)]
async fn after_a_loss_of_data_renewals_in_flight_hold_nobody_up_for_ever() {
    let mut harness = Harness::new(9);
    let hold = hold_briefly(&mut harness);
    let other = harness.hold();
    harness.store = MemoryState::default();
    let mut newcomer = None;
    let mut flying = VecDeque::new();
    for step in 0..400 {
        while let Some(turn) = harness.next() {
            flying.push_back((Instant::now() + Duration::from_millis(95), turn));
        }
        harness.pass(5).await;
        while flying.front().is_some_and(|(at, _)| *at <= Instant::now()) {
            let (_, turn) = flying.pop_front().unwrap();
            harness.run_and_settle(turn);
        }
        if step == 100 {
            newcomer = Some(harness.enter());
            harness.release(&other);
        }
    }
    assert!(matches!(hold.truth(), Truth::HeldUntil(_)), "{:?}", hold.truth());
    assert!(harness.granted(newcomer.unwrap()).is_some(), "waits for 1.5 s with room for it");
    assert!(harness.state.removals() == 0, "nothing is given back");
}

/// The question would put its waiter back into the queue when what a turn that ran before did to it
/// is over already: granted and released, expired, kicked out at once, or too large.
#[tokio::test(start_paused = true)]
async fn a_question_that_arrives_late_leaves_nothing_that_nobody_knows() {
    let mut harness = Harness::new(1);
    let hold = harness.hold();
    let waiter = harness.enter_with(WhenFull::Wait, 100);
    let queues = harness.next().unwrap();
    harness.run_and_settle(queues);
    harness.state.ask_about_all();
    let asks = harness.next().unwrap();
    assert_eq!(asks.turn.ask.len(), 1);
    harness.release(&hold);
    let mut asks = Some(asks);
    for ms in 1..=350 {
        harness.pass(1).await;
        if ms == 300 {
            harness.run_and_settle(asks.take().unwrap());
        }
        while let Some(turn) = harness.next() {
            harness.run_and_settle(turn); // what goes out meanwhile overtakes the question
        }
        if harness.state.holds(waiter) {
            let granted = harness.granted(waiter).unwrap();
            harness.release(&granted);
        }
    }
    let left = harness.store.inspect(harness.micros / 1000);
    assert_eq!((left.holders, left.waiters), (Vec::new(), Vec::new()));
    assert!(harness.state.is_flushed() && !harness.state.has_waiters());
}

#[tokio::test(start_paused = true)]
async fn nothing_follows_a_question() {
    let mut harness = Harness::new(1);
    let hold = harness.hold();
    harness.enter();
    let queues = harness.next().unwrap();
    harness.run_and_settle(queues);
    harness.state.ask_about_all();
    let asks = harness.next().unwrap();
    harness.release(&hold);
    assert!(harness.next().is_none(), "it would free a unit, and so grant what is asked about");
    harness.run_and_settle(asks);
    assert_eq!(harness.next().unwrap().turn.release, [hold.id]);
}

/// A waiter that the reply of the second turn grants while that of the first, which queued it, is
/// still out.
async fn granted_before_its_admission_is_answered(harness: &mut Harness) -> (Outgoing, Arc<Hold>) {
    let hold = harness.hold();
    let waiter = harness.enter();
    let queues = harness.next().unwrap();
    harness.release(&hold);
    let frees = harness.next().unwrap();
    harness.run(&queues);
    harness.run_and_settle(frees);
    (queues, harness.granted(waiter).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_release_goes_behind_the_turn_that_names_its_id() {
    let mut harness = Harness::new(1);
    let (queues, hold) = granted_before_its_admission_is_answered(&mut harness).await;
    harness.release(&hold);
    assert!(harness.next().is_none(), "named by two turns in flight");
    harness.state.unanswered(queues.number, &StoreError::timeout("lost"), Instant::now());
    assert_eq!(harness.next().unwrap().turn.release, [hold.id]);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_goes_behind_the_turn_that_names_its_id() {
    for ms_before_it_is_due in [0, 1_000] {
        let mut harness = Harness::new(1);
        let (queues, hold) = granted_before_its_admission_is_answered(&mut harness).await;
        harness.pass(LEASE_MS / 3 - ms_before_it_is_due).await; // due, or about to ride along
        harness.enter();
        let follower = harness.next().unwrap();
        assert_eq!(follower.turn.renew, [], "named by two turns in flight");
        harness.state.unanswered(queues.number, &StoreError::timeout("lost"), Instant::now());
        harness.run_and_settle(follower);
        harness.state.request_turn();
        assert_eq!(harness.next().unwrap().turn.renew, [(hold.id, LEASE)]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_removal_is_not_forgotten_while_the_turn_that_names_its_id_is_in_flight() {
    let mut harness = Harness::new(1);
    let cancelled = harness.enter_with(WhenFull::Wait, 50);
    let admits = harness.next().unwrap();
    harness.state.cancel(cancelled, Instant::now());
    for _ in 0..60 {
        harness.pass(1_000).await; // call timeouts may be as long
        assert!(harness.next().is_none());
    }
    harness.run_and_settle(admits);
    let takes_back = harness.next().unwrap();
    assert_eq!(takes_back.turn.cancel.len(), 1);
    harness.run_and_settle(takes_back);
    assert_eq!(harness.store.inspect(harness.micros / 1000).in_use, 0);
}

#[tokio::test(start_paused = true)]
async fn a_turn_asks_about_a_waiter_once() {
    let mut harness = Harness::new(1);
    let holder = harness.enter();
    let turn = harness.next().unwrap();
    harness.run_and_settle(turn);
    let hold = harness.granted(holder).unwrap();
    let _waiter = harness.enter_with(WhenFull::Wait, 50);
    let queues = harness.next().unwrap();
    assert!(hold.release());
    harness.state.give_back(holder, None);
    let frees = harness.next().unwrap();
    let (queued, freed) = (harness.run(&queues), harness.run(&frees));
    harness.pass(60).await;
    harness.state.answered(frees.number, freed, Instant::now());
    harness.state.answered(queues.number, queued, Instant::now());
    harness.state.ask_about_all();
    let asks = harness.next().unwrap();
    assert_eq!(asks.turn.ask.len(), 1, "{:?}", asks.turn.ask);
}

/// Returns whether a lease is held for 200 times its length, with each reply late by the round trip and each
/// `lost`th one lost.
async fn is_held(lease_ms: u64, round_trip_ms: u64, lost: usize) -> bool {
    let mut harness = Harness::new(9);
    let counter = harness.enter_with(WhenFull::Wait, lease_ms);
    let (start, mut hold) = (Instant::now(), None);
    let mut flying: Vec<(u64, TurnNumber, Option<TurnReply>)> = Vec::new();
    let mut turns = 0;
    for ms in 0..200 * lease_ms {
        while let Some(at) = flying.iter().position(|&(lands_at, ..)| lands_at <= ms) {
            let (_, number, reply) = flying.remove(at);
            match reply {
                Some(reply) => harness.state.answered(number, reply, Instant::now()),
                None => {
                    harness.state.unanswered(number, &StoreError::timeout("lost"), Instant::now())
                }
            }
        }
        while let Some(turn) = harness.next() {
            turns += 1;
            let reply = harness.run(&turn);
            let is_lost = lost > 0 && turns % lost == 0;
            let lands_at = if is_lost { ms + 500 } else { ms + round_trip_ms };
            flying.push((lands_at, turn.number, Some(reply).filter(|_| !is_lost)));
        }
        hold = hold.or_else(|| harness.granted(counter));
        let held = hold.as_ref().is_some_and(|it| matches!(it.truth(), Truth::HeldUntil(_)));
        if !held && ms > round_trip_ms {
            return false;
        }
        harness.pass(1).await;
    }
    start.elapsed() >= Duration::from_millis(200 * lease_ms)
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_held_while_a_round_trip_takes_up_to_a_third_of_it() {
    for (lease_ms, round_trip_ms) in [(50, 1), (50, 8), (50, 12), (50, 16), (300, 100)] {
        assert!(is_held(lease_ms, round_trip_ms, 0).await, "{lease_ms} over {round_trip_ms} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_does_not_cost_a_lease() {
    for (lease_ms, round_trip_ms, lost) in [(50, 1, 3), (50, 10, 3), (600, 1, 2), (600, 90, 3)] {
        let held = is_held(lease_ms, round_trip_ms, lost).await;
        assert!(held, "{lease_ms} over {round_trip_ms} ms, with 1 of {lost} lost");
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiter_stands_back_while_late_renewals_may_put_a_lost_permit_back() {
    let mut harness = Harness::new(1);
    let counter = harness.enter_with(WhenFull::Wait, 1_000);
    let turn = harness.next().unwrap();
    harness.run_and_settle(turn);
    let hold = harness.granted(counter).unwrap();
    harness.pass(150).await;
    harness.state.request_turn();
    let slow = harness.next().unwrap();
    assert!(slow.turn.renew.is_empty());
    harness.pass(250).await;
    let renews = harness.next().unwrap();
    assert_eq!(renews.turn.renew, [(hold.id, Millis::new(1_000))]);
    harness.store = MemoryState::default();
    harness.run_and_settle(slow); // tells of the loss
    harness.enter();
    assert!(harness.next().is_none(), "the waiter would take the unit of the permit");
    harness.run_and_settle(renews);
    assert_eq!(harness.next().unwrap().turn.admit.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_second_turn_is_worth_it_from_half_the_size_of_the_first_one_on() {
    for (first, worth) in [(1, 1), (2, 1), (5, 2), (12, 6), (16, 8), (90, 8)] {
        let mut harness = Harness::new(999);
        for _ in 0..first {
            harness.enter();
        }
        let next = |harness: &mut Harness| {
            harness.state.next_turn(Instant::now(), Duration::from_millis(500), Some(8))
        };
        assert_eq!(next(&mut harness).unwrap().turn.admit.len(), first);
        for _ in 1..worth {
            harness.enter();
            assert!(next(&mut harness).is_none(), "{first} in flight, {worth} wanted");
        }
        harness.enter();
        assert_eq!(next(&mut harness).unwrap().turn.admit.len(), worth);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_pipelined_behind_turns_of_the_old_place_once_one_of_them_is_answered() {
    let mut harness = Harness::new(9);
    harness.enter();
    let first = harness.next().unwrap();
    harness.enter();
    let second = harness.next().unwrap();
    harness.state.moved();
    harness.run_and_settle(first);
    harness.enter();
    assert!(harness.next().is_none(), "the second one is on its way to the old place");
    harness.run_and_settle(second);
    assert!(harness.next().is_some());
}
