//! What the callers and the driver of one client share.

use std::collections::BTreeMap;
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use crate::error::StoreError;
use crate::id::{ClientId, PermitId};
use crate::lost_reason::LostReason;
use crate::store::{Ear, Session, Store};
use crate::sync::lock;

use super::LineCell;
use super::line::Line;
use super::task::Driver;

pub(crate) struct Shared {
    pub(crate) call_timeout: Duration,
    pub(crate) label: Arc<str>,
    pub(super) store: Box<dyn Store>,
    counter: AtomicU64,
    line_key: AtomicU64,
    /// A tree: a table that grows moves all it has at once.
    lines: Mutex<BTreeMap<Arc<str>, Arc<LineCell>>>,
    pub(super) ready: Mutex<Vec<Arc<LineCell>>>,
    pub(super) work: Notify,
    pub(super) link: watch::Sender<Link>,
    /// Whether turns need no waiting: callers take them themselves then.
    pub(super) at_once: AtomicBool,
    /// Since when a connection is wanted and there is none.
    pub(super) unconnected_since: Mutex<Option<Instant>>,
    /// When the server last answered a turn, in nanoseconds since `born`.
    heard: AtomicU64,
    born: Instant,
    /// The latest call beside the turns that failed: the driver judges the connection by it too.
    pub(super) complaint: Mutex<Option<(Weak<dyn Session>, StoreError)>>,
    identity: Mutex<Identity>,
    /// The process whose driver runs, 0 without one: as `identity` has it, for calls that cannot wait
    /// for its lock.
    driven_by: AtomicU32,
    pub(super) abandoned: AtomicBool,
    closing: AtomicBool,
    /// Tells `shutdown` that something was flushed.
    pub(super) flushed: Notify,
}

/// Who this client is. A fork copies it: what no driver has used yet gets an id of its own in the
/// new process, and what one has used stays with the process of that driver.
#[derive(Debug, Clone, Copy)]
struct Identity {
    id: ClientId,
    process: u32,
    phase: Phase,
}

impl Identity {
    fn new() -> Self {
        Self { id: ClientId::random(), process: process::id(), phase: Phase::New }
    }
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
            .field("id", &self.id())
            .field("store", &self.store.place())
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
            line_key: AtomicU64::new(0),
            lines: Mutex::default(),
            ready: Mutex::default(),
            work: Notify::new(),
            link: watch::Sender::new(Link::Opening),
            at_once: AtomicBool::new(false),
            unconnected_since: Mutex::default(),
            heard: AtomicU64::new(0),
            born: Instant::now(),
            complaint: Mutex::default(),
            identity: Mutex::new(Identity::new()),
            driven_by: AtomicU32::new(0),
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

    pub(crate) fn id(&self) -> ClientId {
        self.identity().id
    }

