//! Why the layer did not let a request through, or ended it.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::key::NO_KEY;
use super::retry::told;
use crate::{AcquireError, LostReason, StoreError};

/// How a request through the layer failed.
///
/// There is no `From`: an `E` may itself hold an [`AcquireError`], say that of another layer, so
/// which of the two it is is never guessed.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::{convert::Infallible, time::Duration};
///
/// use tower::{Layer, ServiceExt, service_fn};
/// use zset_semaphore::{AcquireError, Client, tower::{Error, Reason, ZSetSemaphoreLayer}};
///
/// let jobs = Client::in_memory().semaphore("jobs", 1).build()?;
/// let held = jobs.acquire(1).await?;
/// let service = ZSetSemaphoreLayer::new(jobs)
///     .timeout(Duration::from_millis(10))
///     .release_on_response()
///     .layer(service_fn(|n: u32| async move { Ok::<_, Infallible>(n) }));
///
/// match service.oneshot(1).await {
///     Err(Error::Rejected(rejection)) => {
///         assert_eq!(rejection.semaphore_name(), "jobs");
///         assert!(rejection.is_full());
///         assert_eq!((rejection.in_use(), rejection.limit(), rejection.place()), (Some(1), 1, Some(0)));
///         assert!(matches!(rejection.reason(), Reason::Acquire(AcquireError::Timeout { .. })));
///     }
///     other => panic!("{other:?}"),
/// }
/// # drop(held);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error<E> {
    /// There was no permit, or it was lost while the inner service ran.
    #[error(transparent)]
    Rejected(Rejection),
    /// The inner service failed.
    #[error(transparent)]
    Inner(E),
}

impl<E> Error<E> {
    /// Boxes either error, for services whose error is tower's `BoxError`, which is itself no
    /// [`std::error::Error`]. Neither is wrapped: both can be downcast.
    pub fn into_boxed(self) -> Box<dyn StdError + Send + Sync>
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        match self {
            Self::Rejected(rejection) => Box::new(rejection),
            Self::Inner(error) => error.into(),
        }
    }
}

/// A request was not let through, or was ended when its permit was lost. Nothing is held or queued
/// for it.
///
/// What it displays is for logs: it may name a key, or the address of the store. Outsiders may see its
/// [`limit_name`](Self::limit_name).
#[derive(Clone)]
pub struct Rejection {
    facts: Box<Facts>,
}

/// All that is known of a rejection.
#[derive(Clone)]
pub(super) struct Facts {
    pub(super) semaphore: Arc<str>,
    pub(super) limit_name: Arc<str>,
    pub(super) reason: Reason,
    pub(super) in_use: Option<u64>,
    pub(super) limit: u32,
    pub(super) place: Option<u64>,
    pub(super) retry_after: Duration,
}

/// Why a request was rejected.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Reason {
    /// The wait ended without a permit.
    Acquire(AcquireError),
    /// The store was away, and the policy is to reject meanwhile; see [`OutagePolicy`](super::OutagePolicy).
    Unavailable {
        /// How long the outage has lasted.
        down_for: Duration,
        /// What the latest try to ask it ended with, if any has ended.
        error: Option<StoreError>,
    },
    /// The permit was lost while the inner service ran, and the layer was told to
    /// [end such requests](super::ZSetSemaphoreLayer::end_when_lost).
    Lost(LostReason),
    /// The limit of the request's key could not be found out; see
    /// [`KeyLimit::lookup`](super::KeyLimit::lookup).
    LimitLookup(Arc<dyn StdError + Send + Sync>),
    /// The body of the request failed while the request was queued: most likely its client has
    /// gone. Told only by layers that [read ahead](super::ReadAhead).
    RequestBody,
}

impl Rejection {
    /// `facts.retry_after` is the mere estimate.
    pub(super) fn new(facts: Facts) -> Self {
        Self { facts: Box::new(facts) }
    }

    /// As it is told: no less than `floor`, and not the same to all.
    pub(super) fn told(mut self, floor: Duration) -> Self {
        self.facts.retry_after = told(self.facts.retry_after, floor, fastrand::f64());
        self
    }

    /// The name of the semaphore: where layers are stacked, it tells which of them it was.
    pub fn semaphore_name(&self) -> &str {
        &self.facts.semaphore
    }

    /// The name of the limit, without the key of the request: what outsiders may see. For a layer
    /// with one semaphore this is its name.
    pub fn limit_name(&self) -> &str {
        &self.facts.limit_name
    }

    /// The key of the request, as it stands in the store: of a [secret](super::Key::secret) only its
    /// hash. `None` for a request without a key, and where one semaphore serves all.
    pub fn key(&self) -> Option<&str> {
        let key = self.semaphore_name().strip_prefix(self.limit_name())?.strip_prefix('/')?;
        (key != NO_KEY).then_some(key)
    }

