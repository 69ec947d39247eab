//! The driver: one task per client that owns the connection and talks in turns.
//!
//! # Implementation
//!
//! Callers change a [`Line`] under its own short lock and mark it ready; the driver takes ready
//! lines, lets each build at most one turn, and sends the turns side by side. While a turn is in
//! flight its line gathers. Timers are kept one per line. The store is only ever awaited with a
//! deadline of our own, and the connection is replaced by our own rules.

mod batch;
mod connection;
mod line;
mod settle;

#[cfg(test)]
mod simulation;

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::error::StoreError;
use crate::id::{ClientId, PermitId};
use crate::permit::LostReason;
use crate::store::{Ear, Session, Store, TurnOutcome};
use crate::sync::lock;

use connection::Connection;
pub(crate) use line::{Line, WaitEnd};

/// A line and the switch that says it waits for the driver.
#[derive(Debug)]
pub(crate) struct LineCell {
    line: Mutex<Line>,
    ready: AtomicBool,
    key: u64,
    shared: Weak<Shared>,
}

impl LineCell {
    /// Changes the line, wakes whom that concerns, and has the driver look at it.
    pub(crate) fn update<T>(self: &Arc<Self>, change: impl FnOnce(&mut Line) -> T) -> T {
        let answer = self.peek(change);
        if let Some(shared) = self.shared.upgrade() {
            shared.make_ready(self);
        }
        answer
    }

    /// As [`update`](Self::update), for changes that leave the driver nothing to do.
    pub(crate) fn peek<T>(&self, change: impl FnOnce(&mut Line) -> T) -> T {
        let mut line = lock(&self.line);
        let answer = change(&mut line);
        let wakers = std::mem::take(&mut line.wakers);
        drop(line); // a waker may run anything
        for waker in wakers {
            waker.wake();
        }
        answer
    }
}

/// A place at a line that keeps the client's driver running.
#[derive(Debug, Clone)]
pub(crate) struct Seat {
    cell: Arc<LineCell>,
    client: Arc<Lifeline>,
}

impl Seat {
    pub(crate) fn new(cell: Arc<LineCell>, client: Arc<Lifeline>) -> Self {
        Self { cell, client }
    }

    pub(crate) fn cell(&self) -> &Arc<LineCell> {
        &self.cell
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.client.0
    }
}

/// Held by everything that a user can hold; when the last one goes, the driver hands back what is
/// left and ends.
#[derive(Debug)]
pub(crate) struct Lifeline(pub(crate) Arc<Shared>);

impl Drop for Lifeline {
    fn drop(&mut self) {
        self.0.abandoned.store(true, Ordering::SeqCst);
        self.0.work.notify_one();
    }
}

/// What the callers and the driver of one client share.
pub(crate) struct Shared {
    pub(crate) id: ClientId,
    pub(crate) call_deadline: Duration,
    pub(crate) label: Arc<str>,
    store: Box<dyn Store>,
    counter: AtomicU64,
    line_key: AtomicU64,
    /// How many turns of this client had no definite answer.
    epoch: AtomicU64,
    lines: Mutex<HashMap<Arc<str>, Arc<LineCell>>>,
    ready: Mutex<Vec<Arc<LineCell>>>,
    work: Notify,
    link: watch::Sender<Link>,
    phase: Mutex<Phase>,
    abandoned: AtomicBool,
    closing: AtomicBool,
    /// Tells `shutdown` that something was flushed.
    flushed: Notify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    New,
    Running,
    Ended,
}

/// The state of the connection.
#[derive(Clone)]
pub(crate) enum Link {
    /// Not tried yet, or being tried for the first time.
    Opening,
    Up(Arc<dyn Session>),
    Down(StoreError),
    /// The driver has ended.
    Ended,
}

