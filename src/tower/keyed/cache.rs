//! The cache of the keys that a process has seen, each with its limiter.
//!
//! # Implementation
//!
//! An LRU list that may grow beyond its capacity: a key in use moves to the front instead of being evicted.
//! Each request adds at most one key and looks at up to four others to evict. So the list never grows beyond
//! its capacity, or beyond four thirds of the number of keys in use, whichever is more.
//!
//! A look-up runs in its own task, and finishes even if nobody waits for it any more. The task does not
//! change the list. The entry takes in the result at the next request of the key.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lru::LruCache;
use tokio::runtime;
use tokio::sync::watch;
use tokio::time::Instant;

use super::entry::{Entry, KeyState, Replaced, Unknown};
use super::factory::SemaphoreFactory;
use super::limit::{KeyLimit, LookupError};
use super::lookup::{FinishedLookup, PendingLookup, look_up, wait_for};
use super::lookup_log::LookupLog;
use crate::AcquireError;
use crate::metrics::KeysMeter;
use crate::sync::lock;
use crate::tower::admission::limiter::{Limiter, LocalState};
use crate::tower::rejection::{Details, Reason, Rejection};

/// How many keys one request looks at for eviction.
const SWEPT_AT_ONCE: usize = 4;
/// For how many keys the map keeps room.
const KEPT: usize = 256;
const UNBOUNDED: NonZeroUsize = NonZeroUsize::MAX;
const NEARLY_UNBOUNDED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(usize::MAX / 2);

/// How many keys are cached, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct CacheSettings {
    pub(super) capacity: NonZeroUsize,
    pub(super) idle_timeout: Duration,
    pub(super) refresh_after: Duration,
}

/// The cached keys: those in use, and others up to the capacity.
pub(super) struct KeyCache {
    factory: SemaphoreFactory,
    limit: KeyLimit,
    settings: CacheSettings,
    entries: Mutex<Entries>,
    log: LookupLog,
}

/// The entries of the cached keys.
struct Entries {
    /// The key that was used last comes first.
    by_key: LruCache<String, Entry>,
    /// How many there were at most since the map was shrunk.
    most: usize,
    meter: KeysMeter,
}

impl Entries {
    fn new(meter: KeysMeter) -> Self {
        Self { by_key: LruCache::unbounded(), most: 0, meter }
    }

    fn tell_number(&mut self) {
        self.meter.set(self.by_key.len());
    }

    /// Gives back the memory of the map after a burst of keys.
    fn shrink(&mut self) {
        self.most = self.most.max(self.by_key.len());
        if self.most > 4 * self.by_key.len() + KEPT {
            self.most = self.by_key.len();
            // The map shrinks when its bound changes. Nothing ever reaches either bound.
            let bound = if self.by_key.cap() == UNBOUNDED { NEARLY_UNBOUNDED } else { UNBOUNDED };
            self.by_key.resize(bound);
        }
    }
}

impl KeyCache {
    pub(super) fn new(factory: SemaphoreFactory, limit: KeyLimit, settings: CacheSettings) -> Self {
        let entries = Mutex::new(Entries::new(KeysMeter::new(&factory.limit_name)));
        Self { factory, limit, settings, entries, log: LookupLog::default() }
    }

    pub(super) fn len(&self) -> usize {
        lock(&self.entries).by_key.len()
    }

    pub(super) fn limit_name(&self) -> &Arc<str> {
        &self.factory.limit_name
    }

    pub(super) fn limit(&self) -> &KeyLimit {
        &self.limit
    }

    /// Returns the limiter of a key, if that needs no waiting.
    pub(super) fn known(self: &Arc<Self>, key: &str) -> Option<Arc<Limiter>> {
        match self.state(key) {
            KeyState::Known(limiter) => Some(limiter),
            KeyState::Due { known, local } if known.is_some() || self.limit.is_immediate() => {
                self.refresh(key, known, local).ok()
            }
            KeyState::Due { .. } | KeyState::Unknown(_) => None,
        }
    }

    /// Waits for the limiter of a key, for at most `longest`.
    pub(super) async fn find(
        self: Arc<Self>,
        key: String,
        longest: Duration,
    ) -> Result<Arc<Limiter>, Rejection> {
        if runtime::Handle::try_current().is_err() {
            let reason = Reason::Acquire(AcquireError::NoRuntime);
            return Err(self.reject(&key, reason, Duration::ZERO));
        }
        let found = match self.state(&key) {
            KeyState::Known(limiter) => Ok(limiter),
            KeyState::Due { known, local } => self.refresh(&key, known, local),
            KeyState::Unknown(unknown) => Err(unknown),
        };
        let (error, pause) = match found {
            Ok(limiter) => return Ok(limiter),
            Err(Unknown::Failed(error, pause)) => (error, pause),
            Err(Unknown::Pending(pending)) => match wait_for(pending, longest).await {
                Ok(limiter) => return Ok(limiter),
                Err(error) => (error, Duration::ZERO),
            },
        };
        Err(self.reject(&key, Reason::LimitLookup(error), pause))
    }

