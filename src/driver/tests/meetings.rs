//! When a turn tells the store that the server may be another one.

use tokio::time::Instant;

use super::harness::{Harness, LEASE_MS};
use crate::error::StoreError;
use crate::hold::Hold;
use crate::numbers::{Millis, ServerId};
use crate::store::{Meeting, Server, WhenFull};

/// Returns what the next turn tells. It is answered.
fn meets(harness: &mut Harness) -> Option<Meeting> {
    harness.state.request_turn();
    let outgoing = harness.next().unwrap();
    let meets = outgoing.turn.meets;
    harness.run_and_settle(outgoing);
    meets
}

/// Runs the next turn, as the session would send it, on the server of this number.
fn turn_on(harness: &mut Harness, server: u64) {
    let server = ServerId::new(server).unwrap();
    harness.store.move_to(server);
    harness.state.request_turn();
    let mut outgoing = harness.next().unwrap();
    if let Some(meeting) = &mut outgoing.turn.meets {
        meeting.server = Some(Server { id: server, up: Millis::new(3_600_000) });
    }
    harness.run_and_settle(outgoing);
}

fn is_held(hold: &Hold) -> bool {
    hold.lost_for().is_none()
}

#[tokio::test(start_paused = true)]
async fn the_first_turn_on_a_connection_meets_the_server() {
    let mut harness = Harness::new(5); // its first turn has met
    assert_eq!(meets(&mut harness), None);
    harness.state.reconnected();
    let known = harness.state.incarnation();
    assert!(known.is_some());
    assert_eq!(meets(&mut harness), Some(Meeting { known, grace: Millis::new(0), server: None }));
    assert_eq!(meets(&mut harness), None);
    harness.state.moved();
    assert!(meets(&mut harness).is_some(), "the name has come to another place");
    assert_eq!(meets(&mut harness), None);
}

#[tokio::test(start_paused = true)]
async fn a_meeting_without_an_answer_is_said_again() {
    let mut harness = Harness::new(5);
    harness.state.reconnected();
    harness.state.request_turn();
    let lost = harness.next().unwrap();
    assert!(lost.turn.meets.is_some());
    harness.state.unanswered(lost.number, &StoreError::timeout("lost"), Instant::now());
    assert!(meets(&mut harness).is_some());
    assert_eq!(meets(&mut harness), None);
}

#[tokio::test(start_paused = true)]
async fn another_incarnation_is_met_with_a_second_turn() {
    let mut harness = Harness::new(5);
    harness.store.lose_meta();
    assert_eq!(meets(&mut harness), None, "this turn finds the loss");
    assert_eq!(meets(&mut harness).unwrap().known, harness.state.incarnation());
    assert_eq!(meets(&mut harness), None);
}

