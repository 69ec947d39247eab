//! The keys that a process remembers, each with its semaphore.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lru::LruCache;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout};

use super::error::{Facts, Reason, Rejection};
use super::handle::{Handle, Here};
use super::key_limit::{KeyLimit, LookupError};
use crate::semaphore::SemaphoreBuilder;
use crate::sync::lock;
use crate::{Client, ConfigError, ZSetSemaphore};

/// Filled by the first who needs it. A failure is for those who wait for it: who comes later makes
/// a new cell.
type Cell = Arc<OnceCell<Result<Arc<Handle>, LookupError>>>;
pub(super) type Adapt = dyn Fn(SemaphoreBuilder) -> SemaphoreBuilder + Send + Sync;

/// Makes the semaphores.
pub(super) struct Open {
    pub(super) client: Client,
    pub(super) name: Arc<str>,
    pub(super) adapt: Arc<Adapt>,
}

/// The keys that this process remembers: as many as it has room for, and no longer than they are used.
pub(super) struct Keys {
    pub(super) open: Open,
    pub(super) limit: KeyLimit,
    idle: Duration,
    refresh: Duration,
    /// The one used last comes first.
    entries: Mutex<LruCache<String, Entry>>,
}

struct Entry {
    handle: Cell,
    here: Arc<Here>,
    used: Instant,
    made: Instant,
}

impl Entry {
    fn handle(&self) -> Option<&Arc<Handle>> {
        self.handle.get().and_then(|found| found.as_ref().ok())
    }

    /// Whether its limit could not be found out.
    fn has_failed(&self) -> bool {
        matches!(self.handle.get(), Some(Err(_)))
    }

    /// Whether a request waits or runs, or is about to: this process must not forget it.
    fn is_in_use(&self) -> bool {
        let handles = usize::from(self.handle().is_some());
        Arc::strong_count(&self.handle) > 1
            || Arc::strong_count(&self.here) > 1 + handles
            || self.handle().is_some_and(|handle| Arc::strong_count(handle) > 1)
    }
}

impl Open {
    pub(super) fn semaphore(&self, key: &str, limit: u32) -> Result<ZSetSemaphore, ConfigError> {
        let name = format!("{}/{key}", self.name);
        (self.adapt)(self.client.semaphore(name, limit)).build()
    }
}

impl Keys {
    pub(super) fn new(
        open: Open,
        limit: KeyLimit,
        capacity: NonZeroUsize,
        (idle, refresh): (Duration, Duration),
    ) -> Self {
        Self { open, limit, idle, refresh, entries: Mutex::new(LruCache::new(capacity)) }
    }

    pub(super) fn remembered(&self) -> usize {
        lock(&self.entries).len()
    }

    /// The cell of a key, which is filled by the first who needs it, and what goes into it.
    pub(super) fn entry(&self, key: &str) -> (Cell, Arc<Here>) {
        let now = Instant::now();
        // Whom this puts out goes when the lock is open again: dropping it takes others.
        let mut out = Vec::new();
        let mut entries = lock(&self.entries);
        let entry = match entries.get_mut(key) {
            Some(entry)
                if !entry.has_failed()
                    && now.saturating_duration_since(entry.made) < self.refresh =>
            {
                entry.used = now;
                (Arc::clone(&entry.handle), Arc::clone(&entry.here))
            }
            known => {
                let here = known.map(|entry| Arc::clone(&entry.here)).unwrap_or_default();
                let handle = Cell::default();
                let found = (Arc::clone(&handle), Arc::clone(&here));
                let entry = Entry { handle, here, used: now, made: now };
                out.extend(entries.push(key.to_owned(), entry));
                found
            }
        };
        let idle = |entry: &Entry| now.saturating_duration_since(entry.used) >= self.idle;
        // A few at a time: no request pays for all that were forgotten.
        for _ in 0..4 {
            let Some((key, _)) = entries.peek_lru().filter(|(_, entry)| idle(entry)) else { break };
            let key = key.clone();
            match entries.get_mut(&key) {
                Some(entry) if entry.is_in_use() => entry.used = now, // which makes it the first
                _ => out.extend(entries.pop_entry(&key)),
            }
        }
        drop(entries);
        drop(out);
        entry
    }

    async fn find(&self, key: &str, here: &Arc<Here>) -> Result<Arc<Handle>, LookupError> {
        let limit = self.limit.find(key).await?;
        let semaphore =
            self.open.semaphore(key, limit).map_err(|error| Arc::new(error) as LookupError)?;
        Ok(Handle::new(semaphore, Arc::clone(&self.open.name), Arc::clone(here)))
    }

    /// Waits for the handle of a key, for so long at the most.
    pub(super) async fn open(
        self: Arc<Self>,
        key: String,
        cell: Cell,
        here: Arc<Here>,
        longest: Duration,
    ) -> Result<Arc<Handle>, Rejection> {
        let found = cell.get_or_init(|| self.find(&key, &here));
        // Without a runtime there are no timers; the wait that follows says so.
        let found = match tokio::runtime::Handle::try_current() {
            Ok(_) => match timeout(longest, found).await {
                Ok(found) => found.clone(),
                Err(elapsed) => Err(Arc::new(elapsed) as LookupError),
            },
            Err(_) => found.await.clone(),
        };
        found.map_err(|error| {
            Rejection::new(Facts {
                semaphore: format!("{}/{key}", self.open.name).into(),
                limit_name: Arc::clone(&self.open.name),
                reason: Reason::NoLimit(error),
                in_use: None,
                limit: 0,
                place: None,
                retry_after: Duration::from_secs(1),
            })
        })
    }
}
