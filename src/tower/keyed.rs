//! A semaphore per key of the request.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lru::LruCache;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout};

use super::admit::Admit;
use super::error::{Facts, Reason, Rejection};
use super::handle::{Handle, Here};
use super::key::{KeyExtractor, NO_KEY};
use super::sealed::Sealed;
use super::select::Select;
use super::settings::Settings;
use crate::semaphore::SemaphoreBuilder;
use crate::store::BoxFuture;
use crate::sync::lock;
use crate::{Client, ConfigError};

type LookupError = Arc<dyn StdError + Send + Sync>;
/// Filled by the first who needs it. A failure is for those who wait for it: who comes later makes
/// a new cell.
type Cell = Arc<OnceCell<Result<Arc<Handle>, LookupError>>>;
type Lookup = dyn Fn(&str) -> BoxFuture<'static, Result<u32, LookupError>> + Send + Sync;
type Adapt = dyn Fn(SemaphoreBuilder) -> SemaphoreBuilder + Send + Sync;

/// The limit of each key.
///
/// Keys are given as they stand in the store: as [`Key`](super::Key) says, a secret by its hash.
/// Requests without a key have the key `-`.
#[derive(Clone)]
pub struct KeyLimit {
    source: Source,
}

#[derive(Clone)]
enum Source {
    Fixed(u32),
    Lookup(Arc<Lookup>),
}

impl KeyLimit {
    /// What `limit` says for a key.
    pub fn by(limit: impl Fn(&str) -> u32 + Send + Sync + 'static) -> Self {
        Self::lookup(move |key| std::future::ready(Ok::<_, std::convert::Infallible>(limit(&key))))
    }

    /// What `limit` finds out, say from the plan of a customer.
    ///
    /// It is asked once per key and [`refresh`](KeyedBuilder::refresh) period; requests of the key wait for it
    /// meanwhile, up to their timeout. Where it fails or takes longer, they end with
    /// [`Reason::NoLimit`], and the next request asks again. A timeout of zero, which is for room
    /// alone, does not bound it: give it a deadline of its own. A limit of 0 lets nobody in.
    pub fn lookup<F, Fut, E>(limit: F) -> Self
    where
        F: Fn(String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<u32, E>> + Send + 'static,
        E: StdError + Send + Sync + 'static,
    {
        let lookup = move |key: &str| -> BoxFuture<'static, Result<u32, LookupError>> {
            let limit = limit(key.to_owned());
            Box::pin(async move { limit.await.map_err(|error| Arc::new(error) as LookupError) })
        };
        Self { source: Source::Lookup(Arc::new(lookup)) }
    }
}

impl From<u32> for KeyLimit {
    /// The same for each key.
    fn from(limit: u32) -> Self {
        Self { source: Source::Fixed(limit) }
    }
}

impl fmt::Debug for KeyLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source {
            Source::Fixed(limit) => f.debug_tuple("KeyLimit").field(&limit).finish(),
            Source::Lookup(_) => f.write_str("KeyLimit"),
        }
    }
}

/// Configures a [`Keyed`]; made by [`Keyed::builder`].
///
/// # Default
///
/// | setting | default |
/// |---|---|
/// | [`semaphore`](Self::semaphore) | as those of [`Client::semaphore`] |
/// | [`capacity`](Self::capacity) | 10 000 keys |
/// | [`idle`](Self::idle) | 60 s |
/// | [`refresh`](Self::refresh) | 60 s |
#[derive(Clone)]
#[must_use = "a builder does nothing until `build()`"]
pub struct KeyedBuilder<K> {
    client: Client,
    name: String,
    key: K,
    limit: KeyLimit,
    adapt: Arc<Adapt>,
    capacity: usize,
    idle: Duration,
    refresh: Duration,
}

impl<K> KeyedBuilder<K> {
    /// Changes the settings of the semaphore of each key: its lease, its `max_hold` and so on.
    pub fn semaphore(
        mut self,
        adapt: impl Fn(SemaphoreBuilder) -> SemaphoreBuilder + Send + Sync + 'static,
    ) -> Self {
        self.adapt = Arc::new(adapt);
        self
    }

    /// Of how many keys this process remembers the semaphore and its limit, 1 or more. Beyond it,
    /// the key that was not used for longest is forgotten: its permits and waiters stay as they
    /// are, only its limit is found out anew. Default: 10 000.
    pub fn capacity(mut self, keys: usize) -> Self {
        self.capacity = keys;
        self
    }

    /// After how long without a request, waiting or running, a key is forgotten. Default: 60 s.
    pub fn idle(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }

