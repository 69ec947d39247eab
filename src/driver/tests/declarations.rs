//! When a turn declares the limit and the label of the client.

use std::time::Duration;

use tokio::time::{Instant, advance};

use super::harness::Harness;
use crate::error::StoreError;

/// Returns whether the next turn declares. It is answered.
fn declares(harness: &mut Harness) -> bool {
    harness.state.request_turn();
    let outgoing = harness.next().unwrap();
    let declares = outgoing.turn.declares;
    harness.run_and_settle(outgoing);
    declares
}

#[tokio::test(start_paused = true)]
async fn a_limit_is_declared_once_and_again_when_it_or_the_label_changes() {
    let mut harness = Harness::new(5); // its first turn has declared
    assert_eq!(harness.store.inspect(harness.micros).declared_limit, Some(5));
    assert!(!declares(&mut harness));
    harness.state.add_handle(3, &"".into());
    assert!(!declares(&mut harness), "the highest limit is the same");
    harness.state.add_handle(8, &"".into());
    assert!(declares(&mut harness));
    assert_eq!(harness.store.inspect(harness.micros).declared_limit, Some(8));
    assert!(!declares(&mut harness));
    harness.state.add_handle(8, &"a label".into());
    assert!(declares(&mut harness));
    harness.state.add_handle(8, &"a label".into());
    assert!(!declares(&mut harness));
}

#[tokio::test(start_paused = true)]
async fn a_declaration_is_said_again_after_a_third_of_an_hour_and_to_new_data() {
    let mut harness = Harness::new(5);
    advance(Duration::from_secs(1_199)).await;
    assert!(!declares(&mut harness));
    advance(Duration::from_secs(1)).await;
    assert!(declares(&mut harness));
    assert!(!declares(&mut harness));
    harness.store.lose_meta();
    assert!(!declares(&mut harness), "this turn finds the loss");
    assert!(declares(&mut harness));
    assert_eq!(harness.store.inspect(harness.micros).declared_limit, Some(5));
}

#[tokio::test(start_paused = true)]
async fn a_declaration_in_a_turn_without_an_answer_is_said_again() {
    let mut harness = Harness::new(5);
    harness.state.add_handle(8, &"".into());
    harness.state.request_turn();
    let lost = harness.next().unwrap();
    assert!(lost.turn.declares);
    harness.state.unanswered(lost.number, &StoreError::timeout("lost"), Instant::now());
    assert!(declares(&mut harness));
    assert!(!declares(&mut harness));
}

#[tokio::test(start_paused = true)]
async fn a_label_that_changes_while_a_turn_declares_is_declared_by_the_next_one() {
    let mut harness = Harness::new(5);
    harness.state.add_handle(8, &"old".into());
    harness.state.request_turn();
    let outgoing = harness.next().unwrap();
    assert!(outgoing.turn.declares);
    harness.state.add_handle(8, &"new".into());
    harness.run_and_settle(outgoing);
    assert!(declares(&mut harness));
    assert!(!declares(&mut harness));
}
