//! A place: one primary of the store, as the callers and its driver share it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::Waker;

use futures_util::task::AtomicWaker;

use crate::error::StoreError;
use crate::numbers::PlaceId;
use crate::shrink::Shrink;
use crate::store::Session;
use crate::sync::lock;

use super::cell::SemaphoreCell;
use super::link::LinkWatch;
use super::replication::Lines;

/// One primary of the store. A semaphore belongs to one place, whose driver sends its turns.
pub(crate) struct Place {
    id: PlaceId,
    link: LinkWatch,
    /// How many semaphores belong to it.
    names: AtomicUsize,
    /// The semaphores that wait for the driver.
    ready: Mutex<Vec<Arc<SemaphoreCell>>>,
    /// The driver, to be woken when there is something to do.
    driver: AtomicWaker,
    has_driver: AtomicBool,
    /// Whether names have come to it since its driver looked last.
    has_news: AtomicBool,
    /// How many connections were given up.
    given_up: AtomicU64,
    /// Those who wait until replicas have their grants.
    lines: Lines,
    /// The latest failed call that was not a turn. The driver uses it, too, to judge the connection.
    complaint: Mutex<Option<(Weak<dyn Session>, StoreError)>>,
}

/// Which connection to a place. What an earlier one still tells counts for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ConnectionNumber(u64);

impl Place {
    pub(super) fn new(id: PlaceId) -> Self {
        Self {
            id,
            link: LinkWatch::new(),
            names: AtomicUsize::new(0),
            ready: Mutex::default(),
            driver: AtomicWaker::new(),
            has_driver: AtomicBool::new(false),
            has_news: AtomicBool::new(false),
            given_up: AtomicU64::new(0),
            lines: Lines::default(),
            complaint: Mutex::default(),
        }
    }

    pub(super) fn id(&self) -> PlaceId {
        self.id
    }

    /// The state of the connection.
    pub(crate) fn link(&self) -> &LinkWatch {
        &self.link
    }

    pub(super) fn lines(&self) -> &Lines {
        &self.lines
    }

    // Its semaphores.

    /// A semaphore belongs to this place from now on.
    pub(super) fn add_name(&self) {
        self.names.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn remove_name(&self) {
        self.names.fetch_sub(1, Ordering::SeqCst);
    }

    #[cfg(test)]
    pub(super) fn names(&self) -> usize {
        self.names.load(Ordering::SeqCst)
    }

    pub(super) fn has_names(&self) -> bool {
        self.names.load(Ordering::SeqCst) > 0
    }

    /// Makes a semaphore wait for the driver.
    pub(super) fn push_ready(&self, cell: Arc<SemaphoreCell>) {
        lock(&self.ready).push(cell);
        self.driver.wake();
    }

    /// Appends the semaphores that wait for the driver to `backlog`.
    pub(super) fn take_ready(&self, backlog: &mut VecDeque<Arc<SemaphoreCell>>) {
        let mut ready = lock(&self.ready);
        backlog.extend(ready.drain(..));
        ready.shrink_in_use();
    }

    /// Returns whether semaphores wait for the driver.
    pub(super) fn has_ready(&self) -> bool {
        !lock(&self.ready).is_empty()
    }

    // Its driver.

    pub(super) fn has_driver(&self) -> bool {
        self.has_driver.load(Ordering::SeqCst)
    }

    /// Notes that it has a driver, or that it has none any more. Returns whether it had one.
    pub(super) fn set_has_driver(&self, has_driver: bool) -> bool {
        self.has_driver.swap(has_driver, Ordering::SeqCst)
    }

    /// Registers the driver, to be woken once when there is something to do.
    pub(super) fn register(&self, driver: &Waker) {
        self.driver.register(driver);
    }

    pub(super) fn wake_driver(&self) {
        self.driver.wake();
    }

    /// Tells the driver that a name has come from another place, so that the store takes this one for well.
    pub(super) fn tell_news(&self) {
        self.has_news.store(true, Ordering::SeqCst);
        self.driver.wake();
    }

    /// Returns whether there was news, which is none any more.
    pub(super) fn take_news(&self) -> bool {
        self.has_news.swap(false, Ordering::SeqCst)
    }

    // Its connection.

    /// The number of the present connection, or of the next one if there is none.
    pub(super) fn connection(&self) -> ConnectionNumber {
        ConnectionNumber(self.given_up.load(Ordering::SeqCst))
    }

    /// The connection was given up, or could not be opened.
    pub(super) fn give_up_connection(&self) {
        self.given_up.fetch_add(1, Ordering::SeqCst);
    }

    /// Notes that a call that is not a turn failed on `session`.
    pub(crate) fn complain(&self, session: &Arc<dyn Session>, error: StoreError) {
        // Weak: a session holds its client by the listener it was given.
        *lock(&self.complaint) = Some((Arc::downgrade(session), error));
        self.driver.wake();
    }

    pub(super) fn take_complaint(&self) -> Option<(Arc<dyn Session>, StoreError)> {
        let (session, error) = lock(&self.complaint).take()?;
        Some((session.upgrade()?, error))
    }
}
