//! From when a grant or a renewal counts, and which wake-ups are grants.

use std::time::Duration;

use tokio::time::Instant;

use super::harness::{self, Harness, LEASE_MS};
use crate::hold::Truth;
use crate::id::{ClientId, PermitId};
use crate::lease::provable_until;
use crate::options::Renew;
use crate::store::{self, Kick, WaiterOutcome, WakeUp, WhenFull};

const LEASE: Duration = Duration::from_millis(LEASE_MS);
const CLAIM_MS: u64 = 3_000;
const CLAIM: Duration = store::CLAIM.duration();

fn other(client: u64) -> PermitId {
    PermitId::new(ClientId::from_bits(client), 1, 1, harness::LEASE)
}

/// A waiter of the state, behind the permit of another client.
fn queued(harness: &mut Harness, renew: Renew) -> u64 {
    harness.foreign(8, |turn| turn.admit.push((other(8), WhenFull::Wait)));
    let waiter = harness.enter_renewing(WhenFull::Wait, LEASE_MS, renew);
    let turn = harness.next().unwrap();
    harness.run_and_settle(turn);
    assert!(harness.granted(waiter).is_none());
    waiter
}

/// The other client lets go, and so grants to the waiter. Its wake-up is still to come.
fn grant(harness: &mut Harness) -> (PermitId, WakeUp) {
    harness.foreign(8, |turn| turn.release.push(other(8)));
    harness.words.pop().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_grant_and_a_renewal_count_from_when_their_turns_were_sent() {
    let mut harness = Harness::new(1);
    let counter = harness.enter();
    let (grants, sent) = (harness.next().unwrap(), Instant::now());
    harness.pass(400).await;
    harness.run_and_settle(grants);
    let hold = harness.granted(counter).unwrap();
    assert_eq!(hold.deadline(), provable_until(sent, LEASE));
    harness.pass(LEASE_MS / 3).await;
    let (renews, sent) = (harness.next().unwrap(), Instant::now());
    assert_eq!(renews.turn.renew.len(), 1);
    harness.pass(400).await;
    harness.run_and_settle(renews);
    assert_eq!(hold.deadline(), provable_until(sent, LEASE));
}

#[tokio::test(start_paused = true)]
async fn a_renewal_answered_when_the_lease_is_over_revives_nothing() {
    let mut harness = Harness::new(1);
    let counter = harness.enter_with(WhenFull::Wait, 1_000);
    let grants = harness.next().unwrap();
    harness.run_and_settle(grants);
    let hold = harness.granted(counter).unwrap();
    harness.pass(350).await;
    let renews = harness.next().unwrap();
    let reply = harness.run(&renews);
    harness.pass(640).await; // nobody has looked at it since it ended
    harness.state.answered(renews.number, reply, Instant::now());
    assert!(matches!(hold.truth(), Truth::Lost(_)));
}

#[tokio::test(start_paused = true)]
async fn a_claim_counts_from_the_last_turn_that_ran_before_its_grant() {
    let mut harness = Harness::new(1);
    let waiter = queued(&mut harness, Renew::Auto);
    harness.pass(500).await;
    harness.state.request_turn();
    let (before, sent) = (harness.next().unwrap(), Instant::now());
    harness.run_and_settle(before);
    harness.pass(100).await;
    let (id, wake_up) = grant(&mut harness);
    harness.state.request_turn();
    let after = harness.next().unwrap();
    harness.run_and_settle(after);
    harness.pass(100).await;
    harness.state.wake(id, wake_up, Instant::now());
    assert_eq!(harness.granted(waiter).unwrap().deadline(), provable_until(sent, CLAIM));
}

#[tokio::test(start_paused = true)]
async fn a_claim_of_which_less_than_half_is_left_is_asked_about() {
    let mut harness = Harness::new(1);
    let waiter = queued(&mut harness, Renew::Auto);
    harness.pass(CLAIM_MS / 2).await; // less by the margin, counted from the turn that queued it
    let (id, wake_up) = grant(&mut harness);
    harness.state.wake(id, wake_up, Instant::now());
    assert!(harness.granted(waiter).is_none());
    let asks = harness.next().unwrap();
    assert_eq!(asks.turn.ask.len(), 1);
    harness.run_and_settle(asks);
    assert!(harness.granted(waiter).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_wake_up_from_before_the_last_answer_is_no_grant() {
    let mut harness = Harness::new(1);
    let waiter = queued(&mut harness, Renew::Auto);
    let (id, wake_up) = grant(&mut harness);
    harness.pass(CLAIM_MS).await; // unheard, so the claim is over
    let reply = harness.foreign(9, |turn| turn.admit.push((other(9), WhenFull::Wait)));
    assert!(matches!(reply.admitted[0], WaiterOutcome::Granted { .. }));
    let asks = harness.next().unwrap();
    assert_eq!(asks.turn.ask.len(), 1);
    harness.run_and_settle(asks); // back in the queue
    harness.state.wake(id, wake_up, Instant::now());
    assert!(harness.granted(waiter).is_none(), "the unit is somebody else's");
}

#[tokio::test(start_paused = true)]
async fn a_wake_up_that_comes_while_the_waiter_is_asked_about_is_kept_until_the_answer() {
    let mut harness = Harness::new(1);
    let waiter = queued(&mut harness, Renew::Auto);
    harness.state.ask_about_all();
    let asks = harness.next().unwrap();
    let reply = harness.run(&asks);
    let (id, wake_up) = grant(&mut harness);
    harness.state.wake(id, wake_up, Instant::now());
    assert!(harness.granted(waiter).is_none(), "the answer may say more");
    harness.state.answered(asks.number, reply, Instant::now());
    assert!(harness.granted(waiter).is_some());
}

/// Asks about the waiter of a harness that is granted. `wakes` is whether the wake-up comes before the answer. Returns
/// whether it counts as missed, and whether that makes the client ask again.
fn missed(harness: &mut Harness, wakes: bool) -> (bool, bool) {
    let (id, wake_up) = grant(harness);
    let asks = harness.next().unwrap();
    assert_eq!(asks.turn.ask.len(), 1);
    if wakes {
        harness.state.wake(id, wake_up, Instant::now());
    }
    harness.run_and_settle(asks);
    assert!(harness.granted(id.counter()).is_some());
    let missed = harness.state.take_missed_wake_up();
    assert!(!harness.state.take_missed_wake_up(), "it is told once");
    (missed, harness.next().is_some_and(|next| !next.turn.ask.is_empty()))
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_finds_a_grant_has_missed_its_wake_up_unless_that_comes_before_the_answer()
{
    for wakes in [true, false] {
        let mut harness = Harness::new(1);
        let _granted = queued(&mut harness, Renew::Auto);
        let behind = harness.enter();
        let turn = harness.next().unwrap();
        harness.run_and_settle(turn);
        harness.state.set_subscribed(true, Instant::now());
        harness.pass(1_000).await;
        assert_eq!(missed(&mut harness, wakes), (!wakes, !wakes), "{wakes}");
        assert!(harness.granted(behind).is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_wake_up_that_is_asked_about_was_not_missed() {
    let mut harness = Harness::new(1);
    let waiter = queued(&mut harness, Renew::Auto);
    harness.state.set_subscribed(true, Instant::now());
    harness.pass(CLAIM_MS / 2).await;
    let (id, wake_up) = grant(&mut harness);
    harness.state.wake(id, wake_up, Instant::now()); // of which less than half is left
    let asks = harness.next().unwrap();
    harness.run_and_settle(asks);
    assert!(harness.granted(waiter).is_some());
    assert!(!harness.state.take_missed_wake_up());
}

#[tokio::test(start_paused = true)]
async fn the_wake_up_of_a_kick_has_the_permit_looked_at_by_the_next_turn() {
    let mut harness = Harness::new(1);
    let hold = harness.hold();
    harness.store.kick(hold.id, Kick::Mark, harness.micros / 1000);
    harness.state.wake(hold.id, WakeUp::Ask, Instant::now());
    let looks = harness.next().unwrap();
    harness.run_and_settle(looks);
    assert!(matches!(hold.truth(), Truth::Lost(_)));
    assert!(harness.next().is_none(), "its holder may still be at work");
    harness.state.give_back(hold.id.counter(), None);
    assert_eq!(harness.next().unwrap().turn.release, [hold.id]);
}

#[tokio::test(start_paused = true)]
async fn a_manual_lease_that_came_as_a_claim_is_made_full_once() {
    let mut harness = Harness::new(1);
    let waiter = queued(&mut harness, Renew::Manual);
    let (id, wake_up) = grant(&mut harness);
    harness.state.wake(id, wake_up, Instant::now());
    let hold = harness.granted(waiter).unwrap();
    harness.pass(CLAIM_MS / 3).await;
    let confirms = harness.next().unwrap();
    assert_eq!(confirms.turn.renew, [(hold.id, harness::LEASE)]);
    harness.run_and_settle(confirms);
    harness.pass(LEASE_MS / 2).await;
    assert!(harness.next().is_none(), "nobody renews it");
    harness.state.reconnected();
    let recovers = harness.next().unwrap();
    let (id, ms) = recovers.turn.renew[0];
    assert!(id == hold.id && ms.get() <= LEASE_MS / 2 + 1_000, "{ms} ms, of which half were over");
}