    /// Returns what is known of a key, adds the key if it is new, and evicts others.
    fn state(&self, key: &str) -> KeyState {
        let now = Instant::now();
        // Declared before the lock guard, so it is dropped after the unlock.
        let mut replaced = Vec::new();
        let mut entries = lock(&self.entries);
        let entry = entries.by_key.get_or_insert_mut_ref(key, || Entry::new(now));
        replaced.extend(entry.finish_lookup(self.settings.refresh_after));
        let state = entry.state(now);
        self.evict(&mut entries, now, &mut replaced);
        entries.tell_number();
        drop(entries);
        state
    }

    /// Evicts keys that are idle, or beyond the capacity. It looks at a few keys only, so that each request
    /// costs little.
    fn evict(&self, entries: &mut Entries, now: Instant, replaced: &mut Vec<Replaced>) {
        // While look-ups fail, an evicted limit could not be looked up again.
        let is_idle = |entry: &Entry| {
            entry.unused_for(now) >= self.settings.idle_timeout
                && !(entry.is_known() && self.log.is_failing())
        };
        for _ in 0..SWEPT_AT_ONCE {
            let too_many = entries.by_key.len() > self.settings.capacity.get();
            let Some((key, entry)) = entries.by_key.iter_mut().next_back() else { break };
            replaced.extend(entry.finish_lookup(self.settings.refresh_after));
            if !too_many && !is_idle(entry) {
                break;
            }
            let key = key.clone();
            if entry.is_in_use() {
                entry.touch(now);
                entries.by_key.promote(&key);
            } else {
                replaced.extend(entries.by_key.pop(&key).map(Entry::into_replaced));
            }
        }
        entries.shrink();
    }

    /// Gets a new limit for a key: immediately, or by a look-up in the background. Until that ends, it
    /// returns the known limiter.
    fn refresh(
        self: &Arc<Self>,
        key: &str,
        known: Option<Arc<Limiter>>,
        local: Arc<LocalState>,
    ) -> Result<Arc<Limiter>, Unknown> {
        let unknown = match (self.limit.immediate(key), runtime::Handle::try_current()) {
            (Some(limit), _) => match self.set_limit(key, limit, local) {
                Ok(limiter) => return Ok(limiter),
                Err(error) => Unknown::Failed(error, Duration::ZERO),
            },
            (None, Ok(runtime)) => Unknown::Pending(self.begin_lookup(key, local, &runtime)),
            // A later request looks it up.
            (None, Err(error)) => Unknown::Failed(Arc::new(error), Duration::ZERO),
        };
        known.ok_or(unknown)
    }

    fn set_limit(
        &self,
        key: &str,
        limit: u32,
        local: Arc<LocalState>,
    ) -> Result<Arc<Limiter>, LookupError> {
        let found = self.factory.limiter(key, limit, local);
        let finished = FinishedLookup { found: found.clone(), at: Instant::now() };
        let mut entries = lock(&self.entries);
        let refresh_after = self.settings.refresh_after;
        let replaced =
            entries.by_key.get_mut(key).map(|entry| entry.update(finished, refresh_after));
        drop(entries);
        drop(replaced);
        found
    }

    /// Returns the look-up of a key under way, and begins it if there is none. The caller holds `local`, so
    /// the key is in use and on the list.
    fn begin_lookup(
        self: &Arc<Self>,
        key: &str,
        local: Arc<LocalState>,
        runtime: &runtime::Handle,
    ) -> PendingLookup {
        let mut entries = lock(&self.entries);
        let entry = entries.by_key.get_or_insert_mut_ref(key, || Entry::new(Instant::now()));
        entry.pending_or_begin(|retried| {
            let (sender, receiver) = watch::channel(None);
            runtime.spawn(Arc::clone(self).run_lookup(key.to_owned(), local, retried, sender));
            receiver
        })
    }

    /// The task of a look-up.
    async fn run_lookup(
        self: Arc<Self>,
        key: String,
        local: Arc<LocalState>,
        retried: bool,
        sender: watch::Sender<Option<FinishedLookup>>,
    ) {
        let limit = look_up(self.limit.clone(), key.clone()).await;
        let found = limit.and_then(|limit| self.factory.limiter(&key, limit, local));
        match &found {
            Ok(_) => self.log.succeeded(self.limit_name(), retried),
            Err(error) => self.log.failed(self.limit_name(), error),
        }
        sender.send_replace(Some(FinishedLookup { found, at: Instant::now() }));
    }

    fn reject(&self, key: &str, reason: Reason, pause: Duration) -> Rejection {
        Rejection::new(Details {
            semaphore_name: self.factory.semaphore_name(key).into(),
            limit_name: Arc::clone(self.limit_name()),
            reason,
            in_use: None,
            limit: 0,
            place: None,
            retry_after: pause.max(Duration::from_secs(1)),
        })
    }
}
