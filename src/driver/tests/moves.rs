//! Names that come to other places.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::node::{A, B, C, CALL_TIMEOUT, Held, LEASE, Node, SOON};
use super::spread_store::{Said, Spread};
use crate::id::PermitId;
use crate::store::{WakeListener, WakeUp};

#[tokio::test(start_paused = true)]
async fn names_are_counted_at_their_places() {
    let spread = Spread::new();
    spread.move_name_and_tell("b", B);
    spread.move_name_and_tell("c", C);
    let node = Node::new(&spread);
    let held = [node.hold("a").await, node.hold("b").await, node.hold("c").await];
    assert_eq!([A, B, C].map(|place| spread.ran(place)), [1, 1, 1]);
    held.into_iter().for_each(Held::release);
    sleep(SOON).await;
    assert_eq!([A, B, C].map(|place| spread.ran(place)), [2, 2, 2]);
}

/// Whether the client is told of the move, or finds out by a turn.
async fn a_move_costs_neither_permits_nor_places(told: bool) {
    let spread = Spread::new();
    let [one, two] = [(); 2].map(|()| Node::new(&spread));
    let held = one.hold("jobs").await;
    let first = one.enter("jobs");
    sleep(SOON).await;
    let second = two.enter("jobs");
    sleep(SOON).await;
    let token = held.hold.token;
    let before = spread.ran(A);
    let sent_on = usize::from(!told);
    match told {
        true => spread.move_name_and_tell("jobs", B),
        false => spread.move_name("jobs", B),
    }
    // Renewals and heartbeats go on there.
    sleep(LEASE.duration() * 4).await;
    assert!(held.is_held());
    assert!(first.granted().is_none() && second.granted().is_none());
    assert_eq!(spread.ran(A), before);
    assert!(spread.sent_on(A) <= sent_on * 2, "each client asks once");
    held.release();
    let held = first.held_within(SOON).await;
    assert!(held.hold.token > token);
    sleep(SOON).await;
    assert!(second.granted().is_none());
    held.release();
    second.held_within(SOON).await;
}

#[tokio::test(start_paused = true)]
async fn a_name_that_moves_takes_its_holders_and_waiters_along_in_their_order() {
    a_move_costs_neither_permits_nor_places(true).await;
}

#[tokio::test(start_paused = true)]
async fn a_move_that_is_found_out_by_a_turn_costs_neither_permits_nor_places() {
    a_move_costs_neither_permits_nor_places(false).await;
}