    /// After how long the limit of a key is found out anew. Default: 60 s.
    pub fn refresh(mut self, refresh: Duration) -> Self {
        self.refresh = refresh;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the setting, its value and what is allowed. The name may have up to
    /// 440 bytes, which leaves room for the keys.
    pub fn build(self) -> Result<Keyed<K>, ConfigError> {
        let Some(capacity) = NonZeroUsize::new(self.capacity) else {
            return Err(ConfigError::new("capacity", self.capacity, "1 key or more"));
        };
        if self.name.len() > 440 {
            return Err(ConfigError::new("name of a keyed limit", self.name, "up to 440 bytes"));
        }
        let open = Open { client: self.client, name: self.name.into(), adapt: self.adapt };
        open.semaphore(NO_KEY, 1)?;
        let shared = Shared {
            open,
            limit: self.limit,
            idle: self.idle,
            refresh: self.refresh,
            entries: Mutex::new(LruCache::new(capacity)),
        };
        Ok(Keyed { key: Arc::new(self.key), shared: Arc::new(shared) })
    }
}

impl<K> fmt::Debug for KeyedBuilder<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedBuilder")
            .field("name", &self.name)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// A semaphore for each key of the requests, all with one name in front.
///
/// What keys others choose costs them, not this process: it remembers a bounded number of them, long
/// ones and secrets go by their hash, and the store forgets a key some seconds after its last
/// permit.
///
/// # Examples
///
/// At most 4 chats at once for each API key, and 20 for that of the boss:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::convert::Infallible;
///
/// use axum::{Router, routing::get};
/// use zset_semaphore::{Client, tower::{Header, KeyLimit, Keyed, ZSetSemaphoreLayer}};
///
/// let client = Client::in_memory();
/// let tenant = Header::new("x-tenant".parse()?);
/// let limit = KeyLimit::lookup(|key| async move {
///     Ok::<_, Infallible>(if key == "boss" { 20 } else { 4 }) // say, from a database
/// });
/// let per_tenant = Keyed::builder(&client, "chats-of", tenant, limit).build()?;
/// let layer = ZSetSemaphoreLayer::keyed(per_tenant).answer();
/// let app: Router = Router::new().route("/", get(|| async { "token" })).layer(layer);
/// # Ok(())
/// # }
/// ```
pub struct Keyed<K> {
    key: Arc<K>,
    shared: Arc<Shared>,
}

/// Makes the semaphores.
struct Open {
    client: Client,
    name: Arc<str>,
    adapt: Arc<Adapt>,
}

struct Shared {
    open: Open,
    limit: KeyLimit,
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

impl<K> Keyed<K> {
    /// A semaphore named `<name>/<key>` for each key that `key` takes out of requests, with the
    /// `limit` of each.
    pub fn builder(
        client: &Client,
        name: impl Into<String>,
        key: K,
        limit: impl Into<KeyLimit>,
    ) -> KeyedBuilder<K> {
        KeyedBuilder {
            client: client.clone(),
            name: name.into(),
            key,
            limit: limit.into(),
            adapt: Arc::new(|builder| builder),
            capacity: 10_000,
            idle: Duration::from_secs(60),
            refresh: Duration::from_secs(60),
        }
    }

    /// Of how many keys this process remembers the semaphore just now.
    pub fn remembered(&self) -> usize {
        lock(&self.shared.entries).len()
    }

    pub(super) fn name(&self) -> Arc<str> {
        Arc::clone(&self.shared.open.name)
    }
}

impl Open {
    fn semaphore(&self, key: &str, limit: u32) -> Result<crate::ZSetSemaphore, ConfigError> {
        let name = format!("{}/{key}", self.name);
        (self.adapt)(self.client.semaphore(name, limit)).build()
    }
}

impl Shared {
    /// The cell of a key, which is filled by the first who needs it, and what goes into it.
    fn entry(&self, key: &str) -> (Cell, Arc<Here>) {
        let now = Instant::now();
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
                // Whom it puts out goes when the lock is open again: dropping it takes others.
                let out = entries.push(key.to_owned(), entry);
                drop(entries);
                drop(out);
                entries = lock(&self.entries);
                found
            }
        };
        let idle = |entry: &Entry| now.saturating_duration_since(entry.used) >= self.idle;
        // A few at a time: no request pays for all that were forgotten.
        let mut out = Vec::new();
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
        let limit = match &self.limit.source {
            Source::Fixed(limit) => *limit,
            Source::Lookup(lookup) => lookup(key).await?,
        };
        let semaphore =
            self.open.semaphore(key, limit).map_err(|error| Arc::new(error) as LookupError)?;
        Ok(Handle::new(semaphore, Arc::clone(&self.open.name), Arc::clone(here)))
    }

    async fn open(
        self: Arc<Self>,
        key: String,
        cell: Cell,
        here: Arc<Here>,
        longest: Option<Duration>,
    ) -> Result<Arc<Handle>, Rejection> {
        let found = cell.get_or_init(|| self.find(&key, &here));
        // Without a runtime there are no timers; the wait that follows says so.
        let found = match longest.filter(|_| tokio::runtime::Handle::try_current().is_ok()) {
            Some(longest) => match timeout(longest, found).await {
                Ok(found) => found.clone(),
                Err(elapsed) => Err(Arc::new(elapsed) as LookupError),
            },
            None => found.await.clone(),
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

impl<K> Sealed for Keyed<K> {}

impl<Req, K: KeyExtractor<Req>> Select<Req> for Keyed<K> {
    fn select(&self, request: &Req, units: u32, settings: &Arc<Settings>) -> Admit {
        let settings = Arc::clone(settings);
        let key = self.key.extract(request).map_or_else(|| NO_KEY.to_owned(), |key| key.name());
        let (cell, here) = self.shared.entry(&key);
        match cell.get() {
            Some(Ok(handle)) => Admit::to(Arc::clone(handle), units, settings),
            _ => {
                let longest = settings.timeout.filter(|timeout| !timeout.is_zero());
                let opening = Arc::clone(&self.shared).open(key, cell, here, longest);
                Admit::opening(Box::pin(opening), units, settings)
            }
        }
    }
}

// By hand: a derived one would ask the extractor to be `Clone`.
impl<K> Clone for Keyed<K> {
    fn clone(&self) -> Self {
        Self { key: Arc::clone(&self.key), shared: Arc::clone(&self.shared) }
    }
}

impl<K> fmt::Debug for Keyed<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyed")
            .field("name", &self.shared.open.name)
            .field("limit", &self.shared.limit)
            .field("remembered", &self.remembered())
            .finish_non_exhaustive()
    }
}
