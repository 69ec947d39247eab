//! Why an acquire ended without a permit.

use std::time::Duration;

use super::StoreError;
use super::rounded::Rounded;

/// [`acquire`](crate::ZSetSemaphore::acquire) ended without a permit. Nothing is held or queued.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AcquireError {
    /// `acquire(0)` was called. A permit has at least one unit.
    #[error("asked for 0 units; ask for 1 or more")]
    ZeroUnits,
    /// The units asked for are more than the limit. A limit that was lowered ends waiters that
    /// are queued, too.
    #[error("asked for {units} units of a limit of {limit}; ask for fewer or raise the limit")]
    TooLarge {
        /// The units asked for.
        units: u32,
        /// The limit in force.
        limit: u32,
    },
    /// The [`timeout`](crate::Acquire::timeout) has passed.
    #[error(
        "no permit within {}{}{}",
        Rounded(*waited),
        place.map(|n| format!(", {n} ahead in the queue when last heard")).unwrap_or_default(),
        outage.as_ref().map(|e| format!("; {}", e.why_unavailable())).unwrap_or_default()
    )]
    Timeout {
        /// How long it waited.
        waited: Duration,
        /// How many waiters stood ahead when the store last told. `None` if the store never told.
        place: Option<u64>,
        /// The error of the store, if the store was unavailable at the end of the wait, or too few replicas had the
        /// grant.
        outage: Option<StoreError>,
    },
    /// The queue is as long as [`max_queue`](crate::SemaphoreBuilder::max_queue) allows.
    #[error("{waiting} wait already, and max_queue is {max_queue}")]
    QueueFull {
        /// How many wait in the whole cluster.
        waiting: u64,
        /// The setting.
        max_queue: u32,
    },
    /// The [`Backoff`](crate::Backoff) ended, so the store is not asked again.
    #[error("gave up after {tries} tries in {}, as the backoff says", Rounded(*waited))]
    GaveUp {
        /// How many times the store was asked.
        tries: u32,
        /// How long it waited.
        waited: Duration,
    },
    /// An operator kicked the permit before it was handed out.
    #[error("the permit was kicked before it was handed out")]
    Kicked,
    /// The semaphore or the client was closed, or the tokio runtime of the client has ended.
    #[error("the semaphore is closed")]
    Closed,
    /// The future was polled outside a tokio runtime.
    #[error("no tokio runtime here; poll this future inside one")]
    NoRuntime,
    /// The store refused, and waiting would not help: see [`StoreError::is_final`].
    #[error("the store refuses: {0}")]
    Refused(#[source] StoreError),
}

/// [`try_acquire`](crate::ZSetSemaphore::try_acquire) got no permit. Nothing is held or queued.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TryAcquireError {
    /// `try_acquire(0)` was called. A permit has at least one unit.
    #[error("asked for 0 units; ask for 1 or more")]
    ZeroUnits,
    /// The units asked for are more than the limit.
    #[error("asked for {units} units of a limit of {limit}; ask for fewer or raise the limit")]
    TooLarge {
        /// The units asked for.
        units: u32,
        /// The limit in force.
        limit: u32,
    },
    /// There is no room, or others wait for it.
    #[error("no room: {in_use} of {limit} units in use, {waiting} waiting")]
    Full {
        /// The units in use.
        in_use: u64,
        /// The limit in force.
        limit: u32,
        /// How many wait in the whole cluster.
        waiting: u64,
    },
    /// An operator kicked the permit before it was handed out.
    #[error("the permit was kicked before it was handed out")]
    Kicked,
    /// The semaphore or the client was closed, or the tokio runtime of the client has ended.
    #[error("the semaphore is closed")]
    Closed,
    /// The future was polled outside a tokio runtime.
    #[error("no tokio runtime here; poll this future inside one")]
    NoRuntime,
    /// The store refused, or did not answer within the
    /// [call timeout](crate::ClientBuilder::call_timeout).
    #[error("{}", .0.why_unavailable())]
    Unavailable(#[source] StoreError),
}