/// Why no driver can serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoDriver {
    NoRuntime,
    Ended,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("id", &self.id)
            .field("store", &self.store.place())
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(
        store: Box<dyn Store>,
        call_deadline: Duration,
        label: Arc<str>,
    ) -> Arc<Self> {
        Arc::new(Self {
            id: ClientId::random(),
            call_deadline,
            label,
            store,
            counter: AtomicU64::new(0),
            line_key: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            lines: Mutex::default(),
            ready: Mutex::default(),
            work: Notify::new(),
            link: watch::Sender::new(Link::Opening),
            phase: Mutex::new(Phase::New),
            abandoned: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            flushed: Notify::new(),
        })
    }

    pub(crate) fn place(&self) -> String {
        self.store.place()
    }

    pub(crate) fn next_counter(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Starts the driver if it was never started.
    pub(crate) fn ensure_driver(self: &Arc<Self>) -> Result<(), NoDriver> {
        let mut phase = lock(&self.phase);
        match *phase {
            Phase::Running => Ok(()),
            Phase::Ended => Err(NoDriver::Ended),
            Phase::New => {
                let runtime =
                    tokio::runtime::Handle::try_current().map_err(|_| NoDriver::NoRuntime)?;
                runtime.spawn(Driver::new(Arc::clone(self)).run());
                *phase = Phase::Running;
                Ok(())
            }
        }
    }

    /// The line of this name, with one handle more.
    pub(crate) fn line(
        self: &Arc<Self>,
        name: &str,
        limit: u32,
        label: &Arc<str>,
    ) -> Arc<LineCell> {
        let mut lines = lock(&self.lines);
        let name: Arc<str> = Arc::from(name);
        let cell = lines.entry(Arc::clone(&name)).or_insert_with(|| {
            let mut line = Line::new(name, self.id);
            line.closed = self.closing.load(Ordering::SeqCst);
            Arc::new(LineCell {
                line: Mutex::new(line),
                ready: AtomicBool::new(false),
                key: self.line_key.fetch_add(1, Ordering::Relaxed),
                shared: Arc::downgrade(self),
            })
        });
        lock(&cell.line).add_handle(limit, label);
        Arc::clone(cell)
    }

    fn find(&self, name: &str) -> Option<Arc<LineCell>> {
        lock(&self.lines).get(name).cloned()
    }

    fn all(&self) -> Vec<Arc<LineCell>> {
        lock(&self.lines).values().cloned().collect()
    }

    /// Drops lines that nobody would miss.
    fn sweep(&self, cell: &Arc<LineCell>) {
        let mut lines = lock(&self.lines);
        let line = lock(&cell.line);
        let current = lines.get(&line.name).is_some_and(|other| Arc::ptr_eq(other, cell));
        if current && line.is_unused() {
            lines.remove(&line.name);
        }
    }

    fn make_ready(&self, cell: &Arc<LineCell>) {
        if !cell.ready.swap(true, Ordering::SeqCst) {
            lock(&self.ready).push(Arc::clone(cell));
            self.work.notify_one();
        }
    }

    /// The open connection, waiting for one up to the call deadline.
    pub(crate) async fn session(self: &Arc<Self>) -> Result<Arc<dyn Session>, Link> {
        let mut link = self.link.subscribe();
        let settled = timeout(
            self.call_deadline,
            link.wait_for(|link| match link {
                Link::Opening => false,
                Link::Down(error) => error.is_final(),
                Link::Up(_) | Link::Ended => true,
            }),
        )
        .await
        .map(|settled| settled.map(|link| link.clone()));
        match settled {
            Ok(Ok(Link::Up(session))) => Ok(session),
            Ok(Ok(link)) => Err(link),
            Ok(Err(_)) => Err(Link::Ended),
            Err(_) => Err(match self.link.borrow().clone() {
                Link::Down(error) => Link::Down(error),
                _ => Link::Down(StoreError::timeout(format!(
                    "no connection to {} within {:?}",
                    self.place(),
                    self.call_deadline
                ))),
            }),
        }
    }

    /// Waits for the outcome of the first attempt to connect.
    pub(crate) async fn first_link(self: &Arc<Self>) -> Link {
        let mut link = self.link.subscribe();
        let settled = link.wait_for(|link| !matches!(link, Link::Opening)).await;
        settled.map_or(Link::Ended, |link| link.clone())
    }

    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        for cell in self.all() {
            cell.update(|line| line.close(Instant::now()));
        }
    }

    pub(crate) fn lose_all(&self, reason: LostReason) {
        for cell in self.all() {
            cell.update(|line| line.lose_all(reason, Instant::now()));
        }
    }

    /// How many permits are held by callers of this client.
    pub(crate) fn held(&self) -> usize {
        self.all().iter().map(|cell| lock(&cell.line).held.len()).sum()
    }

    /// How many ids are not known to be handed back.
    pub(crate) fn unflushed(&self) -> usize {
        self.all().iter().map(|cell| lock(&cell.line).unflushed()).sum()
    }

    /// Resolves once `done` says so; looked at after every turn.
    pub(crate) async fn until(&self, done: impl Fn(&Self) -> bool) {
        loop {
            let flushed = self.flushed.notified();
            tokio::pin!(flushed);
            flushed.as_mut().enable();
            if done(self) || *lock(&self.phase) == Phase::Ended {
                return;
            }
            flushed.await;
        }
    }

    /// Lets the driver end even though handles are left.
    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Ordering::SeqCst);
        self.work.notify_one();
    }

    fn end(&self) {
        *lock(&self.phase) = Phase::Ended;
        self.close();
        for cell in self.all() {
            cell.peek(Line::end);
        }
        self.link.send_replace(Link::Ended);
        self.flushed.notify_waiters();
    }
}

