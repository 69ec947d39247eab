//! The keys that a process remembers, each with its semaphore.
//!
//! # Implementation
//!
//! One list, the key used last first. It may grow beyond its capacity: a key in use is put in front
//! instead of being forgotten. No request looks at more than four others, and adds no more than one, so
//! the list is as long as its capacity, or by a third longer than there are keys in use.
//!
//! A look-up runs in a task of its own and ends whoever waits for it. Its task knows nothing of the
//! list: how it ended is taken in when the key is next asked for.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lru::LruCache;
use tokio::runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::entry::{Ended, Entry, Look, Pending, Replaced, Unknown};
use super::error::{Facts, Reason, Rejection};
use super::handle::{Handle, Here};
use super::key_limit::{KeyLimit, LookupError};
use super::lookup_log::LookupLog;
use crate::semaphore_builder::SemaphoreBuilder;
use crate::sync::lock;
use crate::{AcquireError, Client, ConfigError, ZSetSemaphore};

/// No look-up of a limit takes longer.
pub(super) const LONGEST_LOOKUP: Duration = Duration::from_secs(10);
/// How many keys one request looks at, whether they may be forgotten.
const SWEPT_AT_ONCE: usize = 4;

pub(super) type Adapt = dyn Fn(SemaphoreBuilder) -> SemaphoreBuilder + Send + Sync;

/// Makes the semaphores.
pub(super) struct Open {
    pub(super) client: Client,
    pub(super) name: Arc<str>,
    pub(super) adapt: Arc<Adapt>,
}

/// The keys that this process remembers: those in use, and others as long as there is room for them.
pub(super) struct Keys {
    pub(super) open: Open,
    pub(super) limit: KeyLimit,
    capacity: usize,
    idle: Duration,
    refresh: Duration,
    /// The one used last comes first.
    entries: Mutex<LruCache<String, Entry>>,
    log: LookupLog,
}

impl Open {
    pub(super) fn semaphore(&self, key: &str, limit: u32) -> Result<ZSetSemaphore, ConfigError> {
        let name = format!("{}/{key}", self.name);
        (self.adapt)(self.client.semaphore(name, limit)).build()
    }

    fn handle(&self, key: &str, limit: u32, here: Arc<Here>) -> Result<Arc<Handle>, LookupError> {
        let semaphore =
            self.semaphore(key, limit).map_err(|error| Arc::new(error) as LookupError)?;
        Ok(Handle::new(semaphore, Arc::clone(&self.name), here))
    }
}

impl Keys {
    pub(super) fn new(
        open: Open,
        limit: KeyLimit,
        capacity: NonZeroUsize,
        (idle, refresh): (Duration, Duration),
    ) -> Self {
        Self {
            open,
            limit,
            capacity: capacity.get(),
            idle,
            refresh,
            entries: Mutex::new(LruCache::unbounded()),
            log: LookupLog::default(),
        }
    }

    pub(super) fn remembered(&self) -> usize {
        lock(&self.entries).len()
    }

    /// The handle of a key, where that needs no waiting.
    pub(super) fn known(self: &Arc<Self>, key: &str) -> Option<Arc<Handle>> {
        match self.look(key) {
            Look::Known(handle) => Some(handle),
            Look::Due { known, here } if known.is_some() || self.limit.is_at_once() => {
                self.find_out(key, known, here).ok()
            }
            Look::Due { .. } | Look::Unknown(_) => None,
        }
    }

    /// Waits for the handle of a key, for `longest` at the most.
    pub(super) async fn open(
        self: Arc<Self>,
        key: String,
        longest: Duration,
    ) -> Result<Arc<Handle>, Rejection> {
        if runtime::Handle::try_current().is_err() {
            let reason = Reason::Acquire(AcquireError::NoRuntime);
            return Err(self.reject(&key, reason, Duration::ZERO));
        }
        let found = match self.look(&key) {
            Look::Known(handle) => Ok(handle),
            Look::Due { known, here } => self.find_out(&key, known, here),
            Look::Unknown(unknown) => Err(unknown),
        };
        let (error, pause) = match found {
            Ok(handle) => return Ok(handle),
            Err(Unknown::Failed(error, pause)) => (error, pause),
            Err(Unknown::Pending(pending)) => match end_of(pending, longest).await {
                Ok(handle) => return Ok(handle),
                Err(error) => (error, Duration::ZERO),
            },
        };
        Err(self.reject(&key, Reason::LimitLookup(error), pause))
    }

    fn look(&self, key: &str) -> Look {
        let now = Instant::now();
        // What this puts out goes when the lock is open again.
        let mut out = Vec::new();
        let mut entries = lock(&self.entries);
        let entry = entries.get_or_insert_mut_ref(key, || Entry::new(now));
        out.extend(entry.settle(self.refresh));
        let look = entry.look(now);
        self.sweep(&mut entries, now, &mut out);
        drop(entries);
        look
    }

