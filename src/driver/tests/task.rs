//! The driver's task over a store that answers when the test says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::oneshot;
use tokio::time::{Instant, advance, sleep};

use super::slow_store::{Sessions, Slow, SlowStore};
use super::waiting::Waiting;
use crate::driver::cell::SemaphoreCell;
use crate::driver::{DriverHandle, DropGuard, NoSession, Shared};
use crate::error::{StoreError, StoreErrorKind};
use crate::hold::Hold;
use crate::numbers::Millis;
use crate::store::memory::MemoryState;
use crate::store::{Turn, TurnAnswer};

const CALL_TIMEOUT: Duration = Duration::from_millis(500);
const LEASE: Millis = Millis::new(30_000);
/// More than any pause between two connections.
const SOON: Duration = Duration::from_millis(100);

/// A client whose driver runs.
struct Scene {
    shared: Arc<Shared>,
    guard: Arc<DropGuard>,
    sessions: Sessions,
    /// How many sessions the store opens.
    most: Arc<AtomicUsize>,
    /// What the store knows of each name.
    names: BTreeMap<String, MemoryState>,
    start: Instant,
}

impl Scene {
    fn new(has_io: bool, most: usize) -> Self {
        let sessions = Sessions::default();
        let most = Arc::new(AtomicUsize::new(most));
        let store = SlowStore { sessions: Arc::clone(&sessions), most: Arc::clone(&most), has_io };
        let shared = Shared::new(Box::new(store), CALL_TIMEOUT, "".into());
        let guard = Arc::new(DropGuard::new(Arc::clone(&shared)));
        guard.ensure_driver().unwrap();
        Self { shared, guard, sessions, most, names: BTreeMap::new(), start: Instant::now() }
    }

    fn cell(&self, name: &str) -> Arc<SemaphoreCell> {
        self.shared.semaphore(name, 1, &"".into(), None)
    }

    /// Lets a waiter enter.
    fn enter(&self, name: &str, lease: Millis) -> Waiting {
        let driver = DriverHandle::new(self.cell(name), Arc::clone(&self.guard));
        Waiting::enter(driver, &self.shared, lease)
    }

    fn session(&self, nth: usize) -> Arc<Slow> {
        Arc::clone(&self.sessions.lock().unwrap()[nth])
    }

    fn opened(&self) -> usize {
        self.sessions.lock().unwrap().len()
    }

    /// What the store answers to a turn, if it runs now.
    fn run(&mut self, turn: &Turn) -> TurnAnswer {
        let micros = 1_000_000_000_000_000 + self.start.elapsed().as_micros() as u64;
        let state = self.names.entry(turn.name.to_string()).or_default();
        Ok(state.turn(turn, micros).0)
    }

    /// Lets somebody hold a permit of "jobs".
    async fn hold(&mut self) -> (Waiting, Arc<Hold>) {
        let waiting = self.enter("jobs", LEASE);
        sleep(SOON).await;
        self.answer_all();
        sleep(SOON).await;
        let hold = waiting.granted().unwrap();
        (waiting, hold)
    }

