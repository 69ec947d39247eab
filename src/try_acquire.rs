//! The future that takes a permit only if there is room.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project::pin_project;

use crate::error::TryAcquireError;
use crate::permit::Permit;
use crate::semaphore_inner::SemaphoreInner;
use crate::wait::{NoPermit, Wait};

/// The future that takes a permit only if there is room; made by
/// [`ZSetSemaphore::try_acquire`](crate::ZSetSemaphore::try_acquire).
///
/// It ends as soon as the store has answered, within the
/// [call timeout](crate::ClientBuilder::call_timeout). It does nothing until it is polled.
///
/// # Cancel safety
///
/// Dropping it at any point leaves no permit.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct TryAcquire {
    #[pin]
    wait: Wait,
}

impl TryAcquire {
    pub(crate) fn new(semaphore: Arc<SemaphoreInner>, units: u32) -> Self {
        let mut wait = Wait::new(semaphore, units);
        wait.set_timeout(Duration::ZERO);
        Self { wait }
    }
}

impl Future for TryAcquire {
    type Output = Result<Permit, TryAcquireError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut wait = self.project().wait;
        let outcome = ready!(wait.as_mut().poll(cx));
        Poll::Ready(outcome.map_err(|why| error(&wait, why)))
    }
}

fn error(wait: &Wait, why: NoPermit) -> TryAcquireError {
    let units = wait.units();
    match why {
        NoPermit::ZeroUnits => TryAcquireError::ZeroUnits,
        NoPermit::NoRuntime => TryAcquireError::NoRuntime,
        NoPermit::Kicked => TryAcquireError::Kicked,
        NoPermit::TooLarge { limit } => TryAcquireError::TooLarge { units, limit },
        NoPermit::Full { in_use, limit, waiting } => {
            TryAcquireError::Full { in_use, limit, waiting }
        }
        NoPermit::Failed(error) => TryAcquireError::Unavailable(error),
        NoPermit::TimedOut { outage, .. } => {
            TryAcquireError::Unavailable(outage.unwrap_or_else(|| wait.no_answer()))
        }
        // It never waits, so a full queue and a backoff do not concern it.
        NoPermit::Closed | NoPermit::QueueFull { .. } | NoPermit::GaveUp { .. } => {
            TryAcquireError::Closed
        }
    }
}

impl fmt::Debug for TryAcquire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TryAcquire")
            .field("semaphore", &self.wait.name())
            .field("units", &self.wait.units())
            .field("started", &self.wait.started())
            .finish_non_exhaustive()
    }
}
