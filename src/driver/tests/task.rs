//! The driver's task over a store that answers when the test says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::oneshot;
use tokio::time::{Instant, advance, sleep};

use super::slow_store::{Answer, Sessions, Slow, SlowStore};
use crate::driver::cell::SemaphoreCell;
use crate::driver::{DriverHandle, DropGuard, Shared, WaitEnd};
use crate::error::{StoreError, StoreErrorKind};
use crate::hold::Hold;
use crate::id::PermitId;
use crate::numbers::Millis;
use crate::options::Options;
use crate::store::memory::MemoryState;
use crate::store::{Turn, WhenFull};

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
        self.shared.semaphore(name, 1, &"".into())
    }

    /// Lets a waiter enter.
    fn enter(&self, name: &str, lease: Millis) -> Waiting {
        let driver = DriverHandle::new(self.cell(name), Arc::clone(&self.guard));
        let counter = self.shared.next_counter();
        let id = PermitId::new(self.shared.id(), counter, 1, lease);
        let options = Arc::new(Options::with_lease(lease));
        driver.update(|state| state.enter(id, WhenFull::Wait, options));
        Waiting { driver, counter }
    }

    fn session(&self, nth: usize) -> Arc<Slow> {
        Arc::clone(&self.sessions.lock().unwrap()[nth])
    }

    fn opened(&self) -> usize {
        self.sessions.lock().unwrap().len()
    }

    /// What the store answers to a turn, if it runs now.
    fn run(&mut self, turn: &Turn) -> Answer {
        let micros = 1_000_000_000_000_000 + self.start.elapsed().as_micros() as u64;
        let state = self.names.entry(turn.name.to_string()).or_default();
        Ok(state.turn(turn, micros).0)
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

struct Waiting {
    driver: DriverHandle,
    counter: u64,
}

impl Waiting {
    fn granted(&self) -> Option<Arc<Hold>> {
        let end = self.driver.with(|state| state.poll_waiter(self.counter, &mut None));
        match end {
            Poll::Ready(WaitEnd::Granted(hold)) => Some(hold),
            Poll::Ready(end) => panic!("the wait ended with {end:?}"),
            Poll::Pending => None,
        }
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

/// A waker that makes a handle when it is woken.
struct Revive {
    shared: Arc<Shared>,
    revived: Mutex<Option<Arc<SemaphoreCell>>>,
}

impl Wake for Revive {
    fn wake(self: Arc<Self>) {
        let cell = self.shared.semaphore("jobs", 1, &"".into());
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
