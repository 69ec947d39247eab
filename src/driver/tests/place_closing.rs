//! Places that no name uses are closed, but for one.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::node::{A, B, LEASE, Node, SOON};
use super::spread_store::Spread;
use super::waiting::Waiting;
use crate::id::PermitId;
use crate::store::WakeUp;

#[tokio::test(start_paused = true)]
async fn a_place_that_no_name_uses_is_closed_after_a_minute_and_opened_again() {
    let (spread, node) = Node::of_two_places();
    let kept = node.handle("a");
    node.hold("a").await.release();
    node.hold("b").await.leave();
    sleep(Duration::from_secs(59)).await;
    assert_eq!(spread.connections(B), 1);
    sleep(Duration::from_secs(2)).await;
    assert_eq!((spread.connections(A), spread.connections(B)), (1, 0));
    node.hold("b").await;
    assert_eq!(spread.connections(B), 1);
    drop(kept);
}

// Behaviour 81
#[tokio::test(start_paused = true)]
async fn the_store_is_told_of_a_place_that_was_closed() {
    let (spread, node) = Node::of_two_places();
    let kept = node.handle("a");
    node.hold("a").await.release();
    for _ in 0..2 {
        node.hold("b").await.leave();
        sleep(Duration::from_secs(61)).await;
    }
    assert_eq!(spread.left(), [(B, 0); 2]);
    drop(kept);
}

#[tokio::test(start_paused = true)]
async fn the_only_place_stays_open_though_no_name_uses_it() {
    let spread = Spread::new();
    let node = Node::new(&spread);
    node.hold("a").await.leave();
    sleep(Duration::from_secs(600)).await;
    assert!(node.shared.is_available());
    // Nor do all of several close.
    spread.move_name_and_tell("b", B);
    node.hold("b").await.leave();
    sleep(Duration::from_secs(600)).await;
    assert_eq!(spread.connections(A) + spread.connections(B), 1);
    assert!(node.shared.is_available());
}

#[tokio::test(start_paused = true)]
async fn the_first_place_is_closed_where_all_names_are_at_others() {
    let (spread, node) = Node::of_two_places();
    node.guard.ensure_driver().unwrap();
    sleep(SOON).await;
    let _held = node.hold("b").await;
    assert_eq!((spread.connections(A), spread.connections(B)), (1, 1));
    sleep(Duration::from_secs(61)).await;
    assert_eq!((spread.connections(A), spread.connections(B)), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_place_that_stayed_open_while_the_others_were_down_is_closed_later() {
    let (spread, node) = Node::of_two_places();
    let left = node.hold("a").await;
    let _used = node.hold("b").await;
    left.leave();
    spread.take_down(B);
    sleep(Duration::from_secs(61)).await;
    assert_eq!(spread.connections(A), 1, "it is the only one");
    spread.bring_up(B);
    sleep(Duration::from_secs(180)).await;
    assert_eq!((spread.connections(A), spread.connections(B)), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_place_with_a_name_that_nobody_holds_stays_open() {
    let (spread, node) = Node::of_two_places();
    let _kept = [node.handle("a"), node.handle("b")];
    node.hold("a").await.release();
    node.hold("b").await.release();
    let before = spread.listeners(B).remove(0);
    sleep(Duration::from_secs(600)).await;
    assert!(Arc::ptr_eq(&before, &spread.listeners(B)[0]), "it is the same connection");
}

#[tokio::test(start_paused = true)]
async fn a_place_that_has_not_answered_yet_stays_open_though_its_name_has_moved() {
    let spread = Spread::new();
    spread.move_name_and_tell("b", B);
    let node = Node::with_call_timeout(&spread, Duration::from_secs(100));
    node.hold("jobs").await.release();
    spread.hold_answers(A);
    let waiting = node.enter("jobs");
    sleep(SOON).await;
    spread.move_name_and_tell("jobs", B);
    let _used = node.hold("b").await;
    sleep(Duration::from_secs(90)).await;
    spread.let_answers_go(A);
    waiting.held_within(SOON).await;
}

#[tokio::test(start_paused = true)]
async fn a_name_that_comes_while_its_place_is_closed_is_served() {
    let spread = Spread::new();
    spread.move_name_and_tell("b", B);
    let node = Arc::new(Node::new(&spread));
    let _kept = node.hold("a").await;
    node.hold("b").await.leave();
    let (came, comes) = std::sync::mpsc::channel::<Waiting>();
    let enters = Arc::clone(&node);
    spread.on_close(B, move || came.send(enters.enter("b")).unwrap());
    sleep(Duration::from_secs(61)).await;
    comes.try_recv().unwrap().held_within(SOON).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_connection_to_a_closed_place_tells_counts_for_nothing() {
    let (spread, node) = Node::of_two_places();
    let _kept = node.hold("a").await;
    node.hold("b").await.leave();
    let of_closed = spread.listeners(B).remove(0);
    sleep(Duration::from_secs(61)).await;
    let _held = node.hold("b").await;
    let waiting = node.enter("b");
    sleep(SOON).await;
    let id = PermitId::new(node.shared.id(), waiting.counter, 1, LEASE);
    let before = spread.ran(B);
    of_closed.wake("b", id, WakeUp::Ask);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(spread.ran(B), before);
}