    /// Answers what was sent on the latest connection, and returns the names of the turns.
    fn answer_all(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        for sent in self.session(self.opened() - 1).take() {
            sent.answer(|turn| {
                names.push(turn.name.to_string());
                self.run(turn)
            });
        }
        names
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_given_up_for_an_answer_is_replaced() {
    let scene = Scene::new(false, usize::MAX);
    let waiting = scene.enter("jobs", LEASE);
    sleep(SOON).await;
    let [sent] = scene.session(0).take().try_into().ok().unwrap();
    sent.answer(|_| Err(StoreError::new(StoreErrorKind::ReadOnly, "a replica")));
    sleep(SOON).await;
    assert_eq!(scene.opened(), 2);
    assert!(waiting.granted().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_replaced() {
    let scene = Scene::new(false, usize::MAX);
    let _waiting = scene.enter("jobs", LEASE);
    sleep(CALL_TIMEOUT * 3 + SOON).await;
    assert_eq!(scene.opened(), 2);
}

#[tokio::test(start_paused = true)]
async fn names_that_waited_for_others_are_served_when_those_have_landed() {
    let mut scene = Scene::new(false, 1);
    let waiting: Vec<_> = (0..700).map(|nth| scene.enter(&nth.to_string(), LEASE)).collect();
    for in_flight in [256, 256, 188] {
        sleep(Duration::from_millis(10)).await;
        assert_eq!(scene.answer_all().len(), in_flight);
    }
    sleep(Duration::from_millis(10)).await;
    assert!(waiting.iter().all(|waiting| waiting.granted().is_some()));
}

#[tokio::test(start_paused = true)]
async fn names_that_waited_for_others_are_served_when_those_are_written_off() {
    let scene = Scene::new(false, 1);
    let _waiting: Vec<_> = (0..300).map(|nth| scene.enter(&nth.to_string(), LEASE)).collect();
    sleep(CALL_TIMEOUT + SOON).await;
    let sent = scene.session(0).take();
    let names: BTreeSet<String> =
        sent.iter().flat_map(|sent| &sent.turns).map(|turn| turn.name.to_string()).collect();
    assert_eq!(names.len(), 300);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_came_before_its_connection_broke_counts() {
    let mut scene = Scene::new(true, 2);
    let granted = scene.enter("granted", LEASE);
    sleep(SOON).await;
    let asked = scene.enter("asked", LEASE);
    sleep(SOON).await;
    let [sent, _unanswered] = scene.session(0).take().try_into().ok().unwrap();
    sent.answer(|turn| scene.run(turn));
    scene.session(0).break_off();
    sleep(Duration::from_millis(1)).await;
    assert!(granted.granted().is_some());
    assert_eq!(scene.opened(), 1, "before the next connection");
    sleep(SOON).await;
    assert_eq!(scene.opened(), 2);
    assert!(scene.answer_all().contains(&"asked".to_owned()));
    sleep(SOON).await;
    assert!(asked.granted().is_some());
}

#[tokio::test(start_paused = true)]
async fn each_name_is_heard_while_others_are_in_flight() {
    let scene = Scene::new(false, 1);
    let mut sent = Vec::new();
    for nth in 1..=4 {
        let _waiting = scene.enter(&nth.to_string(), LEASE);
        sleep(Duration::from_millis(1)).await;
        sent.extend(scene.session(0).take());
        assert_eq!(sent.len(), nth);
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_not_used_any_more_leaves_nothing_behind() {
    let mut scene = Scene::new(false, 1);
    let (waiting, hold) = scene.hold().await;
    assert!(hold.release());
    waiting.driver.update(|state| {
        state.give_back(hold.id.counter(), None);
        state.remove_handle(1);
    });
    let cell = Arc::downgrade(&scene.cell("jobs"));
    waiting.driver.update(|state| state.remove_handle(1));
    drop(waiting);
    sleep(SOON).await;
    assert!(cell.upgrade().is_some(), "the store has not confirmed the release");
    scene.answer_all();
    sleep(SOON).await;
    assert!(cell.upgrade().is_none());
}

/// Returns after which time the driver has ended.
async fn ends_after(scene: Scene) -> Duration {
    let Scene { shared, guard, .. } = scene;
    let start = Instant::now();
    drop(guard);
    let has_ended = || {
        let outcome = shared.first_connection().now_or_never();
        outcome.is_some_and(|outcome| matches!(outcome, Err(NoSession::Ended)))
    };
    while !has_ended() {
        sleep(Duration::from_millis(1)).await;
        assert!(start.elapsed() < CALL_TIMEOUT * 20, "it goes on");
    }
    start.elapsed()
}

/// A client whose permit was released, and whose store does not answer any more.
async fn unconfirmed(has_io: bool) -> Scene {
    let mut scene = Scene::new(has_io, 1);
    let (waiting, hold) = scene.hold().await;
    assert!(hold.release());
    waiting.driver.update(|state| state.give_back(hold.id.counter(), None));
    scene
}

#[tokio::test(start_paused = true)]
async fn the_driver_ends_though_its_store_is_silent() {
    let patience = CALL_TIMEOUT * 2;
    let after = ends_after(unconfirmed(false).await).await;
    assert!(patience <= after && after < patience + SOON, "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn the_driver_ends_at_once_if_its_store_has_long_been_away() {
    let scene = unconfirmed(true).await;
    scene.session(0).break_off();
    sleep(CALL_TIMEOUT * 3).await;
    let after = ends_after(scene).await;
    assert!(after < SOON, "{after:?}");
}

/// A waker that makes a handle when it is woken.
struct Revive {
    shared: Arc<Shared>,
    revived: Mutex<Option<Arc<SemaphoreCell>>>,
}

impl Wake for Revive {
    fn wake(self: Arc<Self>) {
        let cell = self.shared.semaphore("jobs", 1, &"".into(), None);
        *self.revived.lock().unwrap() = Some(cell);
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_that_gets_a_handle_while_it_is_swept_keeps_its_timer() {
    let lease = Millis::new(1_000);
    let mut scene = Scene::new(true, 1);
    let waiting = scene.enter("jobs", lease);
    sleep(SOON).await;
    scene.answer_all();
    sleep(SOON).await;
    let hold = waiting.granted().unwrap();
    scene.session(0).break_off();
    sleep(SOON).await;

    // Released during an outage: the release is forgotten when the store has forgotten the permit.
    let (done, mut released) = oneshot::channel();
    assert!(hold.release());
    waiting.driver.update(|state| {
        state.give_back(hold.id.counter(), Some(done));
        state.remove_handle(1);
    });
    let (shared, revived) = (Arc::clone(&scene.shared), Mutex::default());
    let revive = Arc::new(Revive { shared, revived });
    let waker = Waker::from(Arc::clone(&revive));
    assert!(released.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
    sleep(lease.duration() / 2).await; // the timer of the renewal has fired in vain
    waiting.driver.update(|_| {});
    advance(lease.duration()).await;
    let cell = revive.revived.lock().unwrap().take().unwrap();
    assert!(Arc::ptr_eq(&cell, &scene.cell("jobs")), "it was not swept");

    scene.most.store(2, Ordering::SeqCst);
    sleep(CALL_TIMEOUT * 10).await;
    let waiting = scene.enter("jobs", lease);
    sleep(Duration::from_millis(10)).await;
    scene.answer_all();
    sleep(lease.duration() * 2 / 5).await; // a third after the grant
    assert!(waiting.granted().is_some());
    let [renewal] = scene.session(1).take().try_into().ok().unwrap();
    assert_eq!(renewal.turns[0].renew.len(), 1);
}
