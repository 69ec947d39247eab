//! Several places: names that come to other places, and places that are down.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::spread_store::{Spread, SpreadStore};
use super::waiting::Waiting;
use crate::driver::{DriverHandle, DropGuard, Shared};
use crate::hold::{Hold, Truth};
use crate::id::PermitId;
use crate::numbers::{Millis, PlaceId};
use crate::store::{WakeListener, WakeUp};

const CALL_TIMEOUT: Duration = Duration::from_millis(500);
const LEASE: Millis = Millis::new(3_000);
/// More than any turn of a place that is well.
pub(super) const SOON: Duration = Duration::from_millis(10);
pub(super) const A: PlaceId = PlaceId::FIRST;
pub(super) const B: PlaceId = PlaceId::new(1);
const C: PlaceId = PlaceId::new(2);

pub(super) struct Node {
    shared: Arc<Shared>,
    guard: Arc<DropGuard>,
}

impl Node {
    pub(super) fn new(spread: &Arc<Spread>) -> Self {
        let store = Box::new(SpreadStore(Arc::clone(spread)));
        let shared = Shared::new(store, CALL_TIMEOUT, "".into());
        Self { guard: Arc::new(DropGuard::new(Arc::clone(&shared))), shared }
    }

    /// A handle with the limit 1.
    fn handle(&self, name: &str) -> DriverHandle {
        let cell = self.shared.semaphore(name, 1, &"".into());
        DriverHandle::new(cell, Arc::clone(&self.guard))
    }

    /// Lets a waiter enter.
    pub(super) fn enter(&self, name: &str) -> Waiting {
        self.guard.ensure_driver().unwrap();
        Waiting::enter(self.handle(name), &self.shared, LEASE)
    }

    /// Lets somebody hold the unit of a name.
    pub(super) async fn hold(&self, name: &str) -> Held {
        self.enter(name).held_within(SOON).await
    }
}

impl Waiting {
    /// Returns after which time the waiter has a permit, and the permit.
    pub(super) async fn held_after(self) -> (Duration, Held) {
        let start = Instant::now();
        loop {
            if let Some(hold) = self.granted() {
                return (start.elapsed(), Held { driver: self.driver, hold });
            }
            sleep(Duration::from_millis(1)).await;
            assert!(start.elapsed() < Duration::from_secs(60), "nobody serves it");
        }
    }

    pub(super) async fn held_within(self, longest: Duration) -> Held {
        let (after, held) = self.held_after().await;
        assert!(after <= longest, "{after:?}");
        held
    }
}

pub(super) struct Held {
    driver: DriverHandle,
    hold: Arc<Hold>,
}

impl Held {
    fn is_held(&self) -> bool {
        matches!(self.hold.truth(), Truth::HeldUntil(_))
    }

