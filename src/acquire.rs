//! The future that waits for a permit.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project::pin_project;

use crate::error::AcquireError;
use crate::permit::Permit;
use crate::semaphore_inner::SemaphoreInner;
use crate::wait::{NoPermit, Wait};

/// The future that waits for a permit; made by
/// [`ZSetSemaphore::acquire`](crate::ZSetSemaphore::acquire).
///
/// It is a named type that owns all it needs: it is `Send + 'static`, so it can be spawned, and
/// stored without a box. It does nothing until it is polled.
///
/// # Cancel safety
///
/// Dropping it at any point leaves no permit and no queue entry.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct Acquire {
    #[pin]
    wait: Wait,
}

impl Acquire {
    pub(crate) fn new(semaphore: Arc<SemaphoreInner>, units: u32) -> Self {
        Self { wait: Wait::new(semaphore, units) }
    }

    /// Sets how long to wait, counted from the first poll. After that the future ends with
    /// [`AcquireError::Timeout`].
    ///
    /// Zero asks the store once and never waits for room. Default: no timeout. It has no effect
    /// once the future was polled.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.wait.set_timeout(timeout);
        self
    }

    /// Sets [`max_queue`](crate::SemaphoreBuilder::max_queue) for this wait alone.
    #[cfg(feature = "tower")]
    pub(crate) fn max_queue(mut self, max_queue: u32) -> Self {
        self.wait.set_max_queue(max_queue);
        self
    }

    /// How many waiters of the whole cluster stood ahead when the store last told; 0 is the head of
    /// the queue.
    ///
    /// `None` before the store has queued it, while [replicas](crate::SemaphoreBuilder::replicated) are asked about
    /// its grant, and once the wait has ended. It costs no call to the
    /// store. The store tells when it queues the waiter and each time it is asked about it: for the
    /// first waiter of a client every second (every third of a lease under three seconds), for the
    /// others when something is in doubt, or at the pace of the [`Backoff`](crate::Backoff) with
    /// [`Wake::Poll`](crate::Wake::Poll). The queue moves forward meanwhile, so fewer may be ahead.
    ///
    /// # Examples
    ///
    /// It can be called between polls, while the future is pinned:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use zset_semaphore::Client;
    ///
    /// let jobs = Client::in_memory().semaphore("jobs", 1).build()?;
    /// let held = jobs.acquire(1).await?;
    ///
    /// let mut second = std::pin::pin!(jobs.acquire(1));
    /// let mut every_second = tokio::time::interval(Duration::from_secs(1));
    /// let mut held = Some(held);
    /// let permit = loop {
    ///     tokio::select! {
    ///         permit = &mut second => break permit?,
    ///         _ = every_second.tick() => {
    ///             if let Some(place) = second.place() {
    ///                 println!("{place} ahead of you");
    ///                 held.take(); // now there is room
    ///             }
    ///         }
    ///     }
    /// };
    /// assert!(!permit.is_lost());
    /// # Ok(())
    /// # }
    /// ```
    pub fn place(&self) -> Option<u64> {
        self.wait.place()
    }
}

impl Future for Acquire {
    type Output = Result<Permit, AcquireError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut wait = self.project().wait;
        let outcome = ready!(wait.as_mut().poll(cx));
        Poll::Ready(outcome.map_err(|why| error(&wait, why)))
    }
}

fn error(wait: &Wait, why: NoPermit) -> AcquireError {
    let (units, waited) = (wait.units(), wait.waited());
    match why {
        NoPermit::ZeroUnits => AcquireError::ZeroUnits,
        NoPermit::NoRuntime => AcquireError::NoRuntime,
        NoPermit::Closed => AcquireError::Closed,
        NoPermit::Kicked => AcquireError::Kicked,
        NoPermit::TooLarge { limit } => AcquireError::TooLarge { units, limit },
        // Only a wait with a timeout of zero is told so; all who wait would be ahead.
        NoPermit::Full { waiting, .. } => {
            AcquireError::Timeout { waited, place: Some(waiting), outage: None }
        }
        NoPermit::QueueFull { waiting } => {
            AcquireError::QueueFull { waiting, max_queue: wait.max_queue().unwrap_or(u32::MAX) }
        }
        NoPermit::GaveUp { tries } => AcquireError::GaveUp { tries, waited },
        NoPermit::Failed(error) => AcquireError::Refused(error),
        NoPermit::TimedOut { place, outage } => AcquireError::Timeout { waited, place, outage },
    }
}

impl fmt::Debug for Acquire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquire")
            .field("semaphore", &self.wait.name())
            .field("units", &self.wait.units())
            .field("timeout", &self.wait.timeout())
            .field("started", &self.wait.started())
            .finish_non_exhaustive()
    }
}
