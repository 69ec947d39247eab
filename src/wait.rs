//! The wait for a permit, as [`Acquire`](crate::Acquire) and [`TryAcquire`](crate::TryAcquire) share it.
//!
//! # Implementation
//!
//! A wait is outside the queue of its client, or in it:
//!
//! ```text
//!                 enter                  granted, and held
//!  Stage::Outside -----> Stage::Queued ---------------------> Ok(Permit)
//!      ^    |              |  |     |
//!      |    | refused      |  |     | ended by the store or the client, or out of time
//!      |    +----------------------------------------------> Err(NoPermit)
//!      |                   |  |
//!      +-------------------+  +-- dropped: the queue entry, or the permit, is given back
//!        granted, but lost before the future was polled
//! ```
//!
//! Where a grant must be on replicas first, `Stage::Replicating` comes before `Ok(Permit)`. It ends in the same
//! ways. There, too, a permit that is lost makes the wait enter again.
//!
//! The id of the permit is made on entering, by this process, so a request that is sent twice is
//! one permit. The deadline is set once, by the first poll, and spans all entries.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project::{pin_project, pinned_drop};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::driver::{DriverHandle, NoDriver, SemaphoreState, WaitEnd};
use crate::error::StoreError;
use crate::hold::Truth;
use crate::id::PermitId;
use crate::lost_reason::LostReason;
use crate::metrics::{WaitOutcome, Waiting};
use crate::permit::Permit;
use crate::replicated::{NotReplicated, replicated};
use crate::semaphore_inner::SemaphoreInner;
use crate::span::WaitSpan;
use crate::store::WhenFull;

/// A wait for a permit. Dropped at any point, it leaves no permit and no queue entry.
#[pin_project(PinnedDrop)]
pub(crate) struct Wait {
    semaphore: Arc<SemaphoreInner>,
    units: u32,
    timeout: Option<Duration>,
    max_queue: Option<u32>,
    stage: Stage,
    /// When it was first polled.
    started: Option<Instant>,
    waiting: Waiting,
    span: WaitSpan,
    #[pin]
    deadline: Option<Sleep>,
}

/// Where a wait stands.
enum Stage {
    /// Not in the queue: it was not polled yet, or what it was granted is lost, or it is over.
    Outside,
    /// In the queue of its client, which knows it by the counter of its id.
    Queued { counter: u64 },
    /// Granted. Replicas do not have the grant yet, as far as is known.
    Replicating(Replicating),
}

type Replicating = Pin<Box<dyn Future<Output = Result<Permit, NotReplicated>> + Send + Sync>>;

/// A caller that waits for replicas, as the gauge of waiters counts it.
struct ReplicatingWaiter(DriverHandle);

impl ReplicatingWaiter {
    /// Counts one more, if somebody listens.
    fn count(driver: &DriverHandle) -> Option<Self> {
        driver.meter().is_heard().then(|| {
            driver.with(SemaphoreState::replicating);
            Self(driver.clone())
        })
    }
}

impl Drop for ReplicatingWaiter {
    fn drop(&mut self) {
        self.0.with(SemaphoreState::replicating_ended);
    }
}

/// Why a wait ended without a permit.
pub(crate) enum NoPermit {
    ZeroUnits,
    NoRuntime,
    Closed,
    Kicked,
    TooLarge {
        limit: u32,
    },
    /// There is no room, and it does not wait for any.
    Full {
        in_use: u64,
        limit: u32,
        waiting: u64,
    },
    QueueFull {
        waiting: u64,
    },
    /// The backoff allowed no further try.
    GaveUp {
        tries: u32,
    },
    /// The store refused for good.
    Failed(StoreError),
    /// The time is up.
    TimedOut {
        place: Option<u64>,
        outage: Option<StoreError>,
    },
}

