//! The data that the callers and the drivers of one client share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::error::StoreError;
use crate::hold::Hold;
use crate::id::ClientId;
use crate::lost_reason::LostReason;
use crate::metrics::ClientMeter;
use crate::numbers::{PlaceId, Replicas};
use crate::store::{BoxFuture, Session, Store};

use super::cell::SemaphoreCell;
use super::inline;
use super::lifecycle::{Lifecycle, Start};
use super::link::Link;
use super::place::Place;
use super::places::Places;
use super::registry::Registry;
use super::replication::{Asked, LineStarter};
use super::state::SemaphoreState;

pub(crate) struct Shared {
    pub(crate) call_timeout: Duration,
    pub(crate) label: Arc<str>,
    meter: ClientMeter,
    store: Box<dyn Store>,
    counter: AtomicU64,
    registry: Registry,
    places: Places,
    /// How often names may have come to other places.
    moves: AtomicU64,
    lifecycle: Lifecycle,
    /// Set by the first call.
    starter: OnceLock<Starter>,
    /// Tells `shutdown` that something was given back.
    flushed: Notify,
}

/// How the drivers of the places are started.
pub(super) struct Starter {
    pub(super) runtime: Handle,
    /// Returns the task of a driver.
    pub(super) driver: fn(Arc<Shared>, Arc<Place>) -> BoxFuture<'static, ()>,
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
            meter: ClientMeter::new(),
            store,
            counter: AtomicU64::new(0),
            registry: Registry::default(),
            places: Places::new(),
            moves: AtomicU64::new(0),
            lifecycle: Lifecycle::new(),
            starter: OnceLock::new(),
            flushed: Notify::new(),
        })
    }

    /// The address of the store as the log shows it.
    pub(crate) fn address(&self) -> String {
        self.store.address()
    }

    /// Returns the meter of the client.
    pub(crate) fn meter(&self) -> &ClientMeter {
        &self.meter
    }

    pub(super) fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// The address of a place as the log shows it.
    pub(super) fn address_of(&self, place: &Place) -> String {
        self.store.address_of(place.id())
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

    /// Starts the life of the client if that has not begun: the driver of the first place, and those of
    /// others that have something to do.
    pub(super) fn start(self: &Arc<Self>, starter: impl FnOnce() -> Starter) -> Start {
        let start = self.lifecycle.start(|id| self.rename(id));
        if let Start::Now(_) = start {
            self.starter.get_or_init(starter);
            for place in self.places.all() {
                if place.id() == PlaceId::FIRST || place.has_ready() {
                    self.start_driver(place);
                }
            }
        }
        start
    }

    /// Starts the driver of a place, unless it has one, or the life of the client has not begun or is over.
    fn start_driver(self: &Arc<Self>, place: &Arc<Place>) {
        let Some(Starter { runtime, driver }) = self.starter.get() else { return };
        if self.lifecycle.has_ended() || place.set_has_driver(true) {
            return;
        }
        place.link().opening(Instant::now());
        // Outside all locks: a runtime that is ending drops the task here and now.
        runtime.spawn(driver(Arc::clone(self), Arc::clone(place)));
    }

    /// Notes the end of a driver. `done` is whether it had nothing left to do; its runtime has dropped it
    /// otherwise. The last one ends the client.
    pub(super) fn driver_ended(self: &Arc<Self>, place: &Arc<Place>, done: bool) {
        place.set_has_driver(false);
        let abandoned = self.is_abandoned();
        if abandoned {
            place.link().ended();
        }
        if !done || (abandoned && self.places.others_at_work(place).next().is_none()) {
            self.end();
        } else if !abandoned && place.has_names() {
            self.start_driver(place); // a name came meanwhile
        }
    }

    /// Closes a place that is not used, unless there is a connection to no other. Returns whether it did: its
    /// driver has to end then.
    pub(super) fn close_unused(&self, place: &Place) -> bool {
        let _one_at_a_time = self.places.closing();
        let closes = self.places.others_at_work(place).any(|other| other.link().is_up());
        if closes {
            place.link().idle();
            place.give_up_connection();
            self.store.leave(place.id());
        }
        closes
    }

    /// Ends this client if it is a copy made by a fork. The drivers are in another process, so nobody here
    /// would ever answer.
    fn end_if_inherited(self: &Arc<Self>) {
        if self.lifecycle.is_inherited() {
            self.end();
        }
    }

    pub(crate) fn close(self: &Arc<Self>) {
        self.lifecycle.close();
        for cell in self.registry.all() {
            self.close_semaphore(&cell);
        }
    }

    /// Closes a semaphore. Grants that wait for replicas are given back.
    pub(super) fn close_semaphore(self: &Arc<Self>, cell: &Arc<SemaphoreCell>) {
        let name = self.update(cell, |state| {
            state.close(Instant::now());
            Arc::clone(state.name())
        });
        let away = self.places.all().flat_map(|place| place.lines().send_away(&name));
        for hold in away.filter(|hold| hold.leave()) {
            self.update_unawaited(cell, |state| state.give_back(hold.id.counter(), None));
        }
    }

    pub(crate) fn lose_all(self: &Arc<Self>, reason: LostReason) {
        for cell in self.registry.all() {
            self.update(&cell, |state| state.lose_all(reason, Instant::now()));
        }
    }

    /// Lets the drivers end even though handles are left.
    pub(crate) fn abandon(&self) {
        self.lifecycle.abandon();
        self.wake_drivers();
    }

    fn wake_drivers(&self) {
        self.places.all().for_each(|place| place.wake_driver());
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.lifecycle.is_abandoned()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.lifecycle.has_ended()
    }

    /// Ends the client. Drivers that are left end, too.
    pub(super) fn end(self: &Arc<Self>) {
        self.lifecycle.end();
        self.close();
        for cell in self.registry.all() {
            // If turns need no driver, the removals go out now, and the rest later.
            if self.is_inline() {
                self.take_inline_turns(&cell);
                cell.with(SemaphoreState::leave_gauges);
            } else {
                cell.with(SemaphoreState::end);
            }
        }
        self.places.all().for_each(|place| place.link().ended());
        self.abandon();
        self.flushed.notify_waiters();
    }

    // Changes of a semaphore.

    /// The semaphore of this name, with one handle more. The metrics count it under the first `metrics_name` that a handle
    /// sets, and under its own name before that.
    pub(crate) fn semaphore(
        &self,
        name: &str,
        limit: u32,
        label: &Arc<str>,
        metrics_name: Option<&str>,
    ) -> Arc<SemaphoreCell> {
        let prepare = |state: &mut SemaphoreState| {
            if self.lifecycle.is_closing() {
                state.close(Instant::now());
            }
            let place = self.place_now(name);
            place.add_name();
            place.id()
        };
        let cell = self.registry.add_handle(name, self.id(), limit, label, prepare);
        if cell.lacks_meter(metrics_name) {
            let meter = self.meter.of(metrics_name.unwrap_or(name)); // by the recorder, so under no lock
            cell.set_meter(metrics_name, meter);
        }
        cell
    }

    /// Drops a semaphore if it is no longer needed. Returns whether it did.
    pub(super) fn sweep(&self, cell: &Arc<SemaphoreCell>) -> bool {
        let swept = self.registry.sweep(cell);
        if swept {
            self.place_of(cell).remove_name();
        }
        swept
    }

    /// Changes the state of a semaphore, and makes what follows from it happen: by an inline turn if that is
    /// possible, else by the driver.
    pub(super) fn update<T>(
        self: &Arc<Self>,
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
        self: &Arc<Self>,
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
        if !self.is_inline() || !on_time() {
            return true;
        }
        let link = self.places.first().link();
        let wants_driver =
            inline::take_turns(cell, &*self.store, link, self.call_timeout, &self.meter);
        self.flushed.notify_waiters();
        wants_driver
    }

    /// Returns whether callers take turns themselves. Then there is only one place.
    fn is_inline(&self) -> bool {
        self.places.first().link().is_inline()
    }

    /// Makes a semaphore wait for the driver of its place.
    pub(super) fn make_ready(self: &Arc<Self>, cell: &Arc<SemaphoreCell>) {
        if !cell.set_ready() {
            let place = self.place_of(cell);
            place.push_ready(Arc::clone(cell));
            if !place.has_driver() {
                self.start_driver(place);
            }
        }
    }

    // Places.

    pub(crate) fn place(&self, id: PlaceId) -> &Arc<Place> {
        self.places.get(id)
    }

    /// Returns the places that have names, as far as the store knows.
    pub(crate) fn known_places(&self) -> Vec<PlaceId> {
        self.store.places()
    }

    /// Returns the place that a semaphore belongs to.
    pub(super) fn place_of(&self, cell: &SemaphoreCell) -> &Arc<Place> {
        self.places.get(cell.place())
    }

    /// Returns the place that counts the units of a name, as the store knows it now. A semaphore of this name
    /// may not have come there yet.
    pub(crate) fn place_now(&self, name: &str) -> &Arc<Place> {
        self.places.get(self.store.place_of(name))
    }

    /// Notes that names may be at other places than before.
    #[cfg(any(test, feature = "redis"))]
    pub(super) fn note_moves(&self) {
        self.moves.fetch_add(1, Ordering::SeqCst);
        self.wake_drivers();
    }

    /// Returns how often names may have come to other places.
    pub(super) fn moves(&self) -> u64 {
        self.moves.load(Ordering::SeqCst)
    }

    // The connection.

    /// Returns whether a call would find the store, as far as is known. A client that was shut down, or that
    /// a fork has copied, makes no calls.
    pub(crate) fn is_available(&self) -> bool {
        let over = self.lifecycle.is_closing() || self.lifecycle.is_inherited();
        let is_alive = || self.places.all().any(|place| place.link().is_alive());
        !over && (self.store.is_in_process() || is_alive())
    }

    /// Returns when the server of any place last answered; `None` if none ever has.
    pub(crate) fn last_heard(&self) -> Option<Instant> {
        self.places.all().filter_map(|place| place.link().last_heard()).max()
    }

    /// The open connection to a place, waiting for one up to `patience`.
    pub(crate) async fn session(
        self: &Arc<Self>,
        place: &Arc<Place>,
        patience: Duration,
    ) -> Result<Arc<dyn Session>, NoSession> {
        self.end_if_inherited();
        self.start_driver(place);
        let opened = place.link().wait_for_session(patience).await;
        opened.map_err(|link| self.no_session(place, link))
    }

    /// Waits for the outcome of the first attempt to connect.
    pub(crate) async fn first_connection(&self) -> Result<(), NoSession> {
        let first = self.places.first();
        match first.link().first_outcome().await {
            Link::Up(_) => Ok(()),
            link => Err(self.no_session(first, link)),
        }
    }

    fn no_session(&self, place: &Place, link: Link) -> NoSession {
        match link {
            Link::Ended => NoSession::Ended,
            Link::Down { error, .. } => NoSession::Unavailable(error),
            Link::Idle | Link::Opening { .. } | Link::Up(_) => {
                let (address, timeout) = (self.address_of(place), self.call_timeout);
                let what = format!("no connection to {address} within {timeout:?}");
                NoSession::Unavailable(StoreError::timeout(what))
            }
        }
    }

    // Replicas.

    /// Returns whether the store is in this process, and thus has no replicas.
    pub(crate) fn is_in_process(&self) -> bool {
        self.store.is_in_process()
    }

    /// Waits until this number of replicas has the grant of `hold`.
    pub(super) fn ask_about_replicas(
        &self,
        cell: &SemaphoreCell,
        hold: &Arc<Hold>,
        wanted: Replicas,
    ) -> Asked {
        let name = cell.read(|state| Arc::clone(state.name()));
        let spawn = |serve| {
            if let Some(starter) = self.starter.get() {
                starter.runtime.spawn(serve);
            }
        };
        let place = self.place_of(cell);
        let starter = LineStarter { place, call_timeout: self.call_timeout, spawn: &spawn };
        place.lines().of(wanted).ask(&name, hold, &starter)
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
