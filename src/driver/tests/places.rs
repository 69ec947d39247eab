//! Places that are down or silent, and the end of a client that has several.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::node::{A, B, CALL_TIMEOUT, Held, LEASE, Node, SOON};
use super::spread_store::Spread;

#[tokio::test(start_paused = true)]
async fn a_place_that_is_down_costs_the_names_of_others_nothing() {
    let (spread, node) = Node::of_two_places();
    let held = node.hold("b").await;
    let other = node.hold("a").await;
    let waiting = node.enter("b");
    sleep(SOON).await;
    spread.take_down(B);
    sleep(SOON).await;
    assert!(held.driver.place().link().unconnected_since().is_some());
    assert!(held.driver.with(|state| state.outage(None).is_some()));
    for _ in 0..100 {
        node.hold("a2").await.release();
        assert!(other.driver.place().link().unconnected_since().is_none());
        assert!(other.driver.with(|state| state.outage(None).is_none()));
    }
    assert!(other.is_held());
    assert!(node.shared.is_available(), "a place answers");
    let heard = node.shared.last_heard();
    assert!(heard > held.driver.place().link().last_heard());
    assert_eq!(heard, other.driver.place().link().last_heard());
    spread.bring_up(B);
    sleep(CALL_TIMEOUT).await;
    assert!(held.is_held(), "it came back within the lease");
    held.release();
    waiting.held_within(SOON).await;
    spread.take_down(A);
    spread.take_down(B);
    sleep(SOON).await;
    assert!(!node.shared.is_available());
}

#[tokio::test(start_paused = true)]
async fn a_place_that_is_silent_costs_the_names_of_others_nothing() {
    let (spread, node) = Node::of_two_places();
    let held = node.hold("b").await;
    let other = node.hold("a").await;
    let waiting = node.enter("b");
    spread.hold(B);
    let end = Instant::now() + LEASE.duration() * 3;
    while Instant::now() < end {
        node.hold("a2").await.release();
        sleep(SOON).await;
        assert!(other.is_held() && other.driver.with(|state| state.outage(None).is_none()));
    }
    assert_eq!(spread.connections(A), 1, "it was not given up");
    assert!(!held.is_held(), "nobody renewed it");
    spread.let_go(B);
    waiting.held_within(Duration::from_secs(2)).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_ends_when_the_drivers_of_all_its_places_have_given_back_what_is_left() {
    let (spread, node) = Node::of_two_places();
    let held = [node.hold("a").await, node.hold("b").await];
    spread.hold(B);
    held.into_iter().for_each(Held::release);
    let Node { shared, guard } = node;
    drop(guard);
    sleep(SOON).await;
    assert!(!shared.has_ended(), "the release at one place is not confirmed");
    assert_eq!(spread.connections(A), 0);
    spread.let_go(B);
    sleep(SOON).await;
    assert!(shared.has_ended());
    assert_eq!(spread.connections(B), 0);
    assert_eq!(shared.unflushed(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_place_that_is_down_does_not_keep_the_end_of_a_client_up() {
    let (spread, node) = Node::of_two_places();
    let held = [node.hold("a").await, node.hold("b").await];
    spread.take_down(B);
    held.into_iter().for_each(Held::release);
    let Node { shared, guard } = node;
    drop(guard);
    sleep(CALL_TIMEOUT * 2 + SOON).await;
    assert!(shared.has_ended());
}

#[test]
fn a_runtime_that_ends_ends_the_client_with_all_its_places() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let shared = runtime.block_on(async {
        let spread = Spread::new();
        spread.move_name_and_tell("b", B);
        let node = Node::new(&spread);
        let held = [node.hold("a").await, node.hold("b").await];
        std::mem::forget(held);
        Arc::clone(&node.shared)
    });
    drop(runtime);
    assert!(shared.has_ended());
    assert!(!shared.is_available());
}

#[tokio::test(start_paused = true)]
async fn a_place_that_never_connects_delays_neither_the_others_nor_the_end() {
    let spread = Spread::new();
    spread.move_name_and_tell("b", B);
    spread.take_down(B);
    let node = Node::new(&spread);
    let waiting = node.enter("b");
    let held = node.hold("a").await;
    sleep(Duration::from_secs(5)).await;
    assert!(waiting.granted().is_none() && held.is_held());
    held.release();
    node.shared.close();
    let Node { shared, guard } = node;
    tokio::time::timeout(SOON, shared.until_flushed()).await.unwrap();
    drop((guard, waiting));
    sleep(SOON).await;
    assert!(shared.has_ended());
}
