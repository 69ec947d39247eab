//! The builder of a keyed limit.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use super::Keyed;
use super::cache::{CacheSettings, KeyCache};
use super::factory::{Configure, SemaphoreFactory};
use super::limit::KeyLimit;
use crate::error::has_forbidden_characters;
use crate::semaphore_builder::SemaphoreBuilder;
use crate::tower::rejection::NO_KEY;
use crate::{Client, ConfigError};

/// Configures a [`Keyed`]; made by [`Keyed::builder`].
///
/// # Default
///
/// | setting | default |
/// |---|---|
/// | [`configure_semaphore`](Self::configure_semaphore) | those of [`Client::semaphore`] |
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
    configure: Arc<Configure>,
    capacity: usize,
    idle_timeout: Duration,
    refresh_after: Duration,
}

impl<K> Keyed<K> {
    /// Begins to build a keyed limit. For each key that `key` extracts from requests there is a semaphore
    /// `<name>/<key>`, with the limit that `limit` gives.
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
            configure: Arc::new(|builder| builder),
            capacity: 10_000,
            idle_timeout: Duration::from_secs(60),
            refresh_after: Duration::from_secs(60),
        }
    }
}

impl<K> KeyedBuilder<K> {
    /// Changes the settings of the semaphore of each key, such as its lease or its `max_hold`. A second
    /// call changes the result of the first one.
    pub fn configure_semaphore(
        mut self,
        configure: impl Fn(SemaphoreBuilder) -> SemaphoreBuilder + Send + Sync + 'static,
    ) -> Self {
        let before = self.configure;
        self.configure = Arc::new(move |builder| configure(before(builder)));
        self
    }

    /// Sets how many keys this process caches with their semaphore and limit, 1 or more. Default: 10 000.
    ///
    /// If there are more, the least recently used keys are evicted. When an evicted key is used again, its
    /// limit is looked up again. A key is in use while its requests wait or run, and is then never evicted,
    /// even if more keys are in use than this.
    pub fn capacity(mut self, keys: usize) -> Self {
        self.capacity = keys;
        self
    }

    /// Sets how long a key stays in the cache without a request that waits or runs. Default: 60 s.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// Sets after how long the limit of a key is looked up again; see [`KeyLimit::lookup`].
    /// Default: 60 s.
    pub fn refresh_after(mut self, age: Duration) -> Self {
        self.refresh_after = age;
        self
    }

    /// Checks the settings and builds the keyed limit.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the setting, its value and what is allowed. The name may have up to
    /// 440 bytes, which leaves room for the keys, without control characters and braces.
    pub fn build(self) -> Result<Keyed<K>, ConfigError> {
        let Some(capacity) = NonZeroUsize::new(self.capacity) else {
            return Err(ConfigError::new("capacity", self.capacity, "1 key or more"));
        };
        if self.name.len() > 440 || has_forbidden_characters(&self.name) {
            let allowed = "up to 440 bytes without control characters and without { or }";
            return Err(ConfigError::of_text("name of a keyed limit", &self.name, allowed));
        }
        let factory = SemaphoreFactory {
            client: self.client,
            limit_name: self.name.into(),
            configure: self.configure,
        };
        factory.semaphore(NO_KEY, 1)?;
        let settings = CacheSettings {
            capacity,
            idle_timeout: self.idle_timeout,
            refresh_after: self.refresh_after,
        };
        let cache = KeyCache::new(factory, self.limit, settings);
        Ok(Keyed::new(self.key, cache))
    }
}

impl<K> fmt::Debug for KeyedBuilder<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedBuilder")
            .field("name", &self.name)
            .field("limit", &self.limit)
            .field("capacity", &self.capacity)
            .field("idle_timeout", &self.idle_timeout)
            .field("refresh_after", &self.refresh_after)
            .finish_non_exhaustive()
    }
}
