//! What comes late, or again and again, leaves ends where they are.

#![allow(clippy::panic, clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::scene::{LEASE_MS, Scene};
use crate::backoff::Backoff;
use crate::hold::Truth;
use crate::id::{ClientId, PermitId};
use crate::options::{Options, Renew, Wake};
use crate::store::Rule;

#[tokio::test(start_paused = true)]
async fn reconnects_push_the_end_of_a_manual_lease_nowhere() {
    let mut scene = Scene::new(1);
    let lease = Duration::from_secs(10);
    let options = Options {
        lease_ms: 10_000,
        renew: Renew::Manual,
        max_hold: None,
        backoff: Backoff::default(),
        wake: Wake::Push,
        max_queue: None,
    };
    let id = PermitId::new(ClientId::from_bits(7), 1, 1, 10_000);
    scene.line.enter(id, Rule::Wait, Arc::new(options));
    let granted_from = Instant::now();
    let turn = scene.next().unwrap();
    scene.run_and_settle(turn);
    let hold = scene.granted(1).unwrap();
    let mut named = 0;
    while matches!(hold.truth(), Truth::HeldUntil(_)) {
        scene.line.reconnected();
        while let Some(turn) = scene.next() {
            let left = lease.saturating_sub(granted_from.elapsed()).as_millis() as u64;
            for &(_, ms) in &turn.turn.renew {
                assert!(ms <= left, "named for {ms} ms, {left} before its end");
                named += 1;
            }
            scene.run_and_settle(turn);
        }
        scene.pass(100).await;
        assert!(granted_from.elapsed() <= lease, "held for {:?}", granted_from.elapsed());
    }
    assert!(named > 90 && granted_from.elapsed() >= lease * 9 / 10, "named {named} times");
}

#[tokio::test(start_paused = true)]
async fn a_grant_to_a_waiter_that_was_cancelled_and_forgotten_is_given_back() {
    let mut scene = Scene::new(1);
    let other = PermitId::new(ClientId::from_bits(8), 1, 1, LEASE_MS);
    scene.foreign(8, |turn| turn.admit.push((other, Rule::Wait)));
    let waiter = scene.enter();
    let turn = scene.next().unwrap();
    scene.run_and_settle(turn);
    scene.line.cancel(waiter, Instant::now());
    scene.pass(4 * LEASE_MS).await; // cut off meanwhile
    scene.line.tick(Instant::now());
    assert!(scene.next().is_none(), "the cancel is forgotten");
    let id = Scene::id(waiter);
    scene.line.wake(id, u64::MAX / 2, Instant::now());
    let turn = scene.next().unwrap();
    assert_eq!(turn.turn.cancel, [id]);
    scene.line.wake(id, u64::MAX / 2, Instant::now());
    scene.run_and_settle(turn);
    assert!(scene.next().is_none(), "once is enough");
}