    /// Why there was no permit.
    pub fn reason(&self) -> &Reason {
        &self.facts.reason
    }

    /// Whether it was the limit that stood in the way: the same request may do later.
    pub fn is_full(&self) -> bool {
        use AcquireError::{GaveUp, QueueFull, Timeout};
        matches!(
            self.reason(),
            Reason::Acquire(
                // Without a place in the queue the store has not said that there was no room.
                Timeout { outage: None, place: Some(_), .. } | QueueFull { .. } | GaveUp { .. }
            )
        )
    }

    /// Whether the request weighs more than the limit: it will never do.
    pub fn is_too_large(&self) -> bool {
        matches!(self.reason(), Reason::Acquire(AcquireError::TooLarge { .. }))
    }

    /// Units in use, as the store last told this process; `None` if it never did.
    pub fn in_use(&self) -> Option<u64> {
        self.facts.in_use
    }

    /// The limit, as the store last told this process.
    pub fn limit(&self) -> u32 {
        self.facts.limit
    }

    /// How many waited ahead of the request when that was last heard.
    pub fn place(&self) -> Option<u64> {
        self.facts.place
    }

    /// When it is worth trying again: when as many units as the request and those ahead of it need
    /// are expected to have come free, with up to a quarter more, or 2 s, at random, so that those
    /// who were rejected at once do not come back at once.
    ///
    /// It goes by how long permits were held that were given back lately, and by how long those have
    /// been held that are in use, both as this process knows them. What has outlived all that was
    /// seen is expected to last as long again. It is never less than the
    /// [floor](super::ZSetSemaphoreLayer::min_retry_after), 1 s unless that is set. A higher floor
    /// aside it is 2 minutes at the most; a paused semaphore (limit 0) counts as full for that long.
    pub fn retry_after(&self) -> Duration {
        self.facts.retry_after
    }
}

impl fmt::Debug for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejection")
            .field("semaphore", &self.facts.semaphore)
            .field("reason", &self.facts.reason)
            .field("in_use", &self.facts.in_use)
            .field("limit", &self.facts.limit)
            .field("place", &self.facts.place)
            .field("retry_after", &self.facts.retry_after)
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
    /// A word for it, out of a fixed set: what the metrics are labelled with.
    ///
    /// | label | means |
    /// |---|---|
    /// | `full` | there was no room; the wait was not to be any longer |
    /// | `timeout` | no room within the timeout |
    /// | `queue_full` | too many waited already |
    /// | `too_large` | heavier than the limit |
    /// | `unavailable` | the store was away, or did not answer in time |
    /// | `refused` | the store refused for good: its configuration is to be changed |
    /// | `closed` | the semaphore or its client was closed, or there is no runtime |
    /// | `kicked` | an operator kicked the permit before it was handed out |
    /// | `lookup` | the limit of the key could not be found out |
    /// | `body` | the body of the request broke off while it was queued |
    /// | `lost` | the permit was lost while the inner service ran |
    ///
    /// A layer that [never waits](super::ZSetSemaphoreLayer::reject_when_full) counts what is `timeout`
    /// here as `full`.
    pub fn label(&self) -> &'static str {
        use AcquireError::{
            Closed, GaveUp, Kicked, NoRuntime, QueueFull, Refused, Timeout, TooLarge, ZeroUnits,
        };
        match self {
            Self::Acquire(error) => match error {
                Timeout { outage: None, place: Some(_), .. } => "timeout",
                Timeout { .. } => "unavailable",
                GaveUp { .. } => "full",
                QueueFull { .. } => "queue_full",
                TooLarge { .. } | ZeroUnits => "too_large",
                Kicked => "kicked",
                Closed | NoRuntime => "closed",
                Refused(_) => "refused",
            },
            Self::Unavailable { .. } => "unavailable",
            Self::LimitLookup(_) => "lookup",
            Self::RequestBody => "body",
            Self::Lost(_) => "lost",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Acquire(error) => error.fmt(f),
            Self::Unavailable { down_for, error: Some(error) } => {
                write!(f, "the store has been away for {down_for:?}: {error}")
            }
            Self::Unavailable { down_for, error: None } => {
                write!(f, "the store has been away for {down_for:?}")
            }
            Self::Lost(reason) => write!(f, "the permit was lost: {reason}"),
            Self::LimitLookup(error) => write!(f, "the limit is not known: {error}"),
            Self::RequestBody => f.write_str("the body of the request ended before its end"),
        }
    }
}

/// The error of a body that was ended since its permit was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the permit was lost: {0}")]
pub struct PermitLost(pub LostReason);

/// The error of a body that was ended because its reader took nothing for that long; see
/// [`stall_timeout`](super::ZSetSemaphoreLayer::stall_timeout).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the reader took nothing of the body for {0:?}")]
pub struct ReaderStalled(pub Duration);
