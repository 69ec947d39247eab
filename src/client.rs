//! A client: one connection, one driver, any number of semaphores.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::driver::{Lifeline, Link, NoDriver, Shared};
use crate::error::{ConfigError, ConnectError, ShutdownError};
use crate::id::ClientId;
use crate::lost_reason::LostReason;
use crate::semaphore_builder::{SemaphoreBuilder, check_label};
use crate::store::Store;
use crate::store::memory::MemoryStore;
#[cfg(feature = "redis")]
use crate::store::redis::RedisConfig;

const DEFAULT_CALL_TIMEOUT: Duration = Duration::from_millis(500);

/// One connection to the store, shared by all semaphores made from it. Cheap to clone.
///
/// A background task, the driver, carries it; it starts on the tokio runtime of the first call and
/// ends with that runtime, or when the client and all that was made from it are gone. What was
/// dropped by then is handed back first if the store answers; [`shutdown`](Client::shutdown) waits
/// for that.
///
/// A client stays with the process that made the first call with it: in a child made by `fork` all
/// that its copy is asked for ends with `Closed`, and a copied permit is neither renewed nor given
/// back. A client without a call before the fork serves both processes, each under an id of its own.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use zset_semaphore::Client;
///
/// let client = Client::connect("redis://127.0.0.1:6379").await?;
/// let chats = client.semaphore("chat-sessions", 64).build()?;
/// let permit = chats.acquire(1).await?;
/// drop(permit);
/// client.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    lifeline: Arc<Lifeline>,
}

impl Client {
    /// Connects to Redis, and returns once it answers.
    ///
    /// `url` is `redis://[user][:password@]host[:port][/db]`, `rediss://...` for TLS (feature
    /// `tls-rustls`), or `unix:///path/to.sock[?db=1&user=u&pass=p]`.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] when the URL is wrong, or the first attempt fails.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: nothing is left behind.
    #[cfg(feature = "redis")]
    pub async fn connect(url: impl AsRef<str>) -> Result<Self, ConnectError> {
        Self::builder().url(url).connect().await
    }

    /// Makes a client that connects at the first call, so that a service can start while Redis is
    /// down.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] when the URL is wrong.
    #[cfg(feature = "redis")]
    pub fn open(url: impl AsRef<str>) -> Result<Self, ConfigError> {
        Self::builder().url(url).build()
    }

    /// A client with a store of its own inside this process: the same behaviour without Redis. It
    /// runs on tokio's clock, so that tests can pause time.
    pub fn in_memory() -> Self {
        Self::with_memory(&MemoryStore::new())
    }

    /// A client of a [`MemoryStore`] that it shares with others.
    pub fn with_memory(memory: &MemoryStore) -> Self {
        Self::over(Box::new(memory.clone()), DEFAULT_CALL_TIMEOUT, Arc::from(""))
    }

    /// A builder, for settings beyond the URL.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    fn over(store: Box<dyn Store>, call_timeout: Duration, label: Arc<str>) -> Self {
        Self { lifeline: Arc::new(Lifeline(Shared::new(store, call_timeout, label))) }
    }

    /// A semaphore of this name, to be configured and built. Names are case-sensitive.
    ///
    /// `limit` is how many units may be held at once; 0 admits nobody.
    pub fn semaphore(&self, name: impl Into<String>, limit: u32) -> SemaphoreBuilder {
        SemaphoreBuilder::new(Arc::clone(&self.lifeline), name.into(), limit)
    }

    /// The id of this client, the first part of the ids of its permits. It is another one in a
    /// process that was forked before the first call.
    pub fn id(&self) -> ClientId {
        self.lifeline.0.id()
    }

    /// Lets in no new acquires, ends all waiters with `Closed`, waits until all permits of this
    /// client have been released or lost, hands everything back, and ends the driver.
    ///
    /// Put a timeout around it if holders may take long, and
    /// [`shutdown_now`](Self::shutdown_now) after that.
    ///
    /// # Errors
    ///
    /// [`ShutdownError`] when the store did not confirm everything within twice the call timeout
    /// after the last release; the leases do the rest.
    ///
    /// # Cancel safety
    ///
    /// If dropped, the client stays closed, and goes on handing back what is released.
    pub async fn shutdown(&self) -> Result<(), ShutdownError> {
        let shared = &self.lifeline.0;
        shared.close();
        shared.until_none_held().await;
        self.flush().await
    }

    /// As [`shutdown`](Self::shutdown), but takes the permits from their holders: every held
    /// permit's [`lost()`](crate::Permit::lost) fires with [`LostReason::Shutdown`] first.
    ///
    /// # Errors
    ///
    /// As [`shutdown`](Self::shutdown).
    ///
    /// # Cancel safety
    ///
    /// As [`shutdown`](Self::shutdown).
    pub async fn shutdown_now(&self) -> Result<(), ShutdownError> {
        let shared = &self.lifeline.0;
        shared.close();
        shared.lose_all(LostReason::Shutdown);
        self.flush().await
    }

    async fn flush(&self) -> Result<(), ShutdownError> {
        let shared = &self.lifeline.0;
        let patience = shared.call_timeout * 2;
        let flushed = timeout(patience, shared.until_flushed()).await;
        let unconfirmed = shared.unflushed();
        shared.abandon();
        if flushed.is_ok() && unconfirmed == 0 {
            Ok(())
        } else {
            Err(ShutdownError { unconfirmed })
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("id", &self.id())
            .field("store", &self.lifeline.0.place())
            .finish()
    }
}

