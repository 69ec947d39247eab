//! Why a request was rejected, and what its client may be told.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::retry_after::jitter::with_jitter;
use crate::metrics::Rejected;
use crate::{AcquireError, LostReason, StoreError};

/// Stands for "no key" in the name of a semaphore. No key of a request has this name.
pub(crate) const NO_KEY: &str = "-";

/// The rejection of a request: why it was not admitted, or was ended, and how full the semaphore was.
/// Nothing is held or queued for the request any more.
///
/// Its `Display` is for logs: it may name a key, or the address of the store. Outsiders may see the
/// [`limit_name`](Self::limit_name).
#[derive(Clone)]
pub struct Rejection {
    details: Box<Details>,
}

/// The fields of a rejection, behind one pointer so that results stay small.
#[derive(Clone)]
pub(crate) struct Details {
    pub(crate) semaphore_name: Arc<str>,
    pub(crate) limit_name: Arc<str>,
    pub(crate) reason: Reason,
    pub(crate) in_use: Option<u64>,
    pub(crate) limit: u32,
    pub(crate) place: Option<u64>,
    pub(crate) retry_after: Duration,
}

/// Why a request was rejected.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Reason {
    /// The wait for the permit ended without one.
    Acquire(AcquireError),
    /// The store was unavailable, and the [`OutagePolicy`](super::OutagePolicy) rejects requests then.
    Unavailable {
        /// How long the outage has lasted.
        down_for: Duration,
        /// What the latest call to the store ended with, if one has ended.
        error: Option<StoreError>,
    },
    /// The permit was lost while the inner service ran, and the layer
    /// [ends such requests](super::ZSetSemaphoreLayer::end_when_lost).
    Lost(LostReason),
    /// The limit of the request's key could not be looked up; see
    /// [`KeyLimit::lookup`](super::KeyLimit::lookup).
    LimitLookup(Arc<dyn StdError + Send + Sync>),
    /// The body of the request failed while the request was queued, most likely because its client went
    /// away. Only layers that [read ahead](super::ReadAhead) notice that.
    RequestBody,
}

impl Rejection {
    /// Makes a rejection. `details.retry_after` is the estimate, without the random part.
    pub(crate) fn new(details: Details) -> Self {
        Self { details: Box::new(details) }
    }

    /// Raises `retry_after` to `min`, and adds a random part.
    pub(crate) fn with_jitter(mut self, min: Duration) -> Self {
        let estimate = self.details.retry_after;
        self.details.retry_after = with_jitter(estimate, min, fastrand::f64());
        self
    }

    /// Returns the name of the semaphore. With stacked layers it tells which of them rejected.
    pub fn semaphore_name(&self) -> &str {
        &self.details.semaphore_name
    }

    /// Returns the name of the limit, without the key of the request; outsiders may see it. For a layer
    /// with one semaphore it is the name of the semaphore.
    pub fn limit_name(&self) -> &str {
        &self.details.limit_name
    }

    /// Returns the key of the request as it stands in the store: the hash, if it is a
    /// [secret](super::Key::secret). Returns `None` if the request has no key, or the layer has one
    /// semaphore.
    pub fn key(&self) -> Option<&str> {
        let key = self.semaphore_name().strip_prefix(self.limit_name())?.strip_prefix('/')?;
        (key != NO_KEY).then_some(key)
    }

    /// Returns why the request was rejected.
    pub fn reason(&self) -> &Reason {
        &self.details.reason
    }

    /// Returns whether the limit was reached. The same request may get a permit later.
    pub fn is_full(&self) -> bool {
        use AcquireError::{GaveUp, QueueFull, Timeout};
        matches!(
            self.reason(),
            Reason::Acquire(
                // Without a place in the queue the store has not said that the limit was reached.
                Timeout { outage: None, place: Some(_), .. } | QueueFull { .. } | GaveUp { .. }
            )
        )
    }

    /// Returns whether the request weighs more than the limit. It will never get a permit.
    pub fn is_too_large(&self) -> bool {
        matches!(self.reason(), Reason::Acquire(AcquireError::TooLarge { .. }))
    }

    /// Returns the units in use, as the store last told this process; `None` if it never did.
    pub fn in_use(&self) -> Option<u64> {
        self.details.in_use
    }

    /// Returns the limit, as the store last told this process.
    pub fn limit(&self) -> u32 {
        self.details.limit
    }

    /// Returns the number of requests ahead in the queue, as the store last said; `None` if it did not say.
    pub fn place(&self) -> Option<u64> {
        self.details.place
    }