    /// Forgets keys that are idle, or too many. A few at a time: no request pays for all.
    fn sweep(&self, entries: &mut LruCache<String, Entry>, now: Instant, out: &mut Vec<Replaced>) {
        // What is known cannot be found out again while look-ups fail.
        let is_idle = |entry: &Entry| {
            entry.unused_for(now) >= self.idle && !(entry.is_known() && self.log.is_in_trouble())
        };
        for _ in 0..SWEPT_AT_ONCE {
            let too_many = entries.len() > self.capacity;
            let Some((key, entry)) = entries.iter_mut().next_back() else { break };
            out.extend(entry.settle(self.refresh));
            if !too_many && !is_idle(entry) {
                break;
            }
            let key = key.clone();
            if entry.is_in_use() {
                entry.touch(now);
                entries.promote(&key);
            } else {
                out.extend(entries.pop(&key).map(Entry::into_replaced));
            }
        }
    }

    /// Finds out the limit of a key: at once, or in the background. What is known is served meanwhile.
    fn find_out(
        self: &Arc<Self>,
        key: &str,
        known: Option<Arc<Handle>>,
        here: Arc<Here>,
    ) -> Result<Arc<Handle>, Unknown> {
        let unknown = match (self.limit.at_once(key), runtime::Handle::try_current()) {
            (Some(limit), _) => match self.learn(key, limit, here) {
                Ok(handle) => return Ok(handle),
                Err(error) => Unknown::Failed(error, Duration::ZERO),
            },
            (None, Ok(runtime)) => Unknown::Pending(self.begin(key, here, &runtime)),
            // A later request finds it out.
            (None, Err(error)) => Unknown::Failed(Arc::new(error), Duration::ZERO),
        };
        known.ok_or(unknown)
    }

    fn learn(&self, key: &str, limit: u32, here: Arc<Here>) -> Result<Arc<Handle>, LookupError> {
        let found = self.open.handle(key, limit, here);
        let ended = Ended { found: found.clone(), at: Instant::now() };
        let mut entries = lock(&self.entries);
        let replaced = entries.get_mut(key).map(|entry| entry.learn(ended, self.refresh));
        drop(entries);
        drop(replaced);
        found
    }

    /// The look-up of a key, which is begun if there is none. Who asks holds `here`: so it is in use,
    /// and on the list.
    fn begin(self: &Arc<Self>, key: &str, here: Arc<Here>, runtime: &runtime::Handle) -> Pending {
        let mut entries = lock(&self.entries);
        let entry = entries.get_or_insert_mut_ref(key, || Entry::new(Instant::now()));
        entry.pending(|retried| {
            let (sender, receiver) = watch::channel(None);
            runtime.spawn(Arc::clone(self).look_up(key.to_owned(), here, retried, sender));
            receiver
        })
    }

    async fn look_up(
        self: Arc<Self>,
        key: String,
        here: Arc<Here>,
        retried: bool,
        sender: watch::Sender<Option<Ended>>,
    ) {
        let limit = limit_of(self.limit.clone(), key.clone()).await;
        let found = limit.and_then(|limit| self.open.handle(&key, limit, here));
        match &found {
            Ok(_) => self.log.succeeded(&self.open.name, retried),
            Err(error) => self.log.failed(&self.open.name, error),
        }
        sender.send_replace(Some(Ended { found, at: Instant::now() }));
    }

    fn reject(&self, key: &str, reason: Reason, pause: Duration) -> Rejection {
        Rejection::new(Facts {
            semaphore: format!("{}/{key}", self.open.name).into(),
            limit_name: Arc::clone(&self.open.name),
            reason,
            in_use: None,
            limit: 0,
            place: None,
            retry_after: pause.max(Duration::from_secs(1)),
        })
    }
}

/// What the source says of a key. In a task of its own, so that a panic is a failure as others are.
async fn limit_of(limit: KeyLimit, key: String) -> Result<u32, LookupError> {
    let mut task = JoinSet::new();
    task.spawn(async move { limit.find(&key).await });
    match timeout(LONGEST_LOOKUP, task.join_next()).await {
        Ok(Some(Ok(limit))) => limit,
        Ok(Some(Err(panic))) => Err(Arc::new(panic)),
        Ok(None) => Err(Arc::new(LookupLost)),
        Err(elapsed) => Err(Arc::new(elapsed)),
    }
}

/// How a look-up ends for one who waits for it for `longest` at the most.
async fn end_of(mut pending: Pending, longest: Duration) -> Result<Arc<Handle>, LookupError> {
    let ended = pending.wait_for(Option::is_some);
    match timeout(longest, ended).await {
        Ok(Ok(ended)) => match &*ended {
            Some(ended) => ended.found.clone(),
            None => Err(Arc::new(LookupLost)),
        },
        Ok(Err(_)) => Err(Arc::new(LookupLost)),
        Err(elapsed) => Err(Arc::new(elapsed)),
    }
}

/// The runtime that looked it up has ended.
#[derive(Debug, thiserror::Error)]
#[error("the runtime of the look-up has ended")]
struct LookupLost;