impl NoPermit {
    fn outcome(&self) -> WaitOutcome {
        match self {
            Self::ZeroUnits | Self::TooLarge { .. } => WaitOutcome::TooLarge,
            Self::NoRuntime | Self::Closed => WaitOutcome::Closed,
            Self::Kicked => WaitOutcome::Kicked,
            Self::Full { .. } | Self::GaveUp { .. } => WaitOutcome::Full,
            Self::QueueFull { .. } => WaitOutcome::QueueFull,
            Self::Failed(_) => WaitOutcome::Refused,
            Self::TimedOut { .. } => WaitOutcome::Timeout,
        }
    }
}

impl Wait {
    pub(crate) fn new(semaphore: Arc<SemaphoreInner>, units: u32) -> Self {
        let max_queue = semaphore.options.max_queue;
        Self {
            semaphore,
            units,
            timeout: None,
            max_queue,
            stage: Stage::Outside,
            started: None,
            waiting: Waiting::default(),
            span: WaitSpan::none(),
            deadline: None,
        }
    }

    /// Sets the timeout; without effect once polled. Zero asks once.
    pub(crate) fn set_timeout(&mut self, timeout: Duration) {
        if self.started.is_none() {
            self.timeout = Some(timeout);
        }
    }

    #[cfg(feature = "tower")]
    pub(crate) fn set_max_queue(&mut self, max_queue: u32) {
        self.max_queue = Some(max_queue);
    }

    pub(crate) fn name(&self) -> &str {
        &self.semaphore.name
    }

    pub(crate) fn units(&self) -> u32 {
        self.units
    }

    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    pub(crate) fn max_queue(&self) -> Option<u32> {
        self.max_queue
    }

    pub(crate) fn started(&self) -> Option<Instant> {
        self.started
    }

    /// How long ago it was first polled.
    pub(crate) fn waited(&self) -> Duration {
        self.started.map_or(Duration::ZERO, |at| at.elapsed())
    }

    /// How many waiters stood ahead when the store last told.
    pub(crate) fn place(&self) -> Option<u64> {
        match self.stage {
            Stage::Outside | Stage::Replicating(_) => None,
            Stage::Queued { counter } => self.semaphore.driver.with(|state| state.place(counter)),
        }
    }

    pub(crate) fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Permit, NoPermit>> {
        if self.started.is_none() {
            let this = self.as_mut().project();
            *this.span = WaitSpan::begin(&this.semaphore.name, *this.units);
        }
        let span = self.span.get();
        let _entered = span.enter();
        let end = ready!(self.as_mut().poll_end(cx));
        let outcome = end.as_ref().map_or_else(NoPermit::outcome, |_| WaitOutcome::Granted);
        self.as_mut().end_waiting(outcome, Instant::now);
        self.project().span.end(outcome);
        Poll::Ready(end)
    }

    /// Counts the wait, unless that was done.
    fn end_waiting(self: Pin<&mut Self>, outcome: WaitOutcome, now: impl FnOnce() -> Instant) {
        let this = self.project();
        this.waiting.end(this.semaphore.driver.meter(), outcome, now);
    }

