//! One error type per operation; errors are data.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::lost_reason::LostReason;

type Source = Arc<dyn Error + Send + Sync>;

/// Redis, or the way to it, failed. Opaque, with predicates; [`source()`](Error::source) tells what
/// the client library said.
#[derive(Clone)]
pub struct StoreError {
    kind: StoreErrorKind,
    what: Arc<str>,
    source: Option<Source>,
}

/// What kind of failure a [`StoreError`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// No connection could be made.
    Unreachable,
    /// An answer did not come in time; whether the call ran is not known.
    Timeout,
    /// The connection broke; whether the call ran is not known.
    Disconnected,
    /// The server is loading its data, or a cluster is moving it; it will answer again.
    NotReady,
    /// The server is a replica that takes no writes (`READONLY`).
    ReadOnly,
    /// The server is out of memory (`OOM`).
    OutOfMemory,
    /// The server refuses writes since it cannot persist them (`MISCONF`).
    CannotPersist,
    /// Wrong or missing user name or password (`WRONGPASS`, `NOAUTH`).
    Authentication,
    /// The user may not run a command or touch a key that is needed (`NOPERM`).
    NotPermitted,
    /// A key of the semaphore holds a value of a foreign type (`WRONGTYPE`).
    WrongType,
    /// The server answered something this crate does not understand.
    Protocol,
    /// Any other error the server answered.
    Server,
}

impl StoreError {
    pub(crate) fn new(kind: StoreErrorKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into().into(), source: None }
    }

    #[cfg(feature = "redis")]
    pub(crate) fn with_source(
        kind: StoreErrorKind,
        what: impl Into<String>,
        source: impl Error + Send + Sync + 'static,
    ) -> Self {
        Self { kind, what: what.into().into(), source: Some(Arc::new(source)) }
    }

    pub(crate) fn timeout(what: impl Into<String>) -> Self {
        Self::new(StoreErrorKind::Timeout, what)
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Whether no answer came in time.
    pub fn is_timeout(&self) -> bool {
        self.kind == StoreErrorKind::Timeout
    }

    /// Whether it may pass by itself: waiters ride it out, and it is worth trying again.
    pub fn is_transient(&self) -> bool {
        !self.is_final()
    }

    /// Whether only a change of configuration can help: waiters end with it at once.
    pub fn is_final(&self) -> bool {
        use StoreErrorKind::{Authentication, NotPermitted, Protocol, Server, WrongType};
        matches!(self.kind, Authentication | NotPermitted | WrongType | Protocol | Server)
    }

    /// Whether nothing was heard of the server, rather than a refusal.
    pub(crate) fn is_unanswered(&self) -> bool {
        use StoreErrorKind::{Disconnected, Timeout, Unreachable};
        matches!(self.kind, Disconnected | Timeout | Unreachable)
    }

    /// Whether it is known that the call did nothing.
    pub(crate) fn did_not_run(&self) -> bool {
        matches!(self.kind, StoreErrorKind::NotReady | StoreErrorKind::Unreachable)
    }

    /// Whether the connection is to be replaced.
    pub(crate) fn breaks_connection(&self) -> bool {
        use StoreErrorKind::{Authentication, Disconnected, Unreachable};
        matches!(self.kind, Disconnected | Unreachable | Authentication)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl fmt::Debug for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreError({:?}: {})", self.kind, self.what)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| &**source as &(dyn Error + 'static))
    }
}

/// A setting was refused; names the setting, its value and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}; allowed: {allowed}")]
pub struct ConfigError {
    field: &'static str,
    value: String,
    allowed: &'static str,
}

impl ConfigError {
    pub(crate) fn new(field: &'static str, value: impl fmt::Debug, allowed: &'static str) -> Self {
        Self { field, value: format!("{value:?}"), allowed }
    }

    /// The setting that was refused.
    pub fn field(&self) -> &'static str {
        self.field
    }
}

/// [`Client::connect`](crate::Client::connect) failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// A setting was refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No usable connection came about.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no tokio runtime here, or the one that carried the client has ended.
    #[error("no tokio runtime carries this client; connect inside one that stays")]
    Closed,
}

