//! The data that the callers and the driver of one client share.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::Waker;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::error::StoreError;
use crate::id::{ClientId, PermitId};
use crate::lost_reason::LostReason;
use crate::shrink::Shrink;
use crate::store::{Session, Store, WakeListener, WakeUp};
use crate::sync::lock;

use super::cell::SemaphoreCell;
use super::inline;
use super::lifecycle::{Lifecycle, Start};
use super::link::{Link, LinkWatch};
use super::registry::Registry;
use super::state::SemaphoreState;

pub(crate) struct Shared {
    pub(crate) call_timeout: Duration,
    pub(crate) label: Arc<str>,
    store: Box<dyn Store>,
    counter: AtomicU64,
    registry: Registry,
    link: LinkWatch,
    lifecycle: Lifecycle,
    /// The semaphores that wait for the driver.
    ready: Mutex<Vec<Arc<SemaphoreCell>>>,
    /// The driver, to be woken when there is something to do.
    driver: AtomicWaker,
    /// Tells `shutdown` that something was given back.
    flushed: Notify,
    /// The latest failed call that was not a turn. The driver uses it, too, to judge the connection.
    complaint: Mutex<Option<(Weak<dyn Session>, StoreError)>>,
}

/// Why there is no session.
#[derive(Debug)]
pub(crate) enum NoSession {
    Unavailable(StoreError),
    /// The driver has ended.
    Ended,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("id", &self.id())
            .field("store", &self.store.address())
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(store: Box<dyn Store>, call_timeout: Duration, label: Arc<str>) -> Arc<Self> {
        Arc::new(Self {
            call_timeout,
            label,
            store,
            counter: AtomicU64::new(0),
            registry: Registry::default(),
            link: LinkWatch::new(),
            lifecycle: Lifecycle::new(),
            ready: Mutex::default(),
            driver: AtomicWaker::new(),
            flushed: Notify::new(),
            complaint: Mutex::default(),
        })
    }

    /// The address of the store as the log shows it.
    pub(crate) fn address(&self) -> String {
        self.store.address()
    }

    pub(super) fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// The state of the connection.
    pub(crate) fn link(&self) -> &LinkWatch {
        &self.link
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Returns a new number for a permit. No other permit of this client has it.
    pub(crate) fn next_counter(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::Relaxed) + 1
    }

    // The life of the client.

    pub(crate) fn id(&self) -> ClientId {
        self.lifecycle.id(|id| self.rename(id))
    }

    fn rename(&self, id: ClientId) {
        for cell in self.registry.all() {
            cell.with(|state| state.set_client(id));
        }
    }

    /// Starts the life of the driver if that has not begun.
    pub(super) fn start(&self) -> Start {
        let start = self.lifecycle.start(|id| self.rename(id));
        if let Start::Now(_) = start {
            self.link.opening(Instant::now());
        }
        start
    }

    /// Ends this client if it is a copy made by a fork. The driver is in another process, so nobody here
    /// would ever answer.
    fn end_if_inherited(&self) {
        if self.lifecycle.is_inherited() {
            self.end();
        }
    }

    pub(crate) fn close(&self) {
        self.lifecycle.close();
        for cell in self.registry.all() {
            self.update(&cell, |state| state.close(Instant::now()));
        }
    }

    pub(crate) fn lose_all(&self, reason: LostReason) {
        for cell in self.registry.all() {
            self.update(&cell, |state| state.lose_all(reason, Instant::now()));
        }
    }

    /// Lets the driver end even though handles are left.
    pub(crate) fn abandon(&self) {
        self.lifecycle.abandon();
        self.driver.wake();
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.lifecycle.is_abandoned()
    }

    pub(super) fn end(&self) {
        self.lifecycle.end();
        self.close();
        for cell in self.registry.all() {
            // If turns need no driver, the removals go out now, and the rest later.
            if self.link.is_inline() {
                self.take_inline_turns(&cell);
            } else {
                cell.with(SemaphoreState::end);
            }
        }
        self.link.ended();
        self.flushed.notify_waiters();
    }

    // Changes of a semaphore.

    /// The semaphore of this name, with one handle more.
    pub(crate) fn semaphore(&self, name: &str, limit: u32, label: &Arc<str>) -> Arc<SemaphoreCell> {
        let close_if_closing = |state: &mut SemaphoreState| {
            if self.lifecycle.is_closing() {
                state.close(Instant::now());
            }
        };
        self.registry.add_handle(name, self.id(), limit, label, close_if_closing)
    }

    /// Changes the state of a semaphore, and makes what follows from it happen: by an inline turn if that is
    /// possible, else by the driver.
    pub(super) fn update<T>(
        &self,
        cell: &Arc<SemaphoreCell>,
        change: impl FnOnce(&mut SemaphoreState) -> T,
    ) -> T {
        let answer = cell.with(change);
        if self.take_inline_turns(cell) {
            self.end_if_inherited(); // first: a cell may have been copied while it waited for the driver
            self.make_ready(cell);
        }
        answer
    }

