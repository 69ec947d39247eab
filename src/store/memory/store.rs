//! The store that clients of one process share.

use std::fmt;
use std::future::ready;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::error::StoreError;
use crate::id::{ClientId, PermitId};
use crate::inspection::{Inspection, KickOutcome};
use crate::numbers::Incarnation;
use crate::store::{BoxFuture, Kick, Session, Store, Turn, TurnOutcome, WakeListener};
use crate::sync::lock;

use super::names::Names;
use super::session::MemorySession;
use super::state::{MemoryState, WakeUps};

/// A store in this process, shared by all clients that are made from it. Cheap to clone.
///
/// It gives the same replies as Redis. It runs on tokio's clock: with `tokio::time::pause`, leases
/// end in a test without waiting. The memory of a name is free again when nothing is held, nobody
/// waits and no override is set. No call takes longer where there are more names.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use zset_semaphore::{Client, MemoryStore};
///
/// let memory = MemoryStore::new();
/// let one = Client::with_memory(&memory).semaphore("jobs", 1).build()?;
/// let two = Client::with_memory(&memory).semaphore("jobs", 1).build()?;
/// let permit = one.acquire(1).await?;
/// assert!(two.try_acquire(1).await.is_err());
/// # drop(permit);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MemoryStore {
    inner: Arc<Inner>,
}

struct Inner {
    names: Mutex<Names>,
    clock: Clock,
    incarnation: Incarnation,
}

/// The wall clock as it was when the store was made, moved on by tokio's clock.
struct Clock {
    start: Instant,
    start_micros: u64,
}

impl Clock {
    fn start() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let start_micros = u64::try_from(since.as_micros()).unwrap_or(0);
        Self { start: Instant::now(), start_micros }
    }

    /// Returns the time in microseconds. Outside a runtime it is the start: tokio's clock may be
    /// paused in the runtime and run on outside. Too early is safe.
    fn now_micros(&self) -> u64 {
        if Handle::try_current().is_err() {
            return self.start_micros;
        }
        let since = self.start.elapsed().as_micros();
        self.start_micros + u64::try_from(since).unwrap_or(u64::MAX / 2)
    }
}

impl MemoryStore {
    /// Creates an empty store.
    pub fn new() -> Self {
        let clock = Clock::start();
        let incarnation = Incarnation::at(clock.start_micros);
        Self { inner: Arc::new(Inner { names: Mutex::default(), clock, incarnation }) }
    }

    pub(super) fn turn(&self, turn: &Turn) -> TurnOutcome {
        let (outcome, wake_ups) = self.with_state(&turn.name, |state, now| state.turn(turn, now));
        self.wake(&turn.name, wake_ups);
        outcome
    }

    pub(super) fn inspect(&self, name: &Arc<str>) -> Inspection {
        self.with_state(name, |state, now| state.inspect(now / 1000))
    }

    pub(super) fn set_limit(&self, name: &Arc<str>, limit: Option<u32>) {
        self.with_state(name, |state, now| state.set_limit(limit, now));
    }

    pub(super) fn kick(&self, name: &Arc<str>, id: PermitId, kick: Kick) -> KickOutcome {
        let (outcome, wake_ups) =
            self.with_state(name, |state, now| state.kick(id, kick, now / 1000));
        self.wake(name, wake_ups);
        outcome
    }

    pub(super) fn forget_listener(&self, client: ClientId) {
        lock(&self.inner.names).forget_listener(client);
    }

    fn with_state<T>(&self, name: &Arc<str>, act: impl FnOnce(&mut MemoryState, u64) -> T) -> T {
        let now = self.inner.clock.now_micros();
        lock(&self.inner.names).with_state(name, now, self.inner.incarnation, act)
    }

    /// Delivers wake-ups while nothing is locked: a listener runs code of others.
    fn wake(&self, name: &str, wake_ups: impl IntoIterator<Item = WakeUps>) {
        for (client, wake_ups) in wake_ups {
            let listener = lock(&self.inner.names).listener(client);
            if let Some(listener) = listener {
                for (id, wake_up) in wake_ups {
                    listener.wake(name, id, wake_up);
                }
            }
        }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("names", &lock(&self.inner.names).len()).finish()
    }
}

impl Store for MemoryStore {
    fn open(
        &self,
        client: ClientId,
        listener: Arc<dyn WakeListener>,
    ) -> BoxFuture<'_, Result<Arc<dyn Session>, StoreError>> {
        lock(&self.inner.names).listen(client, Arc::downgrade(&listener));
        let session: Arc<dyn Session> =
            Arc::new(MemorySession { store: self.clone(), client, _listener: listener });
        Box::pin(ready(Ok(session)))
    }

    fn turn_inline(&self, turn: &Turn) -> Option<TurnOutcome> {
        Some(self.turn(turn))
    }

    fn address(&self) -> String {
        "this process".to_owned()
    }
}
