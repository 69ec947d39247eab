//! From when a grant or a renewal counts, and which wake-ups are grants.

#![allow(clippy::panic, clippy::unwrap_used)]

use std::time::Duration;

use tokio::time::Instant;

use super::scene::{LEASE_MS, Scene};
use crate::hold::Truth;
use crate::id::{ClientId, PermitId};
use crate::lease::provable_until;
use crate::options::Renew;
use crate::store::{CLAIM_MS, Rule, Settled};

const LEASE: Duration = Duration::from_millis(LEASE_MS);
const CLAIM: Duration = Duration::from_millis(CLAIM_MS);

fn other(client: u64) -> PermitId {
    PermitId::new(ClientId::from_bits(client), 1, 1, LEASE_MS)
}

/// A waiter of the line, behind the permit of another client.
fn queued(scene: &mut Scene, renew: Renew) -> u64 {
    scene.foreign(8, |turn| turn.admit.push((other(8), Rule::Wait)));
    let waiter = scene.enter_renewing(Rule::Wait, LEASE_MS, renew);
    let turn = scene.next().unwrap();
    scene.run_and_settle(turn);
    assert!(scene.granted(waiter).is_none());
    waiter
}

/// The other client lets go, and so grants to the waiter. Its wake-up is still to come.
fn grant(scene: &mut Scene) -> (PermitId, u64) {
    scene.foreign(8, |turn| turn.release.push(other(8)));
    scene.words.pop().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_grant_and_a_renewal_count_from_when_their_turns_were_sent() {
    let mut scene = Scene::new(1);
    let counter = scene.enter();
    let (grants, sent) = (scene.next().unwrap(), Instant::now());
    scene.pass(400).await;
    scene.run_and_settle(grants);
    let hold = scene.granted(counter).unwrap();
    assert_eq!(hold.deadline(), provable_until(sent, LEASE));
    scene.pass(LEASE_MS / 3).await;
    let (renews, sent) = (scene.next().unwrap(), Instant::now());
    assert_eq!(renews.turn.renew.len(), 1);
    scene.pass(400).await;
    scene.run_and_settle(renews);
    assert_eq!(hold.deadline(), provable_until(sent, LEASE));
}

#[tokio::test(start_paused = true)]
async fn a_renewal_answered_when_the_lease_is_over_revives_nothing() {
    let mut scene = Scene::new(1);
    let counter = scene.enter_with(Rule::Wait, 1_000);
    let grants = scene.next().unwrap();
    scene.run_and_settle(grants);
    let hold = scene.granted(counter).unwrap();
    scene.pass(350).await;
    let renews = scene.next().unwrap();
    let reply = scene.run(&renews);
    scene.pass(640).await; // nobody has looked at it since it ended
    scene.line.settle(renews.number, reply, Instant::now());
    assert!(matches!(hold.truth(), Truth::Lost(_)));
}

#[tokio::test(start_paused = true)]
async fn a_claim_counts_from_the_last_turn_that_ran_before_its_grant() {
    let mut scene = Scene::new(1);
    let waiter = queued(&mut scene, Renew::Auto);
    scene.pass(500).await;
    scene.line.nudge();
    let (before, sent) = (scene.next().unwrap(), Instant::now());
    scene.run_and_settle(before);
    scene.pass(100).await;
    let (id, token) = grant(&mut scene);
    scene.line.nudge();
    let after = scene.next().unwrap();
    scene.run_and_settle(after);
    scene.pass(100).await;
    scene.line.wake(id, token, Instant::now());
    assert_eq!(scene.granted(waiter).unwrap().deadline(), provable_until(sent, CLAIM));
}

#[tokio::test(start_paused = true)]
async fn a_claim_of_which_less_than_half_is_left_is_asked_about() {
    let mut scene = Scene::new(1);
    let waiter = queued(&mut scene, Renew::Auto);
    scene.pass(CLAIM_MS / 2).await; // less by the margin, counted from the turn that queued it
    let (id, token) = grant(&mut scene);
    scene.line.wake(id, token, Instant::now());
    assert!(scene.granted(waiter).is_none());
    let asks = scene.next().unwrap();
    assert_eq!(asks.turn.ask.len(), 1);
    scene.run_and_settle(asks);
    assert!(scene.granted(waiter).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_wake_up_from_before_the_last_answer_is_no_grant() {
    let mut scene = Scene::new(1);
    let waiter = queued(&mut scene, Renew::Auto);
    let (id, token) = grant(&mut scene);
    scene.pass(CLAIM_MS).await; // unheard, so the claim is over
    let reply = scene.foreign(9, |turn| turn.admit.push((other(9), Rule::Wait)));
    assert!(matches!(reply.admitted[0], Settled::Granted { .. }));
    let asks = scene.next().unwrap();
    assert_eq!(asks.turn.ask.len(), 1);
    scene.run_and_settle(asks); // back in the queue
    scene.line.wake(id, token, Instant::now());
    assert!(scene.granted(waiter).is_none(), "the unit is somebody else's");
}

#[tokio::test(start_paused = true)]
async fn a_wake_up_that_comes_while_the_waiter_is_asked_about_is_kept_until_the_answer() {
    let mut scene = Scene::new(1);
    let waiter = queued(&mut scene, Renew::Auto);
    scene.line.ask_about_all();
    let asks = scene.next().unwrap();
    let reply = scene.run(&asks);
    let (id, token) = grant(&mut scene);
    scene.line.wake(id, token, Instant::now());
    assert!(scene.granted(waiter).is_none(), "the answer may say more");
    scene.line.settle(asks.number, reply, Instant::now());
    assert!(scene.granted(waiter).is_some());
}

#[tokio::test(start_paused = true)]
async fn the_wake_up_of_a_kick_has_the_permit_looked_at_by_the_next_turn() {
    let mut scene = Scene::new(1);
    let hold = scene.hold();
    scene.books.kick(hold.id, false, scene.micros / 1000);
    scene.line.wake(hold.id, 0, Instant::now());
    let looks = scene.next().unwrap();
    scene.run_and_settle(looks);
    assert!(matches!(hold.truth(), Truth::Lost(_)));
    assert_eq!(scene.next().unwrap().turn.cancel, [hold.id]);
}

#[tokio::test(start_paused = true)]
async fn a_manual_lease_that_came_as_a_claim_is_made_full_once() {
    let mut scene = Scene::new(1);
    let waiter = queued(&mut scene, Renew::Manual);
    let (id, token) = grant(&mut scene);
    scene.line.wake(id, token, Instant::now());
    let hold = scene.granted(waiter).unwrap();
    scene.pass(CLAIM_MS / 3).await;
    let confirms = scene.next().unwrap();
    assert_eq!(confirms.turn.renew, [(hold.id, LEASE_MS)]);
    scene.run_and_settle(confirms);
    scene.pass(LEASE_MS / 2).await;
    assert!(scene.next().is_none(), "nobody renews it");
    scene.line.reconnected();
    let heals = scene.next().unwrap();
    let (id, ms) = heals.turn.renew[0];
    assert!(id == hold.id && ms <= LEASE_MS / 2 + 1_000, "{ms} ms, of which half were over");
}