#[tokio::test(start_paused = true)]
async fn a_turn_in_flight_lands_where_it_was_sent_though_its_name_moves() {
    let spread = Spread::new();
    let [one, two] = [(); 2].map(|()| Node::new(&spread));
    one.hold("jobs").await.release();
    two.hold("jobs").await.release();
    sleep(SOON).await;
    spread.hold_answers(A);
    let granted = one.enter("jobs");
    sleep(SOON).await;
    spread.move_name_and_tell("jobs", B);
    let waiting = two.enter("jobs");
    sleep(SOON).await;
    assert!(granted.granted().is_none(), "its answer is on its way");
    assert!(waiting.granted().is_none(), "the unit is taken");
    spread.let_answers_go(A);
    let held = granted.held_within(SOON).await;
    held.release();
    waiting.held_within(SOON).await;
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_is_refused_after_the_move_is_said_again_at_the_new_place() {
    let spread = Spread::new();
    let node = Node::new(&spread);
    let held = node.hold("jobs").await;
    spread.hold(A);
    let waiting = node.enter("jobs");
    sleep(SOON).await; // its turn is at the old place
    spread.move_name_and_tell("jobs", B);
    sleep(SOON).await;
    let before = spread.ran(A);
    held.release(); // behind the turn in flight
    sleep(SOON).await;
    assert!(waiting.granted().is_none(), "nothing overtakes the turn in flight");
    spread.let_go(A);
    waiting.held_within(SOON).await;
    assert_eq!(spread.ran(A), before);
    assert_eq!([A, B].map(|place| node.shared.place(place).names()), [0, 1], "it has moved once");
}

#[tokio::test(start_paused = true)]
async fn a_turn_whose_old_place_breaks_is_written_off_and_said_again_at_the_new_one() {
    let spread = Spread::new();
    let node = Node::new(&spread);
    node.hold("jobs").await.release();
    spread.hold(A);
    let waiting = node.enter("jobs");
    sleep(SOON).await;
    spread.move_name_and_tell("jobs", B);
    sleep(SOON).await;
    assert!(waiting.granted().is_none());
    spread.take_down(A);
    waiting.held_within(SOON).await;
}

#[tokio::test(start_paused = true)]
async fn a_name_that_waits_for_its_turn_at_a_silent_place_is_served_at_once_where_it_moves() {
    let spread = Spread::new();
    let node = Node::new(&spread);
    node.hold("jobs").await.release();
    sleep(SOON).await;
    spread.hold(A);
    let _in_flight: Vec<_> = (0..300).map(|n| node.enter(&format!("other{n}"))).collect();
    sleep(SOON).await;
    let waiting = node.enter("jobs");
    sleep(SOON).await;
    spread.move_name_and_tell("jobs", B);
    waiting.held_within(SOON).await;
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_sent_to_and_fro_is_served_when_the_places_agree() {
    let spread = Spread::new();
    let node = Node::new(&spread);
    node.hold("jobs").await.release();
    for hop in 0..20 {
        spread.move_name("jobs", if hop % 2 == 0 { B } else { A });
        sleep(Duration::from_millis(1)).await;
        let waiting = node.enter("jobs");
        waiting.held_within(SOON).await.release();
        sleep(SOON).await;
    }
}

#[tokio::test(start_paused = true)]
async fn holders_and_waiters_ask_the_new_place_at_once() {
    let spread = Spread::new();
    spread.move_name_and_tell("b", B);
    let [one, two] = [(); 2].map(|()| Node::new(&spread));
    one.hold("b").await.release();
    two.hold("b").await.release(); // both are connected
    let _held = one.hold("jobs").await;
    let _waiting = two.enter("jobs");
    sleep(SOON).await;
    let before = spread.ran(B);
    spread.move_name_and_tell("jobs", B);
    sleep(SOON).await;
    let mut said = spread.said(B).split_off(before);
    said.sort();
    let nothing = Said { renewed: 0, asked: 0, admitted: 0 };
    assert_eq!(said, [Said { asked: 1, ..nothing }, Said { renewed: 1, ..nothing }]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_pipelined_at_the_new_place_behind_a_turn_at_the_old_one() {
    let spread = Spread::new();
    let node = Node::new(&spread);
    node.hold("jobs").await.release();
    sleep(SOON).await;
    spread.hold(A);
    let _in_flight = node.enter("jobs");
    sleep(SOON).await;
    spread.move_name_and_tell("jobs", B);
    let _behind = node.enter("jobs");
    sleep(SOON).await;
    assert_eq!(spread.ran(B), 0);
}

#[tokio::test(start_paused = true)]
async fn what_an_old_connection_or_an_old_place_tells_counts_for_nothing() {
    let spread = Spread::new();
    let node = Node::new(&spread);
    let _held = node.hold("jobs").await;
    let waiting = node.enter("jobs");
    sleep(SOON).await;
    let id = PermitId::new(node.shared.id(), waiting.counter, 1, LEASE);
    let of_old_connection = spread.listeners(A).remove(0);
    spread.take_down(A);
    spread.bring_up(A);
    sleep(CALL_TIMEOUT).await;
    let of_old_place = spread.listeners(A).remove(0);
    let turns_after = async |listener: &dyn WakeListener, place| {
        let before = spread.ran(place);
        listener.wake("jobs", id, WakeUp::Ask);
        sleep(Duration::from_millis(1)).await;
        spread.ran(place) - before
    };
    assert_eq!(turns_after(&*of_old_connection, A).await, 0);
    assert_eq!(turns_after(&*of_old_place, A).await, 1, "it is the present one");
    spread.move_name_and_tell("jobs", B);
    sleep(SOON).await;
    assert_eq!(turns_after(&*of_old_place, B).await, 0);
    assert_eq!(turns_after(&*spread.listeners(B).remove(0), B).await, 1);
}

/// Real threads: nobody is forgotten in whichever order a caller, the old driver and the new one come.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn names_that_move_all_the_time_are_served_and_counted() {
    let spread = Spread::new();
    let node = Arc::new(Node::new(&spread));
    let end = Instant::now() + Duration::from_millis(500);
    let mover = tokio::spawn({
        let spread = Arc::clone(&spread);
        async move {
            while Instant::now() < end {
                let name = format!("jobs{}", fastrand::u8(..20));
                let place = [A, B, C][fastrand::usize(..3)];
                match fastrand::bool() {
                    true => spread.move_name_and_tell(&name, place),
                    false => spread.move_name(&name, place),
                }
                sleep(Duration::from_micros(200)).await;
            }
        }
    });
    let callers = (0..60).map(|nth| {
        let node = Arc::clone(&node);
        tokio::spawn(async move {
            while Instant::now() < end {
                let waiting = node.enter(&format!("jobs{}", nth % 20));
                let (_, held) = waiting.held_after().await;
                held.leave();
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    mover.await.unwrap();
    let names = || [A, B, C].map(|place| node.shared.place(place).names());
    let start = Instant::now();
    while names() != [0, 0, 0] {
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", names());
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(node.shared.unflushed(), 0);
}
