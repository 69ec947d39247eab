//! What ends here ends in the store, and whoever awaits the end is told.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::harness::{Harness, LEASE, LEASE_MS};
use crate::backoff::Backoff;
use crate::driver::deferred::Effect;
use crate::driver::state::WaitEnd;
use crate::error::{ReleaseError, StoreError};
use crate::hold::Truth;
use crate::id::{ClientId, PermitId};
use crate::numbers::Millis;
use crate::options::{Options, Wake};
use crate::store::WhenFull;

/// The one unit is held by another client.
fn taken() -> Harness {
    let mut harness = Harness::new(1);
    let other = PermitId::new(ClientId::from_bits(8), 1, 1, LEASE);
    harness.foreign(8, |turn| turn.admit.push((other, WhenFull::Wait)));
    harness
}

fn run_effects(harness: &mut Harness) {
    harness.state.take_effects().into_iter().for_each(Effect::run);
}

#[tokio::test(start_paused = true)]
async fn a_closed_semaphore_takes_its_waiters_out_of_the_queue_of_the_store() {
    let mut harness = taken();
    let queued = harness.enter();
    let turn = harness.next().unwrap();
    harness.run_and_settle(turn);
    harness.enter(); // named by no turn: the store need not hear of it
    harness.state.close(Instant::now());
    let removes = harness.next().unwrap();
    assert_eq!(removes.turn.cancel, [Harness::id(queued)]);
    harness.run_and_settle(removes);
    assert_eq!(harness.store.inspect(harness.micros / 1000).waiters_total, 0);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_whose_backoff_gives_up_leaves_the_queue_of_the_store() {
    let mut harness = taken();
    let backoff = Backoff::default().tries(1);
    let options = Options { wake: Wake::Poll, backoff, ..Options::with_lease(LEASE) };
    harness.state.enter(Harness::id(1), WhenFull::Wait, Arc::new(options));
    for _ in 0..100 {
        while let Some(turn) = harness.next() {
            harness.run_and_settle(turn);
        }
        harness.pass(100).await;
    }
    let end = harness.state.poll_waiter(1, &mut None);
    assert!(matches!(end, Poll::Ready(WaitEnd::GaveUp { .. })), "{end:?}");
    assert_eq!(harness.store.inspect(harness.micros / 1000).waiters_total, 0);
}

#[tokio::test(start_paused = true)]
async fn a_lost_permit_is_not_forgotten_while_an_extension_may_hold_it() {
    let mut harness = Harness::new(1);
    let counter = harness.enter_with(WhenFull::Wait, 1_000);
    let turn = harness.next().unwrap();
    harness.run_and_settle(turn);
    let hold = harness.granted(counter).unwrap();
    let (done, _answer) = oneshot::channel();
    harness.state.extend(counter, Millis::new(120_000), done);
    let extends = harness.next().unwrap();
    harness.run(&extends); // its reply is lost
    harness.pass(1_000).await;
    harness.state.tick(Instant::now());
    assert!(matches!(hold.truth(), Truth::Lost(_)));
    harness.state.unanswered(extends.number, &StoreError::timeout("lost"), Instant::now());
    harness.pass(60_000).await; // the store is away
    let removes = harness.next().unwrap();
    assert_eq!(removes.turn.cancel, [hold.id]);
    harness.run_and_settle(removes);
    assert_eq!(harness.store.inspect(harness.micros / 1000).in_use, 0, "for 59 s more");
}

#[tokio::test(start_paused = true)]
async fn an_extension_is_told_only_by_the_turn_that_gives_it() {
    let mut harness = Harness::new(1);
    let hold = harness.hold();
    let mut answers = Vec::new();
    let mut turns = Vec::new();
    for lease in [2 * LEASE_MS, 4 * LEASE_MS] {
        let (done, answer) = oneshot::channel();
        harness.state.extend(hold.id.counter(), Millis::new(lease), done);
        answers.push(answer);
        turns.extend(harness.next());
    }
    assert_eq!(turns.len(), 1, "the second one waits for the first");
    assert_eq!(turns[0].turn.renew, [(hold.id, Millis::new(2 * LEASE_MS))]);
    harness.run_and_settle(turns.remove(0));
    assert!(answers[0].try_recv().unwrap().is_ok());
    assert!(answers[1].try_recv().is_err(), "it has not got so much yet");
    let again = harness.next().unwrap();
    assert_eq!(again.turn.renew, [(hold.id, Millis::new(4 * LEASE_MS))]);
    harness.run_and_settle(again);
    assert!(answers[1].try_recv().unwrap().is_ok());
    assert!(hold.deadline() > Instant::now() + Duration::from_millis(3 * LEASE_MS));
}

#[tokio::test(start_paused = true)]
async fn whoever_awaits_an_answer_is_told_of_the_end_of_the_driver() {
    let mut harness = Harness::new(4);
    let [in_flight, listed, extended, after] = [(); 4].map(|()| harness.hold());
    let release = |harness: &mut Harness, counter| {
        let (done, answer) = oneshot::channel();
        harness.state.give_back(counter, Some(done));
        answer
    };
    let mut answers = vec![release(&mut harness, in_flight.id.counter())];
    let _in_flight = harness.next().unwrap();
    answers.push(release(&mut harness, listed.id.counter()));
    let (done, mut extension) = oneshot::channel();
    harness.state.extend(extended.id.counter(), LEASE, done);
    harness.state.end();
    answers.push(release(&mut harness, after.id.counter()));
    run_effects(&mut harness);
    for mut answer in answers {
        assert!(matches!(answer.try_recv(), Ok(Err(ReleaseError::Closed))));
    }
    assert!(extension.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Closed));
    assert_eq!(harness.state.unflushed(), 1, "only what is held");
}