    /// Returns how long the client should wait before it tries again.
    ///
    /// That is the expected time until enough units are free for the request and those ahead of it, plus a
    /// random part. The random part is up to a quarter of the time, or up to 2 s if that is longer. So
    /// clients that were rejected together do not come back together.
    ///
    /// The estimate uses what this process knows: how long recently released permits were held, and how
    /// long the present ones have been held. A permit that has been held for longer than all of those
    /// is expected to be held for as long again.
    ///
    /// It is never less than [`min_retry_after`](super::ZSetSemaphoreLayer::min_retry_after) (default 1 s),
    /// and at most 2 minutes unless that minimum is higher. For a paused semaphore (limit 0) the estimate
    /// has its maximum.
    pub fn retry_after(&self) -> Duration {
        self.details.retry_after
    }
}

impl fmt::Debug for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejection")
            .field("semaphore", &self.details.semaphore_name)
            .field("reason", &self.details.reason)
            .field("in_use", &self.details.in_use)
            .field("limit", &self.details.limit)
            .field("place", &self.details.place)
            .field("retry_after", &self.details.retry_after)
            .finish()
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "semaphore {:?}: {}", self.semaphore_name(), self.reason())
    }
}

impl StdError for Rejection {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self.reason() {
            Reason::Acquire(error) => Some(error),
            Reason::Unavailable { error, .. } => error.as_ref().map(|error| error as _),
            Reason::LimitLookup(error) => Some(&**error),
            Reason::Lost(_) | Reason::RequestBody => None,
        }
    }
}

impl Reason {
    /// Returns the label of the reason: in the metrics, and for logs. The set of labels is fixed:
    ///
    /// | label | meaning |
    /// |---|---|
    /// | `full` | the limit was reached, and the request gave up or was not to wait |
    /// | `timeout` | no units became free within the timeout |
    /// | `queue_full` | too many requests waited already |
    /// | `too_large` | the request weighs more than the limit |
    /// | `unavailable` | the store was unavailable, or did not answer in time |
    /// | `refused` | the store refused, and will until its configuration is changed |
    /// | `closed` | the semaphore or its client was closed, or there is no runtime |
    /// | `kicked` | an operator kicked the permit before it was handed out |
    /// | `lookup` | the limit of the key could not be looked up |
    /// | `body` | the body of the request broke off while the request was queued |
    /// | `lost` | the permit was lost while the inner service ran |
    ///
    /// The metrics have all of them but `lost`: such a request was let through, so they count it with the outcome
    /// `permit`, and the permit as lost. In the metrics, a layer that
    /// [never waits](super::ZSetSemaphoreLayer::reject_when_full) uses the label `full` in place of `timeout`.
    pub fn label(&self) -> &'static str {
        self.rejected().map_or("lost", Rejected::label)
    }

    /// Returns what the metrics count the request as; `None` if it had been let through.
    pub(super) fn rejected(&self) -> Option<Rejected> {
        use AcquireError::{
            Closed, GaveUp, Kicked, NoRuntime, QueueFull, Refused, Timeout, TooLarge, ZeroUnits,
        };
        Some(match self {
            Self::Acquire(error) => match error {
                Timeout { outage: None, place: Some(_), .. } => Rejected::Timeout,
                Timeout { .. } => Rejected::Unavailable,
                GaveUp { .. } => Rejected::Full,
                QueueFull { .. } => Rejected::QueueFull,
                TooLarge { .. } | ZeroUnits => Rejected::TooLarge,
                Kicked => Rejected::Kicked,
                Closed | NoRuntime => Rejected::Closed,
                Refused(_) => Rejected::Refused,
            },
            Self::Unavailable { .. } => Rejected::Unavailable,
            Self::LimitLookup(_) => Rejected::Lookup,
            Self::RequestBody => Rejected::Body,
            Self::Lost(_) => return None,
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Acquire(error) => error.fmt(f),
            Self::Unavailable { down_for, error: Some(error) } => {
                write!(f, "the store has been unavailable for {down_for:?}: {error}")
            }
            Self::Unavailable { down_for, error: None } => {
                write!(f, "the store has been unavailable for {down_for:?}")
            }
            Self::Lost(reason) => write!(f, "the permit was lost: {reason}"),
            Self::LimitLookup(error) => write!(f, "the limit is not known: {error}"),
            Self::RequestBody => f.write_str("the body of the request ended before its end"),
        }
    }
}
