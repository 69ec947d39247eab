//! A semaphore per key of the request.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use super::admit::AdmissionFuture;
use super::key::{KeyExtractor, NO_KEY};
use super::key_limit::KeyLimit;
use super::keys::{Adapt, Keys, LONGEST_LOOKUP, Open};
use super::sealed::Sealed;
use super::select::{Ask, SelectSemaphore};
use super::settings::Settings;
use crate::semaphore_builder::SemaphoreBuilder;
use crate::{Client, ConfigError};

/// Configures a [`Keyed`]; made by [`Keyed::builder`].
///
/// # Default
///
/// | setting | default |
/// |---|---|
/// | [`configure_semaphore`](Self::configure_semaphore) | as those of [`Client::semaphore`] |
/// | [`capacity`](Self::capacity) | 10 000 keys |
/// | [`idle_timeout`](Self::idle_timeout) | 60 s |
/// | [`refresh_after`](Self::refresh_after) | 60 s |
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
    /// Changes the settings of the semaphore of each key: its lease, its `max_hold` and so on. Called
    /// again, it changes what the calls before have made of them.
    pub fn configure_semaphore(
        mut self,
        adapt: impl Fn(SemaphoreBuilder) -> SemaphoreBuilder + Send + Sync + 'static,
    ) -> Self {
        let before = self.adapt;
        self.adapt = Arc::new(move |builder| adapt(before(builder)));
        self
    }

    /// Of how many keys this process remembers the semaphore and its limit, 1 or more. Beyond it,
    /// keys are forgotten that were not used for long, and when they come again their limit is found
    /// out again. A key in use (its requests wait or run) is never forgotten: where more are in
    /// use, more are remembered. Default: 10 000.
    pub fn capacity(mut self, keys: usize) -> Self {
        self.capacity = keys;
        self
    }

    /// After how long without a request, waiting or running, a key is forgotten. Default: 60 s.
    pub fn idle_timeout(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }

    /// After how long the limit of a key is found out again; see [`KeyLimit::lookup`].
    /// Default: 60 s.
    pub fn refresh_after(mut self, refresh: Duration) -> Self {
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
        let keys = Keys::new(open, self.limit, capacity, (self.idle, self.refresh));
        Ok(Keyed { key: Arc::new(self.key), keys: Arc::new(keys) })
    }
}

impl<K> fmt::Debug for KeyedBuilder<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedBuilder")
            .field("name", &self.name)
            .field("limit", &self.limit)
            .field("capacity", &self.capacity)
            .field("idle", &self.idle)
            .field("refresh", &self.refresh)
            .finish_non_exhaustive()
    }
}

/// A semaphore for each key of the requests, all with one name in front.
///
/// What keys others choose costs them, not this process: it remembers a bounded number of them beside those in use, long
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
    keys: Arc<Keys>,
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
    pub fn cached_keys(&self) -> usize {
        self.keys.remembered()
    }

    pub(super) fn name(&self) -> Arc<str> {
        Arc::clone(&self.keys.open.name)
    }
}

impl<K> Sealed for Keyed<K> {}

impl<Req, K: KeyExtractor<Req>> SelectSemaphore<Req> for Keyed<K> {
    fn select(&self, request: &Req, ask: Ask, settings: &Arc<Settings>) -> AdmissionFuture {
        let settings = Arc::clone(settings);
        let key = self.key.extract(request).map_or_else(|| NO_KEY.to_owned(), |key| key.name());
        if let Some(handle) = self.keys.known(&key) {
            return AdmissionFuture::to(handle, ask, settings);
        }
        let longest = settings
            .lookup_patience(ask.until)
            .map_or(LONGEST_LOOKUP, |left| left.min(LONGEST_LOOKUP));
        let opening = Arc::clone(&self.keys).open(key, longest);
        AdmissionFuture::opening(Box::pin(opening), ask, settings)
    }
}

// By hand: a derived one would ask the extractor to be `Clone`.
impl<K> Clone for Keyed<K> {
    fn clone(&self) -> Self {
        Self { key: Arc::clone(&self.key), keys: Arc::clone(&self.keys) }
    }
}

impl<K> fmt::Debug for Keyed<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyed")
            .field("name", &self.keys.open.name)
            .field("limit", &self.keys.limit)
            .field("cached_keys", &self.cached_keys())
            .finish_non_exhaustive()
    }
}