/// [`acquire`](crate::ZSetSemaphore::acquire) ended without a permit. Nothing is held or queued.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AcquireError {
    /// `acquire(0)`: a permit has at least one unit.
    #[error("asked for 0 units; ask for 1 or more")]
    ZeroUnits,
    /// More units were asked for than the limit allows, now that it is what it is.
    #[error("asked for {units} units of a limit of {limit}; ask for fewer or raise the limit")]
    TooLarge {
        /// Units asked for.
        units: u32,
        /// The limit in force.
        limit: u32,
    },
    /// The wait ran out.
    #[error(
        "no permit within {waited:?}{}{}",
        place.map(|n| format!(", {n} waiters ahead when last heard")).unwrap_or_default(),
        outage.as_ref().map(|e| format!("; the store is in trouble: {e}")).unwrap_or_default()
    )]
    Timeout {
        /// How long it waited.
        waited: Duration,
        /// How many waiters stood ahead when the store last told; `None` if it never did.
        place: Option<u64>,
        /// What was wrong with the store at the end, if anything was.
        outage: Option<StoreError>,
    },
    /// As many wait already as [`max_queue`](crate::SemaphoreBuilder::max_queue) allows.
    #[error("{waiting} wait already, and max_queue is {max_queue}")]
    QueueFull {
        /// How many wait.
        waiting: u64,
        /// The setting.
        max_queue: u32,
    },
    /// The [`Backoff`](crate::Backoff) allowed no further try.
    #[error("gave up after {tries} tries in {waited:?}, as the backoff says")]
    GaveUp {
        /// How many times it asked.
        tries: u32,
        /// How long it waited.
        waited: Duration,
    },
    /// An operator kicked the permit before it was handed out.
    #[error("the permit was kicked before it was handed out")]
    Kicked,
    /// The semaphore or client was closed, or its tokio runtime has ended.
    #[error("the semaphore is closed")]
    Closed,
    /// The future was polled outside a tokio runtime.
    #[error("no tokio runtime here; poll this future inside one")]
    NoRuntime,
    /// The store refused for good: waiting would not help.
    #[error("the store refuses: {0}")]
    Refused(#[source] StoreError),
}

/// [`try_acquire`](crate::ZSetSemaphore::try_acquire) got no permit. Nothing is held or queued.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TryAcquireError {
    /// `try_acquire(0)`: a permit has at least one unit.
    #[error("asked for 0 units; ask for 1 or more")]
    ZeroUnits,
    /// More units were asked for than the limit allows.
    #[error("asked for {units} units of a limit of {limit}; ask for fewer or raise the limit")]
    TooLarge {
        /// Units asked for.
        units: u32,
        /// The limit in force.
        limit: u32,
    },
    /// No room, or others wait for it.
    #[error("no room: {in_use} of {limit} units in use, {waiting} waiting")]
    Full {
        /// Units in use.
        in_use: u64,
        /// The limit in force.
        limit: u32,
        /// How many wait.
        waiting: u64,
    },
    /// An operator kicked the permit before it was handed out.
    #[error("the permit was kicked before it was handed out")]
    Kicked,
    /// The semaphore or client was closed, or its tokio runtime has ended.
    #[error("the semaphore is closed")]
    Closed,
    /// The future was polled outside a tokio runtime.
    #[error("no tokio runtime here; poll this future inside one")]
    NoRuntime,
    /// The store did not answer within the call timeout, or refused.
    #[error("the store is unavailable: {0}")]
    Unavailable(#[source] StoreError),
}

/// [`Permit::release`](crate::Permit::release) could not learn that the units are free. They are
/// free at the end of the lease at the latest.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// No answer came before the lease ended by itself.
    #[error("the store did not confirm the release before the lease ended")]
    Unconfirmed,
    /// The tokio runtime that carried the client has ended; the lease ends by itself.
    #[error("the client has ended; the lease ends by itself")]
    Closed,
}

/// [`Permit::extend`](crate::Permit::extend) failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ExtendError {
    /// The permit is lost.
    #[error("the permit is lost: {0}")]
    Lost(LostReason),
    /// The permit was given back while it was extended.
    #[error("the permit was released")]
    Released,
    /// The duration is outside what a lease may be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The tokio runtime that carried the client has ended.
    #[error("the client has ended")]
    Closed,
}

/// [`inspect`](crate::ZSetSemaphore::inspect), [`set_limit`](crate::ZSetSemaphore::set_limit) or
/// [`kick`](crate::ZSetSemaphore::kick) failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The store did not answer within the call timeout, or refused.
    #[error("the store is unavailable: {0}")]
    Unavailable(#[source] StoreError),
    /// The client was shut down, or its tokio runtime has ended.
    #[error("the client is closed")]
    Closed,
    /// The future was polled outside a tokio runtime.
    #[error("no tokio runtime here; poll this future inside one")]
    NoRuntime,
}

/// [`Client::shutdown`](crate::Client::shutdown) could not hand everything back.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "{unconfirmed} permits or waiters were not confirmed as handed back; they end with their lease"
)]
pub struct ShutdownError {
    pub(crate) unconfirmed: usize,
}

impl ShutdownError {
    /// How many ids were not confirmed as handed back.
    pub fn unconfirmed(&self) -> usize {
        self.unconfirmed
    }
}
