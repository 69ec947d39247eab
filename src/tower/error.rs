//! Why the layer did not answer.

use std::sync::Arc;

use crate::AcquireError;

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
/// use zset_semaphore::{AcquireError, Client, tower::{Error, ZSetSemaphoreLayer}};
///
/// let jobs = Client::in_memory().semaphore("jobs", 1).build()?;
/// let held = jobs.acquire(1).await?;
/// let service = ZSetSemaphoreLayer::new(jobs)
///     .timeout(Duration::from_millis(10))
///     .hold_head()
///     .layer(service_fn(|n: u32| async move { Ok::<_, Infallible>(n) }));
///
/// match service.oneshot(1).await {
///     Err(Error::Rejected(rejection)) => {
///         assert_eq!(rejection.semaphore(), "jobs");
///         assert!(matches!(rejection.reason(), AcquireError::Timeout { ahead: Some(0), .. }));
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
    /// There was no permit; the inner service was not called.
    #[error(transparent)]
    Rejected(Rejection),
    /// The inner service failed.
    #[error(transparent)]
    Inner(E),
}

impl<E> Error<E> {
    /// Boxes either error, for services whose error is tower's `BoxError`, which is itself no
    /// [`std::error::Error`]. Neither is wrapped: both can be downcast.
    pub fn into_boxed(self) -> Box<dyn std::error::Error + Send + Sync>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        match self {
            Self::Rejected(rejection) => Box::new(rejection),
            Self::Inner(error) => error.into(),
        }
    }
}

/// A request got no permit. Nothing is held or queued for it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("semaphore {semaphore:?}: {reason}")]
pub struct Rejection {
    semaphore: Arc<str>,
    #[source]
    reason: AcquireError,
}

impl Rejection {
    pub(super) fn new(semaphore: &str, reason: AcquireError) -> Self {
        Self { semaphore: semaphore.into(), reason }
    }

    /// The name of the semaphore: where layers are stacked, it tells which of them it was.
    pub fn semaphore(&self) -> &str {
        &self.semaphore
    }

    /// Why there was no permit.
    pub fn reason(&self) -> &AcquireError {
        &self.reason
    }
}