    pub(super) fn release(self) {
        assert!(self.hold.release());
        self.driver.update(|state| state.give_back(self.hold.id.counter(), None));
    }
}

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
    match told {
        true => spread.move_name_and_tell("jobs", B),
        false => spread.move_name("jobs", B),
    }
    // Renewals and heartbeats go on there.
    sleep(LEASE.duration() * 4).await;
    assert!(held.is_held());
    assert!(first.granted().is_none() && second.granted().is_none());
    assert_eq!(spread.ran(A), before);
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
async fn a_place_that_is_down_costs_the_names_of_others_nothing() {
    let spread = Spread::new();
    spread.move_name_and_tell("b", B);
    let node = Node::new(&spread);
    let held = node.hold("b").await;
    let other = node.hold("a").await;
    let waiting = node.enter("b");
    sleep(SOON).await;
    spread.take_down(B);
    sleep(SOON).await;
    assert!(held.driver.place().link().unconnected_since().is_some());
    assert!(held.driver.with(|state| state.outage().is_some()));
    for _ in 0..100 {
        node.hold("a2").await.release();
        assert!(other.driver.place().link().unconnected_since().is_none());
        assert!(other.driver.with(|state| state.outage().is_none()));
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
    let spread = Spread::new();
    spread.move_name_and_tell("b", B);
    let node = Node::new(&spread);
    let held = node.hold("b").await;
    let other = node.hold("a").await;
    let waiting = node.enter("b");
    spread.hold(B);
    let end = Instant::now() + LEASE.duration() * 3;
    while Instant::now() < end {
        node.hold("a2").await.release();
        sleep(SOON).await;
        assert!(other.is_held() && other.driver.with(|state| state.outage().is_none()));
    }
    assert_eq!(spread.connections(A), 1, "it was not given up");
    assert!(!held.is_held(), "nobody renewed it");
    spread.let_go(B);
    waiting.held_within(Duration::from_secs(2)).await;
}

#[tokio::test(start_paused = true)]
async fn a_place_that_no_name_uses_is_closed_after_a_minute_and_opened_again() {
    let spread = Spread::new();
    spread.move_name_and_tell("b", B);
    let node = Node::new(&spread);
    let kept = node.handle("a");
    node.hold("a").await.release();
    let used = node.enter("b");
    let held = used.held_within(SOON).await;
    let driver = held.driver.clone();
    held.release();
    driver.update(|state| state.remove_handle(1));
    drop(driver);
    sleep(Duration::from_secs(59)).await;
    assert_eq!(spread.connections(B), 1);
    sleep(Duration::from_secs(2)).await;
    assert_eq!((spread.connections(A), spread.connections(B)), (1, 0));
    node.hold("b").await;
    assert_eq!(spread.connections(B), 1);
    drop(kept);
}

#[tokio::test(start_paused = true)]
async fn the_only_place_stays_open_though_no_name_uses_it() {
    let spread = Spread::new();
    let node = Node::new(&spread);
    let held = node.hold("a").await;
    let driver = held.driver.clone();
    held.release();
    driver.update(|state| state.remove_handle(1));
    sleep(Duration::from_secs(600)).await;
    assert!(node.shared.is_available());
    // Nor do all of several close.
    spread.move_name_and_tell("b", B);
    let held = node.hold("b").await;
    let driver = held.driver.clone();
    held.release();
    driver.update(|state| state.remove_handle(1));
    sleep(Duration::from_secs(600)).await;
    assert_eq!(spread.connections(A) + spread.connections(B), 1);
    assert!(node.shared.is_available());
}

#[tokio::test(start_paused = true)]
async fn the_first_place_is_closed_where_all_names_are_at_others() {
    let spread = Spread::new();
    spread.move_name_and_tell("b", B);
    let node = Node::new(&spread);
    node.guard.ensure_driver().unwrap();
    sleep(SOON).await;
    let _held = node.hold("b").await;
    assert_eq!((spread.connections(A), spread.connections(B)), (1, 1));
    sleep(Duration::from_secs(61)).await;
    assert_eq!((spread.connections(A), spread.connections(B)), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_place_that_stayed_open_while_the_others_were_down_is_closed_later() {
    let spread = Spread::new();
    spread.move_name_and_tell("b", B);
    let node = Node::new(&spread);
    let held = node.hold("a").await;
    let _used = node.hold("b").await;
    let driver = held.driver.clone();
    held.release();
    driver.update(|state| state.remove_handle(1));
    drop(driver);
    spread.take_down(B);
    sleep(Duration::from_secs(61)).await;
    assert_eq!(spread.connections(A), 1, "it is the only one");
    spread.bring_up(B);
    sleep(Duration::from_secs(180)).await;
    assert_eq!((spread.connections(A), spread.connections(B)), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_client_ends_when_the_drivers_of_all_its_places_have_given_back_what_is_left() {
    let spread = Spread::new();
    spread.move_name_and_tell("b", B);
    let node = Node::new(&spread);
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
    let spread = Spread::new();
    spread.move_name_and_tell("b", B);
    let node = Node::new(&spread);
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
                let driver = held.driver.clone();
                held.release();
                driver.update(|state| state.remove_handle(1));
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

#[tokio::test(start_paused = true)]
async fn holders_and_waiters_ask_the_new_place_at_once() {
    let spread = Spread::new();
    let [one, two] = [(); 2].map(|()| Node::new(&spread));
    let _held = one.hold("jobs").await;
    let _waiting = two.enter("jobs");
    sleep(SOON).await;
    spread.move_name_and_tell("jobs", B);
    sleep(SOON).await;
    assert_eq!(spread.ran(B), 2, "a renewal and a question");
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