    /// In a process that was forked before the driver was started, under an id of its own.
    fn identity(&self) -> MutexGuard<'_, Identity> {
        let mut identity = lock(&self.identity);
        if identity.phase == Phase::New && identity.process != process::id() {
            *identity = Identity::new();
            for cell in self.all() {
                lock(&cell.line).client = identity.id;
            }
        }
        identity
    }

    /// Starts the driver if it was never started; tells under which id.
    pub(crate) fn ensure_driver(self: &Arc<Self>) -> Result<ClientId, NoDriver> {
        let runtime = Handle::try_current().map_err(|_| NoDriver::NoRuntime)?;
        let Identity { id, phase, .. } = {
            let mut identity = self.identity();
            let before = *identity;
            if before.phase == Phase::New {
                identity.phase = Phase::Running;
                self.driven_by.store(identity.process, Ordering::SeqCst);
                *lock(&self.unconnected_since) = Some(Instant::now());
            }
            before
        };
        match phase {
            Phase::Running => Ok(id),
            Phase::Ended => Err(NoDriver::Ended),
            Phase::New => {
                // Outside the lock: a runtime that is ending drops the task here and now.
                runtime.spawn(Driver::new(Arc::clone(self)).run());
                Ok(id)
            }
        }
    }

    /// Ends this client where it is the copy that a fork made: its driver is in another process,
    /// and nobody here would ever answer.
    fn end_if_inherited(&self) {
        let process = self.driven_by.load(Ordering::Relaxed);
        if process != 0 && process != process::id() {
            self.end();
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        lock(&self.identity).phase == Phase::Ended
    }

    /// The line of this name, with one handle more.
    pub(crate) fn line(
        self: &Arc<Self>,
        name: &str,
        limit: u32,
        label: &Arc<str>,
    ) -> Arc<LineCell> {
        let client = self.id();
        let mut lines = lock(&self.lines);
        let name: Arc<str> = Arc::from(name);
        let cell = lines.entry(Arc::clone(&name)).or_insert_with(|| {
            let mut line = Line::new(name, client);
            line.closed = self.closing.load(Ordering::SeqCst);
            Arc::new(LineCell {
                line: Mutex::new(line),
                ready: AtomicBool::new(false),
                key: self.line_key.fetch_add(1, Ordering::Relaxed),
            })
        });
        lock(&cell.line).add_handle(limit, label);
        Arc::clone(cell)
    }

    pub(super) fn find(&self, name: &str) -> Option<Arc<LineCell>> {
        lock(&self.lines).get(name).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<LineCell>> {
        lock(&self.lines).values().cloned().collect()
    }

    /// Drops lines that nobody would miss.
    pub(super) fn sweep(&self, cell: &Arc<LineCell>) {
        let mut lines = lock(&self.lines);
        let line = lock(&cell.line);
        let current = lines.get(&line.name).is_some_and(|other| Arc::ptr_eq(other, cell));
        if current && line.is_unused() {
            lines.remove(&line.name);
        }
    }

    pub(super) fn make_ready(&self, cell: &Arc<LineCell>) {
        self.end_if_inherited(); // first: a line may have been copied while it waited for the driver
        if !cell.ready.swap(true, Ordering::SeqCst) {
            lock(&self.ready).push(Arc::clone(cell));
            self.work.notify_one();
        }
    }

    /// The open connection, waiting for one up to the call timeout.
    pub(crate) async fn session(self: &Arc<Self>) -> Result<Arc<dyn Session>, Link> {
        self.end_if_inherited();
        let mut link = self.link.subscribe();
        let settled = timeout(
            self.call_timeout,
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
                    self.call_timeout
                ))),
            }),
        }
    }

    /// The server has given a sign of life.
    pub(super) fn hear(&self, now: Instant) {
        let nanos = now.saturating_duration_since(self.born).as_nanos();
        self.heard.store(u64::try_from(nanos).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// When the server last gave a sign of life.
    pub(crate) fn heard_at(&self) -> Instant {
        self.born + Duration::from_nanos(self.heard.load(Ordering::Relaxed))
    }

    /// A call beside the turns failed on `session`.
    pub(crate) fn complain(&self, session: &Arc<dyn Session>, error: StoreError) {
        // Weak: a session holds this by the ear it was given.
        *lock(&self.complaint) = Some((Arc::downgrade(session), error));
        self.work.notify_one();
    }

    /// Whether the last that is known of the connection is that there is none.
    pub(crate) fn is_down(&self) -> bool {
        matches!(*self.link.borrow(), Link::Down(_))
    }

    /// Whether a connection is wanted and there is none, for whatever reason.
    pub(crate) fn is_unconnected(&self) -> bool {
        lock(&self.unconnected_since).is_some()
    }

    /// Since when a connection is wanted and there is none.
    #[cfg(feature = "tower")]
    pub(crate) fn unconnected_since(&self) -> Option<Instant> {
        *lock(&self.unconnected_since)
    }

    /// Why there is no connection, if that is known.
    #[cfg(feature = "tower")]
    pub(crate) fn link_trouble(&self) -> Option<StoreError> {
        match &*self.link.borrow() {
            Link::Down(error) => Some(error.clone()),
            _ => None,
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
            cell.update(self, |line| line.close(Instant::now()));
        }
    }

    pub(crate) fn lose_all(&self, reason: LostReason) {
        for cell in self.all() {
            cell.update(self, |line| line.lose_all(reason, Instant::now()));
        }
    }

    /// Resolves once callers of this client hold nothing; for when none can get anything new.
    pub(crate) async fn until_none_held(&self) {
        self.until_each(|line| line.held.is_empty()).await;
    }

    /// Resolves once all is known to be handed back; for when none can get anything new.
    pub(crate) async fn until_flushed(&self) {
        while self.unflushed() > 0 && !self.has_ended() {
            self.until_each(|line| line.unflushed() == 0).await;
        }
    }

    async fn until_each(&self, done: impl Fn(&Line) -> bool) {
        for cell in self.all() {
            self.until(|| done(&lock(&cell.line))).await;
        }
    }

    /// Whether nothing is held and nothing is left to hand back.
    pub(super) fn is_flushed(&self) -> bool {
        lock(&self.lines).values().all(|cell| lock(&cell.line).is_flushed())
    }

    /// How many ids are not known to be handed back.
    pub(crate) fn unflushed(&self) -> usize {
        self.all().iter().map(|cell| lock(&cell.line).unflushed()).sum()
    }

    /// Resolves once `done` says so; looked at after every turn.
    async fn until(&self, done: impl Fn() -> bool) {
        loop {
            let flushed = self.flushed.notified();
            tokio::pin!(flushed);
            flushed.as_mut().enable();
            if done() || self.has_ended() {
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

    pub(super) fn end(&self) {
        lock(&self.identity).phase = Phase::Ended;
        self.driven_by.store(0, Ordering::SeqCst);
        self.close();
        for cell in self.all() {
            // Where turns need no driver, what it was to hand back goes now, and the rest later.
            if self.at_once.load(Ordering::SeqCst) {
                cell.turn_at_once(self);
            } else {
                cell.peek(Line::end);
            }
        }
        self.link.send_replace(Link::Ended);
        self.flushed.notify_waiters();
    }
}

impl Ear for Shared {
    fn wake(&self, name: &str, id: PermitId, number: u64) {
        if let Some(cell) = self.find(name) {
            // Not by a turn of its own here: this is inside somebody else's.
            let wants_driver = cell.peek(|line| {
                line.wake(id, number, Instant::now());
                line.wants_driver()
            });
            // The waiter is on its way; a driver that need not look would only be in it.
            if wants_driver {
                self.make_ready(&cell);
            }
        }
    }

    #[cfg(feature = "redis")]
    fn hearing_changed(&self) {
        for cell in self.all() {
            cell.update(self, Line::ask_about_all);
        }
    }

    #[cfg(feature = "redis")]
    fn gone(&self) {
        self.work.notify_one();
    }
}
