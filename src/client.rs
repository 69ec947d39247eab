//! The client: one connection to the store, for any number of semaphores.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::driver::{DropGuard, NoDriver, NoSession, Shared};
use crate::error::{ConfigError, ConnectError, ShutdownError};
use crate::id::ClientId;
use crate::lost_reason::LostReason;
use crate::semaphore_builder::{SemaphoreBuilder, check_label};
use crate::store::Store;
use crate::store::memory::MemoryStore;
#[cfg(feature = "redis")]
use crate::store::redis::RedisConfig;

const DEFAULT_CALL_TIMEOUT: Duration = Duration::from_millis(500);

/// A client of the store: one connection, shared by all semaphores made from it.
///
/// It is cheap to clone. A background task, the driver, owns the connection. It starts on the tokio
/// runtime of the first call. It ends with that runtime, or when the client and all that was made from
/// it are dropped. In the latter case it first releases what is left, if the store answers;
/// [`shutdown`](Self::shutdown) waits for that.
///
/// # Fork
///
/// A client belongs to the process that made its first call. In a child made by `fork` after that,
/// all calls of the copy end with `Closed`, and a copied permit is neither renewed nor released. A
/// client that made no call before the fork works in both processes, with an id of its own in each.
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
    guard: Arc<DropGuard>,
}

impl Client {
    /// Connects to Redis, and returns a client once the server answers.
    ///
    /// `url` has one of these forms:
    ///
    /// | URL | leads to |
    /// |---|---|
    /// | `redis://[user][:password@]host[:port][/db]` | one server |
    /// | `unix:///path/to.sock[?db=1&user=u&pass=p]` | one server, by its unix socket |
    /// | `redis+sentinel://[user][:password@]host[:26379][,host..]/master[/db]` | the primary that sentinels know as `master` |
    /// | `redis+cluster://[user][:password@]host[:port][,host..]` | the primaries of a cluster |
    ///
    /// With Sentinel, the client asks the sentinels for the primary each time it opens a connection. They also tell it
    /// when the primary has moved. One reachable sentinel is enough, because it lists the others. User and password
    /// in front of the `@` are those of the primary. The parameters `sentinel_user` and `sentinel_password` are those
    /// of the sentinels. The parameter `sentinel_tls` (`yes` or `no`) sets TLS for the sentinels alone.
    /// `redis-sentinel://` means the same as `redis+sentinel://`. `?sentinelMasterId=master` can replace the path.
    ///
    /// In a cluster, the primary that has the slot of a name counts its units. One reachable node is enough, because
    /// it lists the others. So this returns once any node has answered. The client connects to a primary when a name
    /// first needs it. If a primary is down, only the calls about its own names fail. `redis-cluster://` means the same
    /// as `redis+cluster://`.
    ///
    /// `rediss` instead of `redis` means TLS (feature `tls-rustls`), `valkey` the same as `redis`, and
    /// `valkeys` the same as `rediss`. An IPv6 address stands in brackets: `redis://[::1]:6379`. In a user or
    /// a password, `%40` stands for `@`, `%2F` for `/`, `%3F` for `?`, and `%23` for `#`.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] when the URL is refused, or the first attempt to connect fails.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: nothing is left behind.
    #[cfg(feature = "redis")]
    pub async fn connect(url: impl AsRef<str>) -> Result<Self, ConnectError> {
        Self::builder().url(url).connect().await
    }

    /// Makes a client that connects at its first call, so that a service can start while Redis is
    /// down.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] when the URL is refused.
    #[cfg(feature = "redis")]
    pub fn open(url: impl AsRef<str>) -> Result<Self, ConfigError> {
        Self::builder().url(url).build()
    }

    /// Makes a client with a store of its own in this process: the same behaviour without Redis. The
    /// store uses the clock of tokio, so tests can pause time.
    pub fn in_memory() -> Self {
        Self::with_memory(&MemoryStore::new())
    }

    /// Makes a client of a [`MemoryStore`] that other clients can share.
    pub fn with_memory(memory: &MemoryStore) -> Self {
        Self::over(Box::new(memory.clone()), DEFAULT_CALL_TIMEOUT, Arc::from(""))
    }

