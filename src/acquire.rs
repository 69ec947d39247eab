//! The futures that wait for a permit.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project::{pin_project, pinned_drop};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::driver::{NoDriver, WaitEnd};
use crate::error::{AcquireError, StoreError, TryAcquireError};
use crate::hold::Truth;
use crate::id::PermitId;
use crate::permit::Permit;
use crate::semaphore_inner::SemaphoreInner;
use crate::store::Rule;

/// Waits for a permit; made by [`ZSetSemaphore::acquire`](crate::ZSetSemaphore::acquire).
///
/// A named future that owns all it needs: it is `Send + 'static`, so it spawns and joins, and can
/// be stored without a box. It does nothing until polled.
///
/// # Cancel safety
///
/// Dropping it at any point leaves no permit and no queue entry.
#[pin_project(PinnedDrop)]
#[must_use = "futures do nothing unless polled"]
pub struct Acquire {
    semaphore: Arc<SemaphoreInner>,
    units: u32,
    timeout: Option<Duration>,
    max_queue: Option<u32>,
    /// Of the first poll.
    started: Option<Instant>,
    /// Known to the line while it waits there.
    counter: Option<u64>,
    #[pin]
    deadline: Option<Sleep>,
}

impl Acquire {
    pub(crate) fn new(semaphore: Arc<SemaphoreInner>, units: u32) -> Self {
        let max_queue = semaphore.options.max_queue;
        Self {
            semaphore,
            units,
            timeout: None,
            max_queue,
            started: None,
            counter: None,
            deadline: None,
        }
    }

    /// Ends the wait after `timeout`, counted from the first poll, with
    /// [`AcquireError::Timeout`].
    ///
    /// Zero asks once and never waits for room. Default: none. Without effect once polled.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        if self.started.is_none() {
            self.timeout = Some(timeout);
        }
        self
    }

    /// As [`max_queue`](crate::SemaphoreBuilder::max_queue), for this wait alone.
    #[cfg(feature = "tower")]
    pub(crate) fn max_queue(mut self, most: u32) -> Self {
        self.max_queue = Some(most);
        self
    }

    fn rule(&self) -> Rule {
        match (self.timeout, self.max_queue) {
            (Some(Duration::ZERO), _) => Rule::Try,
            (_, Some(most)) => Rule::WaitBehind(most),
            _ => Rule::Wait,
        }
    }

    /// Enters the line; the deadline is set once, at the first poll.
    fn start(mut self: Pin<&mut Self>) -> Result<u64, Refusal> {
        let now = Instant::now();
        let rule = self.rule();
        let counter = enter(&self.semaphore, self.units, rule)?;
        let timeout = match rule {
            Rule::Try => Some(self.semaphore.seat.shared().call_timeout),
            _ => self.timeout,
        };
        let mut this = self.as_mut().project();
        *this.counter = Some(counter);
        if this.started.is_none() {
            *this.started = Some(now);
            // A timeout beyond the end of time is none.
            if let Some(at) = timeout.and_then(|timeout| now.checked_add(timeout)) {
                this.deadline.set(Some(sleep_until(at)));
            }
        }
        Ok(counter)
    }

    fn poll_outcome(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        loop {
            let counter = match self.counter {
                Some(counter) => counter,
                None => match self.as_mut().start() {
                    Ok(counter) => counter,
                    Err(refusal) => return Poll::Ready(Outcome::Refused(refusal)),
                },
            };
            // The grant is looked for before the deadline: one that arrives with it is returned.
            // Cloned and dropped outside the lock of the line: a waker may own anything.
            let mut waker = Some(cx.waker().clone());
            let polled = self.semaphore.seat.peek(|line| line.poll_waiter(counter, &mut waker));
            if let Poll::Ready(end) = polled {
                *self.as_mut().project().counter = None;
                return Poll::Ready(match end {
                    WaitEnd::Granted(hold) if matches!(hold.truth(), Truth::HeldUntil(_)) => {
                        Outcome::Granted(Permit::new(hold, self.semaphore.seat.clone()))
                    }
                    WaitEnd::Granted(_) => continue, // lost before it was looked at: wait again
                    end => Outcome::Ended(end),
                });
            }
            match self.as_mut().project().deadline.as_pin_mut() {
                Some(deadline) => ready!(deadline.poll(cx)),
                None => return Poll::Pending,
            }
            *self.as_mut().project().counter = None;
            return Poll::Ready(self.semaphore.seat.update(|line| {
                let (place, outage) = (line.ahead(counter), line.trouble().cloned());
                line.cancel(counter, Instant::now());
                Outcome::TimedOut { place, outage }
            }));
        }
    }

    fn waited(&self) -> Duration {
        self.started.map_or(Duration::ZERO, |at| at.elapsed())
    }
}

/// How an acquire of either kind ended.
enum Outcome {
    Granted(Permit),
    Refused(Refusal),
    Ended(WaitEnd),
    TimedOut { place: Option<u64>, outage: Option<StoreError> },
}

/// Why a wait never began.
enum Refusal {
    ZeroUnits,
    TooLarge { limit: u32 },
    NoRuntime,
    Closed,
}