#[tokio::test(start_paused = true)]
async fn the_longest_grace_of_the_living_handles_is_told_once() {
    let told = |harness: &mut Harness| meets(harness).map(|meeting| meeting.grace.get());
    let mut harness = Harness::new(5);
    harness.state.add_grace(Millis::new(40));
    harness.state.add_grace(Millis::new(40));
    assert_eq!(told(&mut harness), Some(40));
    harness.state.add_grace(Millis::new(7));
    assert_eq!(told(&mut harness), None, "the longest is the same");
    harness.state.add_grace(Millis::new(41));
    assert_eq!(told(&mut harness), Some(41));
    harness.state.remove_grace(Millis::new(41));
    harness.state.remove_grace(Millis::new(40));
    assert_eq!(told(&mut harness), None, "a shorter one is told to the next server");
    harness.state.reconnected();
    assert_eq!(told(&mut harness), Some(40));
    harness.state.remove_grace(Millis::new(40));
    harness.state.reconnected();
    assert_eq!(told(&mut harness), Some(7));
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_another_server_lacks_is_put_back_and_its_waiters_keep_their_order() {
    let mut harness = Harness::new(2);
    harness.state.reconnected();
    turn_on(&mut harness, 1);
    let kept = harness.hold();
    let older = harness.store.clone();
    let lacking = harness.hold();
    let waiter = harness.enter();
    turn_on(&mut harness, 1);
    let (before, seen) = (harness.state.incarnation(), lacking.token);
    harness.store = older;
    harness.state.reconnected();
    while harness.store.inspect(harness.micros).waiters_total == 0 {
        turn_on(&mut harness, 2);
    }
    assert_ne!(harness.state.incarnation(), before);
    assert!(is_held(&kept) && is_held(&lacking));
    assert_eq!(harness.store.inspect(harness.micros).in_use, 2);
    harness.release(&kept);
    turn_on(&mut harness, 2);
    assert!(harness.granted(waiter).unwrap().token > seen);
}

/// The same connection leads on, as through a proxy: only the numbers tell.
#[tokio::test(start_paused = true)]
async fn a_permit_is_put_back_where_only_the_numbers_tell_that_data_is_older() {
    let mut harness = Harness::new(2);
    let older = harness.store.clone();
    let lacking = harness.hold();
    harness.store = older;
    let before = harness.state.incarnation();
    turn_on(&mut harness, 1); // it finds out
    assert_ne!(harness.state.incarnation(), before);
    turn_on(&mut harness, 1);
    assert!(is_held(&lacking));
    assert_eq!(harness.store.inspect(harness.micros).in_use, 1);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_looks_again_when_the_grace_ends() {
    let mut harness = Harness::new(2);
    harness.state.add_grace(Millis::new(400));
    harness.state.reconnected();
    turn_on(&mut harness, 1);
    harness.state.reconnected();
    turn_on(&mut harness, 2);
    let waiter = harness.enter();
    turn_on(&mut harness, 2);
    assert!(harness.granted(waiter).is_none());
    let next = harness.state.next_look(true).unwrap() - Instant::now();
    assert!(next.as_millis() > 350 && next.as_millis() <= 400, "{next:?}");
    let refused = harness.enter_with(WhenFull::Refuse, 1_000);
    turn_on(&mut harness, 2);
    assert!(harness.is_refused(refused));
    tokio::time::advance(next).await;
    harness.micros += next.as_micros() as u64;
    let turn = harness.next().unwrap();
    harness.run_and_settle(turn);
    assert!(harness.granted(waiter).is_some());
}

// Behaviour 78
#[tokio::test(start_paused = true)]
async fn a_permit_that_was_released_leaves_older_data_before_others_are_put_back() {
    let mut harness = Harness::new(2);
    turn_on(&mut harness, 1);
    let released = harness.hold();
    let cancelled = harness.enter_with(WhenFull::Wait, LEASE_MS);
    let granted = harness.next().unwrap();
    harness.run_and_settle(granted);
    let older = harness.store.clone();
    harness.release(&released);
    harness.state.cancel(cancelled, Instant::now());
    turn_on(&mut harness, 1);
    let held = [harness.hold(), harness.hold()];
    harness.store = older;
    harness.state.reconnected();
    turn_on(&mut harness, 2);
    assert!(held.iter().all(|hold| is_held(hold)));
    assert_eq!(harness.store.inspect(harness.micros / 1000).in_use, 2);
    assert_eq!(harness.state.removals(), 0);
}

// Behaviour 78
#[tokio::test(start_paused = true)]
async fn the_last_128_ids_that_were_removed_are_remembered_and_eight_while_nobody_holds() {
    let mut harness = Harness::new(500);
    let holds: Vec<_> = (0..300).map(|_| harness.hold()).collect();
    holds[1..].iter().for_each(|hold| harness.release(hold));
    while let Some(turn) = harness.next() {
        harness.run_and_settle(turn);
    }
    harness.state.reconnected();
    assert_eq!(harness.state.removals(), 128);
    while let Some(turn) = harness.next() {
        harness.run_and_settle(turn);
    }
    harness.release(&holds[0]);
    while let Some(turn) = harness.next() {
        harness.run_and_settle(turn);
    }
    harness.state.reconnected();
    assert_eq!(harness.state.removals(), 8);
    harness.pass(10 * LEASE_MS).await;
    harness.next();
    assert_eq!(harness.state.removals(), 0, "no server knows them any more");
}