    /// Returns a builder, for settings other than the URL.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    pub(crate) fn guard(&self) -> &DropGuard {
        &self.guard
    }

    fn over(store: Box<dyn Store>, call_timeout: Duration, label: Arc<str>) -> Self {
        Self { guard: Arc::new(DropGuard::new(Shared::new(store, call_timeout, label))) }
    }

    /// Returns a builder of the semaphore `name`. Names are case-sensitive.
    ///
    /// `limit` is how many units may be held at once. 0 admits nobody.
    pub fn semaphore(&self, name: impl Into<String>, limit: u32) -> SemaphoreBuilder {
        SemaphoreBuilder::new(Arc::clone(&self.guard), name.into(), limit)
    }

    /// Returns the id of this client, which is the first part of the ids of its permits. In a process
    /// that was forked before the first call it is another one.
    pub fn id(&self) -> ClientId {
        self.guard.shared().id()
    }

    /// Returns whether the client has a connection now, as far as it knows. It makes no call.
    ///
    /// - A connection that breaks is noticed at once; over TLS to a server without RESP3, only by the next
    ///   call. A server that hangs is noticed only when the next calls have had no answer: until then this
    ///   returns true. [`last_heard`](Self::last_heard) tells how old the latest answer is.
    /// - In a cluster, a connection to one primary is enough for true. So a service stays in traffic while only some
    ///   of its names are affected. To check the primary of one name, call
    ///   [`inspect`](crate::ZSetSemaphore::inspect) on a semaphore of that name.
    /// - While the server refuses calls, say because it is out of memory, this returns true.
    /// - Before the first call, a client made by `Client::open` or
    ///   [`ClientBuilder::build`] has not tried to connect, so this returns false. A service that gets no
    ///   requests until it is ready should therefore use `Client::connect`, or make a call when it
    ///   starts.
    /// - A client in memory needs no connection, so this returns true.
    /// - Once [`shutdown`](Self::shutdown) was called, or when the tokio runtime of the client has ended,
    ///   this returns false.
    ///
    /// # Examples
    ///
    /// The readiness probe of a service that cannot work without the store:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use axum::{Router, http::StatusCode, routing::get};
    /// use zset_semaphore::Client;
    ///
    /// let client = Client::in_memory();
    /// let probed = client.clone();
    /// let ready = get(move || async move {
    ///     match probed.is_available() {
    ///         true => StatusCode::OK,
    ///         false => StatusCode::SERVICE_UNAVAILABLE,
    ///     }
    /// });
    /// let app: Router = Router::new().route("/ready", ready);
    /// # assert!(client.is_available());
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_available(&self) -> bool {
        self.guard.shared().is_available()
    }

    /// Returns when the server last answered anything: an acquire, a release, a renewal, an
    /// [`inspect`](crate::ZSetSemaphore::inspect), or the opening of a connection. `None` before its first
    /// answer. It makes no call.
    ///
    /// In a cluster, it is the latest answer of any node, so it does not show that one primary is silent. A refusal
    /// is an answer, too. A client without work makes no calls, so an old instant alone is no reason for an alarm. If
    /// the client holds permits that it renews, it makes a call at least every third of the lease. Then an instant
    /// that is older than that is a reason for an alarm.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use zset_semaphore::Client;
    ///
    /// let client = Client::in_memory();
    /// assert_eq!(client.last_heard(), None);
    /// let permit = client.semaphore("jobs", 4).build()?.acquire(1).await?;
    /// assert!(client.last_heard().is_some_and(|at| at.elapsed().as_secs() < 60));
    /// # drop(permit);
    /// # Ok(())
    /// # }
    /// ```
    pub fn last_heard(&self) -> Option<Instant> {
        self.guard.shared().last_heard()
    }

    /// Shuts the client down once all its permits are released.
    ///
    /// It ends all waiters with `Closed` and lets in no new ones. It waits until all permits of this
    /// client have been released or lost, and until the store has confirmed it. Then it ends the
    /// driver. If holders may take long, put a timeout around it, and call
    /// [`shutdown_now`](Self::shutdown_now) after that.
    ///
    /// # Errors
    ///
    /// [`ShutdownError`] when the store has not confirmed everything within twice the call timeout
    /// after the last release. The leases free the rest.
    ///
    /// # Cancel safety
    ///
    /// If this future is dropped, the client stays closed, and goes on releasing what is dropped.
    pub async fn shutdown(&self) -> Result<(), ShutdownError> {
        let shared = self.guard.shared();
        shared.close();
        shared.until_none_held().await;
        self.flush().await
    }

    /// Shuts the client down at once: all its permits are lost, with [`LostReason::Shutdown`], and
    /// their units are released. Otherwise it does what [`shutdown`](Self::shutdown) does.
    ///
    /// # Errors
    ///
    /// As [`shutdown`](Self::shutdown).
    ///
    /// # Cancel safety
    ///
    /// As [`shutdown`](Self::shutdown).
    pub async fn shutdown_now(&self) -> Result<(), ShutdownError> {
        let shared = self.guard.shared();
        shared.close();
        shared.lose_all(LostReason::Shutdown);
        self.flush().await
    }

    async fn flush(&self) -> Result<(), ShutdownError> {
        let shared = self.guard.shared();
        let patience = shared.call_timeout * 2;
        let flushed = timeout(patience, shared.until_flushed()).await;
        let unconfirmed = shared.unflushed();
        shared.abandon();
        if flushed.is_ok() && unconfirmed == 0 {
            Ok(())
        } else {
            Err(ShutdownError::new(unconfirmed))
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("id", &self.id())
            .field("store", &self.guard.shared().address())
            .finish()
    }
}

