//! The lazy-deletion heap of instants at which permits need a look.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::harness::{Harness, LEASE, LEASE_MS};
use crate::compact_instant::CompactInstant;
use crate::driver::state::Deadlines;
use crate::hold::Truth;
use crate::options::Renew;
use crate::store::WhenFull;

#[tokio::test(start_paused = true)]
async fn what_has_moved_is_told_once_at_its_new_instant_and_leaves_nothing_behind() {
    let start = Instant::now();
    let at = |secs| CompactInstant::from(start + Duration::from_secs(secs));
    let mut deadlines = Deadlines::default();
    let mut instants = HashMap::new();
    for round in 0..100 {
        for counter in 0..10 {
            let next = at(round * 10 + counter);
            instants.insert(counter, next);
            deadlines.put(next, counter);
        }
        deadlines.forget(instants.len(), |counter| instants.get(&counter).copied());
        assert!(deadlines.len() < 100, "{} are remembered", deadlines.len());
    }
    instants.remove(&0);
    let mut told = Vec::new();
    while let Some(first) = deadlines.first(|counter| instants.get(&counter).copied()) {
        told.push(first);
        deadlines.pop();
    }
    let expected: Vec<_> = (1..10).map(|counter| (at(990 + counter), counter)).collect();
    assert_eq!(told, expected);
}

#[tokio::test(start_paused = true)]
async fn permits_that_are_renewed_again_and_again_have_one_deadline_each() {
    let mut harness = Harness::new(100);
    let mut holds = Vec::new();
    for _ in 0..100 {
        holds.push(harness.hold());
        harness.pass(7).await;
    }
    let mut renewals = 0;
    for _ in 0..10_000 {
        harness.pass(LEASE_MS / 1_000).await;
        while let Some(turn) = harness.next() {
            renewals += turn.turn.renew.len();
            harness.pass(3).await; // the answer takes a while
            harness.run_and_settle(turn);
        }
    }
    let told = harness.state.deadlines().len();
    assert!((100..=110).contains(&told), "{told} are remembered");
    assert!((2_900..=3_600).contains(&renewals), "{renewals} renewals in ten leases");
    assert!(holds.iter().all(|hold| matches!(hold.truth(), Truth::HeldUntil(_))));
}

/// Extends the lease of a permit `ms` milliseconds after its grant.
async fn extended_after(ms: u64, renew: Renew) -> Harness {
    let mut harness = Harness::new(1);
    let counter = harness.enter_renewing(WhenFull::Wait, LEASE_MS, renew);
    let turn = harness.next().unwrap();
    harness.run_and_settle(turn);
    harness.granted(counter).unwrap();
    harness.pass(ms).await;
    let (done, _extended) = oneshot::channel();
    harness.state.extend(counter, LEASE, done);
    let extends = harness.next().unwrap();
    harness.run_and_settle(extends);
    harness
}

#[tokio::test(start_paused = true)]
async fn an_extension_moves_the_next_renewal_unless_that_is_near() {
    let mut far = extended_after(9_000, Renew::Auto).await;
    far.pass(9_999).await;
    assert!(far.next().is_none());
    far.pass(1).await;
    assert_eq!(far.next().unwrap().turn.renew.len(), 1);
    let mut near = extended_after(1_000, Renew::Auto).await;
    assert_eq!(near.state.deadlines().len(), 1, "no stale entry");
    near.pass(9_000).await;
    assert_eq!(near.next().unwrap().turn.renew.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_nobody_renews_is_not_renewed_however_often_it_is_extended() {
    let mut harness = extended_after(1_000, Renew::Manual).await;
    harness.pass(LEASE_MS - 1_000 - 500).await; // past the first deadline
    assert!(harness.next().is_none());
}