impl Ear for Shared {
    fn wake(&self, name: &str, id: PermitId, number: u64) {
        if id.client() == self.id
            && let Some(cell) = self.find(name)
        {
            cell.update(|line| line.wake(id, number, Instant::now()));
        }
    }

    fn hearing_changed(&self) {
        for cell in self.all() {
            cell.update(Line::ask_about_all);
        }
    }

    fn gone(&self) {
        self.work.notify_one();
    }
}

/// A turn that has come back, and on which connection.
struct Landed {
    cell: Arc<LineCell>,
    session: Arc<dyn Session>,
    answer: Result<TurnOutcome, StoreError>,
}

type Flying = Pin<Box<dyn Future<Output = Landed> + Send>>;

struct Driver {
    shared: Arc<Shared>,
    connection: Connection,
    flying: FuturesUnordered<Flying>,
    timers: BTreeMap<(Instant, u64), Arc<LineCell>>,
}

/// Ends the client when the driver's task ends, also when its runtime drops it.
struct EndGuard(Arc<Shared>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Driver {
    fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            connection: Connection::new(),
            flying: FuturesUnordered::new(),
            timers: BTreeMap::new(),
        }
    }

    async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let _guard = EndGuard(Arc::clone(&shared));
        loop {
            for cell in std::mem::take(&mut *lock(&shared.ready)) {
                cell.ready.store(false, Ordering::SeqCst);
                self.pump(&cell);
            }
            shared.flushed.notify_waiters();
            if self.connection.lost_unasked(&shared) {
                self.connection_changed();
            }
            if shared.abandoned.load(Ordering::SeqCst) && self.may_end() {
                return;
            }
            let next = self.timers.first_key_value().map(|((at, _), _)| *at);
            tokio::select! {
                () = shared.work.notified() => {}
                Some(landed) = self.flying.next() => self.land(landed),
                () = self.connection.step(&shared) => self.connection_changed(),
                () = at(next) => self.fire(),
            }
        }
    }

    /// Lets a line send what it has, and sets its timer.
    fn pump(&mut self, cell: &Arc<LineCell>) {
        let now = Instant::now();
        let session = self.connection.session().cloned();
        let epoch = self.shared.epoch.load(Ordering::SeqCst);
        let (outgoing, old_timer, new_timer, unused) = cell.peek(|line| {
            line.tick(now);
            match &session {
                Some(session) => line.set_hears(session.hears(), now),
                None => line.without_connection(self.connection.trouble(), now),
            }
            let outgoing = session
                .as_ref()
                .and_then(|_| line.next_turn(now, epoch, self.shared.call_deadline));
            let new_timer = line.next_look(session.is_some());
            let old_timer = std::mem::replace(&mut line.timer, new_timer);
            (outgoing, old_timer, new_timer, line.is_unused())
        });
        if old_timer != new_timer {
            if let Some(at) = old_timer {
                self.timers.remove(&(at, cell.key));
            }
            if let Some(at) = new_timer {
                self.timers.insert((at, cell.key), Arc::clone(cell));
            }
        }
        if let (Some(session), Some(outgoing)) = (session, outgoing) {
            let cell = Arc::clone(cell);
            self.flying.push(Box::pin(async move {
                let turn = session.turn(outgoing.turn);
                let answer = timeout(outgoing.deadline, turn).await;
                let answer = answer.unwrap_or_else(|_| {
                    let deadline = outgoing.deadline;
                    Err(StoreError::timeout(format!("no answer to a turn within {deadline:?}")))
                });
                Landed { cell, session, answer }
            }));
        } else if unused {
            if let Some(at) = new_timer {
                self.timers.remove(&(at, cell.key));
            }
            self.shared.sweep(cell);
        }
    }

    /// A turn has come back.
    fn land(&mut self, landed: Landed) {
        let now = Instant::now();
        let cell = &landed.cell;
        match landed.answer {
            Ok(TurnOutcome::Answered(reply)) => {
                self.connection.answered();
                cell.peek(|line| line.settle(reply, now));
            }
            Ok(TurnOutcome::Stale { epoch }) => {
                self.shared.epoch.fetch_max(epoch, Ordering::SeqCst);
                let error = StoreError::timeout("the turn came too late to count");
                cell.peek(|line| line.unanswered(&error, now));
            }
            Err(error) => self.failed(cell, &landed.session, &error, now),
        }
        self.pump(cell);
    }

    fn failed(
        &mut self,
        cell: &Arc<LineCell>,
        session: &Arc<dyn Session>,
        error: &StoreError,
        now: Instant,
    ) {
        if error.did_not_run() {
            cell.peek(|line| line.did_not_run(error, now));
        } else {
            // Also where the server refused: a script may have begun before it did.
            self.shared.epoch.fetch_add(1, Ordering::SeqCst);
            let unsure = error.is_timeout() || error.breaks_connection();
            cell.peek(|line| {
                if unsure {
                    line.unanswered(error, now);
                } else {
                    line.did_not_run(error, now);
                }
                if error.is_final() {
                    line.refuse(now, error);
                } else if !unsure {
                    line.refuse_tries(now, error);
                }
            });
        }
        if self.connection.failed(&self.shared, session, error) {
            self.connection_changed();
        }
    }

    /// Every line gets to know; what it missed meanwhile, it asks about.
    fn connection_changed(&mut self) {
        let up = self.connection.session().is_some();
        for cell in self.shared.all() {
            if up {
                cell.peek(Line::reconnected);
            }
            self.pump(&cell);
        }
    }

    /// The first timers are due.
    fn fire(&mut self) {
        let now = Instant::now();
        while let Some(first) = self.timers.first_entry()
            && first.key().0 <= now
        {
            let cell = first.remove();
            cell.peek(|line| line.timer = None);
            self.pump(&cell);
        }
    }

    /// Nobody can ask for anything any more: ends once all is handed back, or when the store has
    /// been away for so long that the leases must do it.
    fn may_end(&self) -> bool {
        let patience = self.shared.call_deadline * 2;
        let flushed = || self.shared.all().iter().all(|cell| lock(&cell.line).is_flushed());
        self.flying.is_empty() && (flushed() || self.connection.down_for() > patience)
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
