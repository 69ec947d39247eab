//! News of a place that cuts the pause before the next connection short.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::node::{A, B, Node, SOON};
use super::spread_store::Spread;

/// After this time without a server, pauses are up to five seconds long.
const LONG_OUTAGE: Duration = Duration::from_secs(300);
/// The bound of a pause that was cut short, and a turn.
const AT_ONCE: Duration = Duration::from_millis(60);

// Behaviour 88
#[tokio::test(start_paused = true)]
async fn after_a_long_outage_a_place_is_connected_to_as_soon_as_there_is_news_of_it() {
    let spread = Spread::new();
    let node = Node::new(&spread);
    for _ in 0..5 {
        node.hold("jobs").await.release();
        spread.take_down(A);
        let waiting = node.enter("jobs");
        sleep(LONG_OUTAGE).await;
        spread.bring_up(A);
        spread.tell_news(A);
        waiting.held_within(AT_ONCE).await.release();
    }
}

// Behaviour 88
#[tokio::test(start_paused = true)]
async fn news_of_another_place_brings_no_attempt_forward() {
    let spread = Spread::new();
    let node = Node::new(&spread);
    spread.take_down(A);
    let waiting = node.enter("jobs");
    let mut slow = 0;
    for _ in 0..10 {
        sleep(LONG_OUTAGE).await;
        let since = Instant::now();
        spread.tell_news(B);
        sleep(AT_ONCE).await;
        slow += usize::from(spread.tries_since(since, A).is_empty());
    }
    assert!(slow >= 5, "only {slow} of 10 pauses went on");
    spread.bring_up(A);
    waiting.held_after().await;
}

// Behaviour 88
#[tokio::test(start_paused = true)]
async fn after_a_long_outage_a_place_is_connected_to_as_soon_as_a_name_comes_there() {
    let spread = Spread::new();
    let node = Node::new(&spread);
    for nth in 0..5 {
        let (stays, comes) = (format!("stays-{nth}"), format!("comes-{nth}"));
        spread.move_name_and_tell(&stays, B);
        node.hold(&stays).await.release();
        let held = node.hold(&comes).await;
        let waiting = node.enter(&comes);
        spread.take_down(B);
        let other = node.enter(&stays);
        sleep(LONG_OUTAGE).await;
        spread.bring_up(B);
        spread.move_name_and_tell(&comes, B);
        sleep(AT_ONCE).await;
        held.release();
        waiting.held_within(SOON).await.release();
        other.held_within(SOON).await.release();
    }
}

// Behaviour 88
#[tokio::test(start_paused = true)]
async fn clients_that_hear_the_same_news_do_not_connect_at_the_same_instant() {
    let spread = Spread::new();
    let nodes: Vec<_> = (0..200).map(|_| Node::new(&spread)).collect();
    spread.take_down(A);
    let waiting: Vec<_> = nodes.iter().map(|node| node.enter("jobs")).collect();
    sleep(LONG_OUTAGE).await;
    let since = Instant::now();
    spread.tell_news(A);
    sleep(AT_ONCE).await;
    let mut by_millisecond = BTreeMap::<_, usize>::new();
    let tries = spread.tries_since(since, A);
    assert!(tries.len() >= nodes.len(), "{} of {}", tries.len(), nodes.len());
    for at in tries {
        *by_millisecond.entry((at - since).as_millis()).or_default() += 1;
    }
    let most = by_millisecond.values().max().unwrap();
    assert!(*most <= 30, "{most} clients in one millisecond");
    drop(waiting);
}

// Behaviour 88
#[tokio::test(start_paused = true)]
async fn a_store_that_always_has_news_makes_no_busy_loop() {
    let spread = Spread::new();
    let node = Node::new(&spread);
    spread.always_has_news();
    spread.take_down(A);
    let waiting = node.enter("jobs");
    sleep(LONG_OUTAGE).await;
    let (since, time) = (Instant::now(), Duration::from_secs(60));
    sleep(time).await;
    let tries = spread.tries_since(since, A).len();
    assert!((60..900).contains(&tries), "{tries} tries in {time:?}");
    spread.bring_up(A);
    waiting.held_after().await;
}
