//! The errors of the layer's services and of the bodies that it ends.

use std::error::Error as StdError;
use std::time::Duration;

use super::rejection::Rejection;
use crate::LostReason;

/// The error of a request through the layer.
///
/// It does not implement `From`: `E` may itself contain an [`AcquireError`](crate::AcquireError), for
/// example that of another layer, and the two must not be confused.
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
    /// The request got no permit, or the permit was lost while the inner service ran.
    #[error(transparent)]
    Rejected(Rejection),
    /// The inner service failed.
    #[error(transparent)]
    Inner(E),
}

impl<E> Error<E> {
    /// Boxes either error without wrapping it, so that both can be downcast. For services whose error is
    /// tower's `BoxError`, which is no [`std::error::Error`] itself.
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

/// The error of a body that was ended because its permit was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the permit was lost: {0}")]
pub struct PermitLost(pub LostReason);

/// The error of a body that was ended because its reader took nothing for this long; see
/// [`stall_timeout`](super::ZSetSemaphoreLayer::stall_timeout).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the reader took nothing of the body for {0:?}")]
pub struct ReaderStalled(pub Duration);