/// Configures a [`Client`]; made by [`Client::builder`].
///
/// # Default
///
/// | setting | default |
/// |---|---|
/// | `url` | `redis://127.0.0.1:6379` |
/// | `prefix` | `zsem:` |
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
    /// Sets a [`MemoryStore`] as the store, instead of Redis. Settings of Redis have no effect then,
    /// such as the `prefix`. A later `url` sets Redis again.
    pub fn memory(mut self, memory: &MemoryStore) -> Self {
        self.memory = Some(memory.clone());
        self
    }

    /// Sets the URL of Redis, as [`Client::connect`] describes it. It replaces a
    /// [`memory`](Self::memory) that was set before. Default: `redis://127.0.0.1:6379`.
    #[cfg(feature = "redis")]
    pub fn url(mut self, url: impl AsRef<str>) -> Self {
        self.redis.url = url.as_ref().to_owned();
        self.memory = None;
        self
    }

    /// Sets user and password, instead of those in the URL.
    #[cfg(feature = "redis")]
    pub fn credentials(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.redis.credentials = Some((user.into(), password.into()));
        self
    }

    /// Sets user and password for the sentinels of a `redis+sentinel://` URL, instead of those in the URL.
    /// [`credentials`](Self::credentials) are those of the primary. An empty user is the default user.
    #[cfg(feature = "redis")]
    pub fn sentinel_credentials(
        mut self,
        user: impl Into<String>,
        password: impl Into<String>,
    ) -> Self {
        self.redis.sentinel_credentials = Some((user.into(), password.into()));
        self
    }

    /// Sets how all keys and channels begin: 1 to 64 bytes without control characters and braces.
    /// Clients with different prefixes share nothing. Default: `zsem:`.
    #[cfg(feature = "redis")]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.redis.prefix = prefix.into();
        self
    }

    /// Sets the root certificate (PEM) to trust instead of those of the system, for `rediss://`.
    #[cfg(feature = "tls-rustls")]
    pub fn tls_root_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.redis.root_certificate = Some(pem.into());
        self
    }

    /// Sets the certificate and key (PEM) of this client, for `rediss://` with mutual TLS.
    #[cfg(feature = "tls-rustls")]
    pub fn tls_client_certificate(
        mut self,
        certificate: impl Into<Vec<u8>>,
        key: impl Into<Vec<u8>>,
    ) -> Self {
        self.redis.client_certificate = Some((certificate.into(), key.into()));
        self
    }

    /// Sets how long one call to the store may take: 10 ms to 60 s. After that it counts as
    /// unanswered. Opening a connection may take four times as long. Default: 500 ms.
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = timeout;
        self
    }

    /// Sets the label that [`inspect`](crate::ZSetSemaphore::inspect) shows with the permits and
    /// waiters of this client, such as a host name: up to 128 bytes without control characters.
    /// Default: none.
    ///
    /// Redis lists the connection of the client as `zset-semaphore:<label>:turns` (`CLIENT LIST`). There each
    /// character that is not visible ASCII is a `_`. Without a label, the name has the client's id.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Checks the settings and makes a client that connects at its first call.
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
            None => Box::new(
                RedisConfig {
                    label: Arc::clone(&label),
                    call_timeout: self.call_timeout,
                    ..self.redis
                }
                .store()?,
            ),
            #[cfg(not(feature = "redis"))]
            None => Box::new(MemoryStore::new()),
        };
        Ok(Client::over(store, self.call_timeout, label))
    }

    /// Checks the settings, connects, and returns a client once the store answers.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] when a setting is refused, or the first attempt to connect fails.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: nothing is left behind.
    pub async fn connect(self) -> Result<Client, ConnectError> {
        let client = self.build()?;
        client.guard.ensure_driver().map_err(|reason| match reason {
            NoDriver::NoRuntime | NoDriver::Ended => ConnectError::Closed,
        })?;
        match client.guard.shared().first_connection().await {
            Ok(()) => Ok(client),
            Err(NoSession::Unavailable(error)) => Err(error.into()),
            Err(NoSession::Ended) => Err(ConnectError::Closed),
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
            .field("sentinel_credentials", &self.redis.sentinel_credentials.is_some())
            .field("prefix", &self.redis.prefix);
        out.field("call_timeout", &self.call_timeout)
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}
