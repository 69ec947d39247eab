//! Events that come late, or repeatedly, do not move deadlines.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::harness::{Harness, LEASE, LEASE_MS};
use crate::hold::Truth;
use crate::id::{ClientId, PermitId};
use crate::numbers::{Millis, Seq};
use crate::options::{Options, Renew};
use crate::store::{WakeUp, WhenFull};

#[tokio::test(start_paused = true)]
async fn reconnects_push_the_end_of_a_manual_lease_nowhere() {
    let mut harness = Harness::new(1);
    let lease = Duration::from_secs(10);
    let options = Options { renew: Renew::Manual, ..Options::with_lease(Millis::new(10_000)) };
    let id = PermitId::new(ClientId::from_bits(7), 1, 1, Millis::new(10_000));
    harness.state.enter(id, WhenFull::Wait, Arc::new(options));
    let granted_from = Instant::now();
    let turn = harness.next().unwrap();
    harness.run_and_settle(turn);
    let hold = harness.granted(1).unwrap();
    let mut named = 0;
    while matches!(hold.truth(), Truth::HeldUntil(_)) {
        harness.state.reconnected();
        while let Some(turn) = harness.next() {
            let left = lease.saturating_sub(granted_from.elapsed()).as_millis() as u64;
            for &(_, ms) in &turn.turn.renew {
                assert!(ms.get() <= left, "named for {ms} ms, {left} before its end");
                named += 1;
            }
            harness.run_and_settle(turn);
        }
        harness.pass(100).await;
        assert!(granted_from.elapsed() <= lease, "held for {:?}", granted_from.elapsed());
    }
    assert!(named > 90 && granted_from.elapsed() >= lease * 9 / 10, "named {named} times");
}

#[tokio::test(start_paused = true)]
async fn a_grant_to_a_waiter_that_was_cancelled_and_forgotten_is_given_back() {
    let mut harness = Harness::new(1);
    let other = PermitId::new(ClientId::from_bits(8), 1, 1, LEASE);
    harness.foreign(8, |turn| turn.admit.push((other, WhenFull::Wait)));
    let waiter = harness.enter();
    let turn = harness.next().unwrap();
    harness.run_and_settle(turn);
    harness.state.cancel(waiter, Instant::now());
    harness.pass(4 * LEASE_MS).await; // cut off meanwhile
    harness.state.tick(Instant::now());
    assert!(harness.next().is_none(), "the cancel is forgotten");
    let id = Harness::id(waiter);
    let granted = WakeUp::Granted(Seq::new(u64::MAX / 2).unwrap());
    harness.state.wake(id, granted, Instant::now());
    let turn = harness.next().unwrap();
    assert_eq!(turn.turn.cancel, [id]);
    harness.state.wake(id, granted, Instant::now());
    harness.run_and_settle(turn);
    assert!(harness.next().is_none(), "once is enough");
}