/// Configures a [`Client`].
///
/// # Default
///
/// | setting | default |
/// |---|---|
/// | [`url`](Self::url) | `redis://127.0.0.1:6379` |
/// | [`prefix`](Self::prefix) | `zsem:` |
/// | [`call_timeout`](Self::call_timeout) | 500 ms |
/// | [`label`](Self::label) | none |
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use zset_semaphore::Client;
///
/// let client = Client::builder()
///     .url("redis://127.0.0.1:6379/2")
///     .credentials("gateway", "secret")
///     .prefix("prod:zsem:")
///     .call_timeout(Duration::from_millis(250))
///     .build()?;
/// # Ok::<(), zset_semaphore::ConfigError>(())
/// ```
#[derive(Clone)]
#[must_use = "a builder does nothing until `build()` or `connect()`"]
pub struct ClientBuilder {
    memory: Option<MemoryStore>,
    #[cfg(feature = "redis")]
    redis: RedisConfig,
    call_timeout: Duration,
    label: String,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            memory: None,
            #[cfg(feature = "redis")]
            redis: RedisConfig::default(),
            call_timeout: DEFAULT_CALL_TIMEOUT,
            label: String::new(),
        }
    }
}

impl ClientBuilder {
    /// Keeps the count in a [`MemoryStore`] instead of Redis. What was said of Redis has no effect
    /// then, the [`prefix`](Self::prefix) included, unless a [`url`](Self::url) is given after it.
    pub fn memory(mut self, memory: &MemoryStore) -> Self {
        self.memory = Some(memory.clone());
        self
    }

    /// Where Redis is; see [`Client::connect`]. Takes the place of a [`memory`](Self::memory) that was
    /// given before it. Default: `redis://127.0.0.1:6379`.
    #[cfg(feature = "redis")]
    pub fn url(mut self, url: impl AsRef<str>) -> Self {
        self.redis.url = url.as_ref().to_owned();
        self.memory = None;
        self
    }

    /// User and password, instead of those in the URL.
    #[cfg(feature = "redis")]
    pub fn credentials(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.redis.credentials = Some((user.into(), password.into()));
        self
    }

    /// Begins all keys and channels; clients with different prefixes share nothing. 1 to 64 bytes
    /// without control characters and braces. Default: `zsem:`.
    #[cfg(feature = "redis")]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.redis.prefix = prefix.into();
        self
    }

    /// Trusts this root certificate (PEM) instead of the system's, for `rediss://`.
    #[cfg(feature = "tls-rustls")]
    pub fn tls_root_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.redis.root_certificate = Some(pem.into());
        self
    }

    /// Shows this client certificate and key (PEM), for `rediss://` with mutual TLS.
    #[cfg(feature = "tls-rustls")]
    pub fn tls_client_certificate(
        mut self,
        certificate: impl Into<Vec<u8>>,
        key: impl Into<Vec<u8>>,
    ) -> Self {
        self.redis.client_certificate = Some((certificate.into(), key.into()));
        self
    }

    /// How long any one call to the store may take before it counts as unanswered; opening a
    /// connection may take four times as long. 10 ms to 60 s. Default: 500 ms.
    pub fn call_timeout(mut self, deadline: Duration) -> Self {
        self.call_timeout = deadline;
        self
    }

    /// What [`inspect`](crate::ZSetSemaphore::inspect) shows beside this client's permits, say a
    /// host name; up to 128 bytes. Default: none.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Makes a client that connects at the first call.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the setting, its value and what is allowed.
    pub fn build(self) -> Result<Client, ConfigError> {
        let allowed = Duration::from_millis(10)..=Duration::from_secs(60);
        if !allowed.contains(&self.call_timeout) {
            return Err(ConfigError::new("call_timeout", self.call_timeout, "10 ms to 60 s"));
        }
        let label: Arc<str> = check_label(self.label)?.into();
        let store: Box<dyn Store> = match self.memory {
            Some(memory) => Box::new(memory),
            #[cfg(feature = "redis")]
            None => Box::new(self.redis.store()?),
            #[cfg(not(feature = "redis"))]
            None => Box::new(MemoryStore::new()),
        };
        Ok(Client::over(store, self.call_timeout, label))
    }

    /// Makes a client and returns once the store answers.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] when a setting is refused, or the first attempt fails.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: nothing is left behind.
    pub async fn connect(self) -> Result<Client, ConnectError> {
        let client = self.build()?;
        let shared = &client.lifeline.0;
        shared.ensure_driver().map_err(|reason| match reason {
            NoDriver::NoRuntime | NoDriver::Ended => ConnectError::Closed,
        })?;
        match shared.first_link().await {
            Link::Down(error) => Err(error.into()),
            Link::Ended => Err(ConnectError::Closed),
            Link::Up(_) | Link::Opening => Ok(client),
        }
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the URL nor the credentials: both may hold a password.
        let mut out = f.debug_struct("ClientBuilder");
        out.field("memory", &self.memory.is_some());
        #[cfg(feature = "redis")]
        out.field("credentials", &self.redis.credentials.is_some())
            .field("prefix", &self.redis.prefix);
        out.field("call_timeout", &self.call_timeout)
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}