/// Makes the id and puts the waiter into the line.
fn enter(semaphore: &SemaphoreInner, units: u32, rule: Rule) -> Result<u64, Refusal> {
    if units == 0 {
        return Err(Refusal::ZeroUnits);
    }
    let shared = semaphore.seat.shared();
    let client = shared.ensure_driver().map_err(|reason| match reason {
        NoDriver::NoRuntime => Refusal::NoRuntime,
        NoDriver::Ended => Refusal::Closed,
    })?;
    let counter = shared.next_counter();
    let id = PermitId::new(client, counter, units, semaphore.options.lease_ms);
    semaphore.seat.update(|line| {
        if line.is_closed() {
            return Err(Refusal::Closed);
        }
        // An override may be higher: the store decides, unless it cannot be asked.
        let too_large = semaphore.limit > 0 && units > semaphore.limit;
        if too_large && line.known_override().is_none() && shared.is_down() {
            return Err(Refusal::TooLarge { limit: semaphore.limit });
        }
        line.enter(id, rule, Arc::clone(&semaphore.options));
        Ok(counter)
    })
}

impl Future for Acquire {
    type Output = Result<Permit, AcquireError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(self.as_mut().poll_outcome(cx));
        let (units, waited) = (self.units, self.waited());
        Poll::Ready(Err(match outcome {
            Outcome::Granted(permit) => return Poll::Ready(Ok(permit)),
            Outcome::TimedOut { place, outage } => {
                // Who only asks waits for nothing but the answer, and nobody can be told that it is
                // full while there is no connection.
                let only_asks = self.timeout == Some(Duration::ZERO);
                let unanswered = (only_asks || self.semaphore.seat.shared().is_unconnected())
                    .then(|| StoreError::timeout(format!("no answer within {waited:?}")));
                AcquireError::Timeout { waited, place, outage: outage.or(unanswered) }
            }
            Outcome::Refused(refusal) => match refusal {
                Refusal::ZeroUnits => AcquireError::ZeroUnits,
                Refusal::TooLarge { limit } => AcquireError::TooLarge { units, limit },
                Refusal::NoRuntime => AcquireError::NoRuntime,
                Refusal::Closed => AcquireError::Closed,
            },
            Outcome::Ended(end) => match end {
                WaitEnd::TooLarge { limit } => AcquireError::TooLarge { units, limit },
                WaitEnd::QueueFull { waiting } => {
                    let max_queue = self.max_queue.unwrap_or(u32::MAX);
                    AcquireError::QueueFull { waiting, max_queue }
                }
                WaitEnd::Full { waiting, .. } => {
                    AcquireError::Timeout { waited, place: Some(waiting), outage: None }
                }
                WaitEnd::GaveUp { tries } => AcquireError::GaveUp { tries, waited },
                WaitEnd::Kicked => AcquireError::Kicked,
                WaitEnd::Failed(error) => AcquireError::Refused(error),
                WaitEnd::Closed | WaitEnd::Granted(_) => AcquireError::Closed,
            },
        }))
    }
}

#[pinned_drop]
impl PinnedDrop for Acquire {
    fn drop(self: Pin<&mut Self>) {
        if let Some(counter) = self.counter {
            self.semaphore.seat.update(|line| line.cancel(counter, Instant::now()));
        }
    }
}

impl fmt::Debug for Acquire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquire")
            .field("semaphore", &self.semaphore.name)
            .field("units", &self.units)
            .field("timeout", &self.timeout)
            .field("started", &self.started)
            .finish_non_exhaustive()
    }
}

/// Takes a permit if there is room; made by
/// [`ZSetSemaphore::try_acquire`](crate::ZSetSemaphore::try_acquire).
///
/// # Cancel safety
///
/// Dropping it at any point leaves no permit.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
#[derive(Debug)]
pub struct TryAcquire {
    #[pin]
    acquire: Acquire,
}

impl TryAcquire {
    pub(crate) fn new(semaphore: Arc<SemaphoreInner>, units: u32) -> Self {
        Self { acquire: Acquire::new(semaphore, units).timeout(Duration::ZERO) }
    }
}

impl Future for TryAcquire {
    type Output = Result<Permit, TryAcquireError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(self.as_mut().project().acquire.poll_outcome(cx));
        let units = self.acquire.units;
        Poll::Ready(Err(match outcome {
            Outcome::Granted(permit) => return Poll::Ready(Ok(permit)),
            Outcome::TimedOut { outage, .. } => {
                let waited = self.acquire.waited();
                TryAcquireError::Unavailable(outage.unwrap_or_else(|| {
                    StoreError::timeout(format!("the store did not answer within {waited:?}"))
                }))
            }
            Outcome::Refused(refusal) => match refusal {
                Refusal::ZeroUnits => TryAcquireError::ZeroUnits,
                Refusal::TooLarge { limit } => TryAcquireError::TooLarge { units, limit },
                Refusal::NoRuntime => TryAcquireError::NoRuntime,
                Refusal::Closed => TryAcquireError::Closed,
            },
            Outcome::Ended(end) => match end {
                WaitEnd::TooLarge { limit } => TryAcquireError::TooLarge { units, limit },
                WaitEnd::Full { in_use, limit, waiting } => {
                    TryAcquireError::Full { in_use, limit, waiting }
                }
                WaitEnd::Kicked => TryAcquireError::Kicked,
                WaitEnd::Failed(error) => TryAcquireError::Unavailable(error),
                WaitEnd::QueueFull { .. }
                | WaitEnd::GaveUp { .. }
                | WaitEnd::Closed
                | WaitEnd::Granted(_) => TryAcquireError::Closed,
            },
        }))
    }
}