    /// As [`update`](Self::update), for a change whose outcome nobody awaits. It leaves out whether a
    /// fork has made this copy, which costs a system call: without a driver, the change stays here.
    pub(super) fn update_unawaited(
        &self,
        cell: &Arc<SemaphoreCell>,
        change: impl FnOnce(&mut SemaphoreState),
    ) {
        cell.with(change);
        if self.take_inline_turns(cell) {
            self.make_ready(cell);
        }
    }

    /// Takes the turns that the caller has given cause for. Returns whether the driver must look.
    fn take_inline_turns(&self, cell: &SemaphoreCell) -> bool {
        // Without a runtime the clock may differ from that of the driver. If the driver has ended, nobody
        // else would give anything back.
        let on_time = || Handle::try_current().is_ok() || self.lifecycle.has_ended();
        if !self.link.is_inline() || !on_time() {
            return true;
        }
        let wants_driver = inline::take_turns(cell, &*self.store, &self.link, self.call_timeout);
        self.flushed.notify_waiters();
        wants_driver
    }

    fn make_ready(&self, cell: &Arc<SemaphoreCell>) {
        if !cell.set_ready() {
            lock(&self.ready).push(Arc::clone(cell));
            self.driver.wake();
        }
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

    /// Registers the driver, to be woken once when there is something to do.
    pub(super) fn register(&self, driver: &Waker) {
        self.driver.register(driver);
    }

    // The connection.

    /// Returns whether a call would find the store, as far as is known. A client that was shut down, or that
    /// a fork has copied, makes no calls.
    pub(crate) fn is_available(&self) -> bool {
        let over = self.lifecycle.is_closing() || self.lifecycle.is_inherited();
        !over && (self.store.is_in_process() || self.link.is_alive())
    }

    /// The open connection, waiting for one up to the call timeout.
    pub(crate) async fn session(&self) -> Result<Arc<dyn Session>, NoSession> {
        self.end_if_inherited();
        let opened = self.link.wait_for_session(self.call_timeout).await;
        opened.map_err(|link| self.no_session(link))
    }

    /// Waits for the outcome of the first attempt to connect.
    pub(crate) async fn first_connection(&self) -> Result<(), NoSession> {
        match self.link.first_outcome().await {
            Link::Up(_) => Ok(()),
            link => Err(self.no_session(link)),
        }
    }

    fn no_session(&self, link: Link) -> NoSession {
        match link {
            Link::Ended => NoSession::Ended,
            Link::Down { error, .. } => NoSession::Unavailable(error),
            Link::Idle | Link::Opening { .. } | Link::Up(_) => {
                let (address, timeout) = (self.address(), self.call_timeout);
                let what = format!("no connection to {address} within {timeout:?}");
                NoSession::Unavailable(StoreError::timeout(what))
            }
        }
    }

    /// Notes that a call that is not a turn failed on `session`.
    pub(crate) fn complain(&self, session: &Arc<dyn Session>, error: StoreError) {
        // Weak: a session holds this by the listener it was given.
        *lock(&self.complaint) = Some((Arc::downgrade(session), error));
        self.driver.wake();
    }

    pub(super) fn take_complaint(&self) -> Option<(Arc<dyn Session>, StoreError)> {
        let (session, error) = lock(&self.complaint).take()?;
        Some((session.upgrade()?, error))
    }

    // What is not given back yet.

    /// Notes that something may have been given back.
    pub(super) fn notify_flushed(&self) {
        self.flushed.notify_waiters();
    }

    /// Resolves once callers of this client hold nothing. Call it when no caller can get anything new.
    pub(crate) async fn until_none_held(&self) {
        self.until_each(SemaphoreState::holds_nothing).await;
    }

    /// Resolves once everything is known to be given back. Call it when no caller can get anything new.
    pub(crate) async fn until_flushed(&self) {
        while self.unflushed() > 0 && !self.lifecycle.has_ended() {
            self.until_each(|state| state.unflushed() == 0).await;
        }
    }

    /// Returns how many ids are not known to be removed.
    pub(crate) fn unflushed(&self) -> usize {
        self.registry.unflushed()
    }

    async fn until_each(&self, done: impl Fn(&SemaphoreState) -> bool) {
        for cell in self.registry.all() {
            self.until(|| cell.read(&done)).await;
        }
    }

    /// Resolves once `done` returns true. It is called after every turn.
    async fn until(&self, done: impl Fn() -> bool) {
        loop {
            let flushed = self.flushed.notified();
            tokio::pin!(flushed);
            flushed.as_mut().enable();
            if done() || self.lifecycle.has_ended() {
                return;
            }
            flushed.await;
        }
    }
}

impl WakeListener for Shared {
    fn wake(&self, name: &str, id: PermitId, wake_up: WakeUp) {
        let Some(cell) = self.registry.find(name) else { return };
        // Not by an inline turn: this is inside somebody else's.
        let wants_driver = cell.with(|state| {
            state.wake(id, wake_up, Instant::now());
            state.wants_driver()
        });
        // The waiter is already served. If the driver need not look, it would only be in the way.
        if wants_driver {
            self.make_ready(&cell);
        }
    }

    #[cfg(feature = "redis")]
    fn subscription_changed(&self) {
        for cell in self.registry.all() {
            self.update(&cell, SemaphoreState::ask_about_all);
        }
    }

    #[cfg(feature = "redis")]
    fn disconnected(&self) {
        self.driver.wake();
    }
}