    fn poll_end(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Permit, NoPermit>> {
        loop {
            // The grant is looked for before the deadline: one that arrives with it is returned.
            match self.as_mut().poll_stage(cx) {
                Poll::Ready(Ok(Some(permit))) => return Poll::Ready(Ok(permit)),
                Poll::Ready(Ok(None)) => {} // it is at the next stage
                Poll::Ready(Err(why)) => return Poll::Ready(Err(why)),
                Poll::Pending => {
                    ready!(self.as_mut().poll_deadline(cx));
                    return Poll::Ready(Err(self.time_out()));
                }
            }
        }
    }

    /// Ready with `None` when it has come to another stage.
    fn poll_stage(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Permit>, NoPermit>> {
        match self.as_mut().project().stage {
            Stage::Outside => Poll::Ready(self.enter().map(|()| None)),
            Stage::Queued { counter } => {
                let counter = *counter;
                self.poll_queue(counter, cx)
            }
            Stage::Replicating(replicating) => {
                let end = ready!(replicating.as_mut().poll(cx));
                Poll::Ready(self.replicated(end))
            }
        }
    }

    /// Enters the queue of the client. The first time, sets the deadline.
    fn enter(mut self: Pin<&mut Self>) -> Result<(), NoPermit> {
        let now = Instant::now();
        let when_full = self.when_full();
        if self.started.is_none() {
            let this = self.as_mut().project();
            *this.waiting = Waiting::begin(this.semaphore.driver.meter(), now);
        }
        let counter = enter(&self.semaphore, self.units, when_full)?;
        let mut this = self.as_mut().project();
        *this.stage = Stage::Queued { counter };
        if this.started.is_none() {
            *this.started = Some(now);
            let timeout = match when_full {
                WhenFull::Refuse => Some(this.semaphore.driver.shared().call_timeout),
                WhenFull::Wait | WhenFull::WaitBehind(_) => *this.timeout,
            };
            // A timeout beyond the end of time is none.
            if let Some(at) = timeout.and_then(|timeout| now.checked_add(timeout)) {
                this.deadline.set(Some(sleep_until(at)));
            }
        }
        Ok(())
    }

    fn when_full(&self) -> WhenFull {
        match (self.timeout, self.max_queue) {
            (Some(Duration::ZERO), _) => WhenFull::Refuse,
            (_, Some(most)) => WhenFull::WaitBehind(most),
            (_, None) => WhenFull::Wait,
        }
    }

    /// Ready with `None` when what was granted has to wait for replicas, or was lost before it was looked at.
    fn poll_queue(
        mut self: Pin<&mut Self>,
        counter: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Permit>, NoPermit>> {
        // Cloned and dropped outside the lock: a waker may own anything.
        let mut waker = Some(cx.waker().clone());
        let polled = self.semaphore.driver.with(|state| state.poll_waiter(counter, &mut waker));
        let end = ready!(polled);
        *self.as_mut().project().stage = Stage::Outside;
        Poll::Ready(match end {
            WaitEnd::Granted(hold) => {
                // If it is lost, the drop gives it back where that is left to its holder.
                let permit = Permit::new(hold, self.semaphore.driver.clone());
                let now = Instant::now();
                Ok(match permit.hold().truth_at(now) {
                    Truth::HeldUntil(_) => self.hand_out_or_replicate(permit, now),
                    Truth::Lost(_) | Truth::Released => None,
                })
            }
            WaitEnd::Full { in_use, limit, waiting } => {
                Err(NoPermit::Full { in_use, limit, waiting })
            }
            WaitEnd::QueueFull { waiting } => Err(NoPermit::QueueFull { waiting }),
            WaitEnd::TooLarge { limit } => Err(NoPermit::TooLarge { limit }),
            WaitEnd::GaveUp { tries } => Err(NoPermit::GaveUp { tries }),
            WaitEnd::Kicked => Err(NoPermit::Kicked),
            WaitEnd::Closed => Err(NoPermit::Closed),
            WaitEnd::Failed(error) => Err(NoPermit::Failed(error)),
        })
    }

    /// Returns the permit, unless its grant has to be on replicas first.
    fn hand_out_or_replicate(
        mut self: Pin<&mut Self>,
        permit: Permit,
        now: Instant,
    ) -> Option<Permit> {
        let Some(wanted) = self.semaphore.options.replicated else {
            self.as_mut().end_waiting(WaitOutcome::Granted, || now);
            return Some(permit);
        };
        let waiter = ReplicatingWaiter::count(&self.semaphore.driver);
        *self.project().stage = Stage::Replicating(Box::pin(async move {
            let _waiter = waiter;
            replicated(permit, wanted).await
        }));
        None
    }

    /// Takes in what the wait for replicas has come to. Returns `None` if the permit was lost meanwhile.
    fn replicated(
        self: Pin<&mut Self>,
        end: Result<Permit, NotReplicated>,
    ) -> Result<Option<Permit>, NoPermit> {
        *self.project().stage = Stage::Outside;
        match end {
            Ok(permit) => Ok(Some(permit).filter(|permit| !permit.is_lost())),
            Err(NotReplicated::Lost(LostReason::Kicked)) => Err(NoPermit::Kicked),
            Err(NotReplicated::Lost(_)) => Ok(None),
            Err(NotReplicated::Closed) => Err(NoPermit::Closed),
            Err(NotReplicated::Failed(error)) => Err(NoPermit::Failed(error)),
        }
    }

    /// Pending for ever without a deadline.
    fn poll_deadline(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.project().deadline.as_pin_mut() {
            Some(deadline) => deadline.poll(cx),
            None => Poll::Pending,
        }
    }

    /// Leaves nothing behind, and tells how things stood.
    fn time_out(mut self: Pin<&mut Self>) -> NoPermit {
        match std::mem::replace(self.as_mut().project().stage, Stage::Outside) {
            Stage::Queued { counter } => self.time_out_in_queue(counter),
            Stage::Outside | Stage::Replicating(_) => self.time_out_replicating(),
        }
    }

    fn time_out_in_queue(&self, counter: u64) -> NoPermit {
        let (place, outage) = self.semaphore.driver.update(|state| {
            let outage = state.outage(self.semaphore.options.replicated);
            let seen = (state.place(counter), outage.cloned());
            state.cancel(counter, Instant::now());
            seen
        });
        // A wait that only asks lasts as long as the answer may take. And without a connection
        // nobody has been told that there is no room.
        let unanswered = self.timeout == Some(Duration::ZERO)
            || self.semaphore.driver.place().link().unconnected_since().is_some();
        let outage = outage.or_else(|| unanswered.then(|| self.no_answer()));
        NoPermit::TimedOut { place, outage }
    }

    fn time_out_replicating(&self) -> NoPermit {
        let replicated = self.semaphore.options.replicated;
        let outage = self.semaphore.driver.with(|state| state.outage(replicated).cloned());
        let unanswered = || {
            let waited = self.waited();
            StoreError::timeout(format!(
                "replicas have not acknowledged the grant within {waited:?}"
            ))
        };
        NoPermit::TimedOut { place: None, outage: Some(outage.unwrap_or_else(unanswered)) }
    }

    /// The error of a wait that the store has not answered.
    pub(crate) fn no_answer(&self) -> StoreError {
        StoreError::timeout(format!("no answer within {:?}", self.waited()))
    }
}

/// Makes the id of the permit and puts the waiter into the queue of the client.
fn enter(semaphore: &SemaphoreInner, units: u32, when_full: WhenFull) -> Result<u64, NoPermit> {
    if units == 0 {
        return Err(NoPermit::ZeroUnits);
    }
    let shared = semaphore.driver.shared();
    let client = semaphore.driver.ensure_driver().map_err(|reason| match reason {
        NoDriver::NoRuntime => NoPermit::NoRuntime,
        NoDriver::Ended => NoPermit::Closed,
    })?;
    let counter = shared.next_counter();
    let id = PermitId::new(client, counter, units, semaphore.options.lease);
    semaphore.driver.update(|state| {
        if state.is_closed() {
            return Err(NoPermit::Closed);
        }
        // An override may be higher: the store decides, unless it cannot be asked.
        let limit = semaphore.limit();
        let too_large = limit > 0 && units > limit;
        if too_large
            && state.limit_override().is_none()
            && semaphore.driver.place().link().is_down()
        {
            return Err(NoPermit::TooLarge { limit });
        }
        state.enter(id, when_full, Arc::clone(&semaphore.options));
        Ok(counter)
    })
}

#[pinned_drop]
impl PinnedDrop for Wait {
    fn drop(mut self: Pin<&mut Self>) {
        if let Stage::Queued { counter } = self.stage {
            self.semaphore.driver.update_unawaited(|state| state.cancel(counter, Instant::now()));
        }
        self.as_mut().end_waiting(WaitOutcome::Cancelled, Instant::now);
        self.project().span.end(WaitOutcome::Cancelled);
    }
}
