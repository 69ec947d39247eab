//! The wait of one request for its permit.
//!
//! # Implementation
//!
//! The request has a place in the queue of the store, and a state that says what it knows of an outage. Each
//! poll looks at the queue first. Then [`decide`] says what follows from the outage:
//!
//! | state | what happens | next state |
//! |---|---|---|
//! | any | the queue grants or rejects | the wait ends |
//! | any | the store ends the wait in the queue | the request has left the queue, and the policy decides at once |
//! | any | the store answers again | `None`; the place in the queue was kept |
//! | `None` | the store is unavailable, but not yet for `outage_after` | `Grace`; the request may become a probe |
//! | `None`, `Grace` | the policy rejects or lets through | the wait ends |
//! | `None`, `Grace` | the policy names a local cap | `LocalCap` |
//! | `LocalCap` | the cap has room, or the deadline has passed | the wait ends |

use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

use super::limiter::Limiter;
use super::local_cap::LocalCapWait;
use super::permit::RequestPermit;
use super::request::PermitRequest;
use crate::last_known::Outage;
use crate::tower::outage::decision::{Decision, StoreState, Verdict, decide, verdict};
use crate::tower::outage::policy::OutagePolicy;
use crate::tower::rejection::{Reason, Rejection};
use crate::tower::settings::Settings;
use crate::{Acquire, AcquireError, StoreError};

/// How the wait ends.
pub(super) type AdmissionResult = Result<RequestPermit, Rejection>;

/// When a request began to wait, and when it is polled.
#[derive(Debug, Clone, Copy)]
pub(super) struct PollTimes {
    pub(super) started: Instant,
    pub(super) now: Instant,
}

impl PollTimes {
    pub(super) fn waited(self) -> Duration {
        self.now - self.started
    }
}

/// The wait of a request whose limiter is known.
#[pin_project(project = PermitWaitProj)]
pub(super) struct PermitWait {
    limiter: Arc<Limiter>,
    request: PermitRequest,
    #[pin]
    queue: Queue,
    outage: OutageWait,
    /// Until when this request still asks the unavailable store. Such a request is a probe: it finds out
    /// whether the store is back.
    probing_until: Option<Instant>,
}

/// The place in the queue of the store.
#[pin_project(project = QueueProj)]
enum Queue {
    Waiting(#[pin] Acquire),
    /// The store refused, or gave no answer within the timeout.
    Left(StoreError),
}

/// What the request waits for in addition to its place in the queue.
enum OutageWait {
    /// The store answers, as far as this request knows.
    None,
    /// The outage is too short for the policy to decide.
    Grace(Pin<Box<Sleep>>),
    /// The policy has decided that the request waits for the local cap.
    LocalCap(LocalCapWait),
}

impl PermitWait {
    /// Begins the wait of a request that has waited for `waited` already.
    pub(super) fn new(
        limiter: Arc<Limiter>,
        request: PermitRequest,
        waited: Duration,
        settings: &Settings,
    ) -> Self {
        let mut acquire = limiter.semaphore.acquire(request.units());
        if let Some(timeout) = settings.time_left(request.wait_until, waited) {
            acquire = acquire.timeout(timeout);
        }
        if let Some(most) = settings.max_queue {
            acquire = acquire.max_queue(most);
        }
        let queue = Queue::Waiting(acquire);
        Self { limiter, request, queue, outage: OutageWait::None, probing_until: None }
    }

    pub(super) fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    pub(super) fn poll(
        self: Pin<&mut Self>,
        times: PollTimes,
        settings: &Settings,
        cx: &mut Context<'_>,
    ) -> Poll<AdmissionResult> {
        let mut this = self.project();
        match this.poll_queue(times, settings, cx) {
            Poll::Ready(end) => Poll::Ready(end),
            Poll::Pending => this.poll_outage(times, settings, cx),
        }
    }
}

impl PermitWaitProj<'_> {
    fn poll_queue(
        &mut self,
        times: PollTimes,
        settings: &Settings,
        cx: &mut Context<'_>,
    ) -> Poll<AdmissionResult> {
        let QueueProj::Waiting(acquire) = self.queue.as_mut().project() else {
            return Poll::Pending;
        };
        match ready!(acquire.poll(cx)) {
            Ok(permit) => {
                settings.outage_log.ended(&self.limiter.limit_name);
                let limiter = Arc::clone(self.limiter);
                Poll::Ready(Ok(RequestPermit::granted(permit, limiter, times.waited(), times.now)))
            }
            Err(
                AcquireError::Refused(error) | AcquireError::Timeout { outage: Some(error), .. },
            ) if settings.outage_policy != OutagePolicy::FailClosed => {
                self.queue.set(Queue::Left(error));
                Poll::Pending
            }
            Err(error) => {
                if is_of_a_store_that_answers(&error) {
                    settings.outage_log.ended(&self.limiter.limit_name);
                }
                let place = place_of(&error);
                Poll::Ready(Err(self.reject(Reason::Acquire(error), place)))
            }
        }
    }

    fn poll_outage(
        &mut self,
        times: PollTimes,
        settings: &Settings,
        cx: &mut Context<'_>,
    ) -> Poll<AdmissionResult> {
        let outage = self.limiter.semaphore.last_known().outage;
        let store = self.store_state(outage.as_ref(), times.now, settings);
        if store == StoreState::Answers {
            (*self.outage, *self.probing_until) = (OutageWait::None, None);
            return Poll::Pending;
        }
        // Once the policy has named a cap, the request waits for it until the store answers.
        if !matches!(self.outage, OutageWait::LocalCap(_)) {
            let verdict = ready!(self.poll_verdict(store, times.now, settings, cx));
            let (down_for, error) = self.outage_so_far(outage.as_ref(), times.now);
            let policy = settings.outage_policy;
            settings.outage_log.began(&self.limiter.limit_name, policy, down_for, error.as_ref());
            match verdict {
                Verdict::Reject => {
                    let reason = Reason::Unavailable { down_for, error };
                    return Poll::Ready(Err(self.reject(reason, None)));
                }
                Verdict::LetThrough => {
                    let limiter = Arc::clone(self.limiter);
                    return Poll::Ready(Ok(RequestPermit::uncounted(limiter, times.waited())));
                }
                Verdict::LocalCap(cap) => self.begin_local_cap(cap, times, settings),
            }
        }
        self.poll_local_cap(outage.as_ref(), times, cx)
    }

    /// Returns what the request knows of the store. The first look at an outage may make it a probe.
    fn store_state(
        &mut self,
        outage: Option<&Outage>,
        now: Instant,
        settings: &Settings,
    ) -> StoreState {
        if matches!(*self.queue, Queue::Left(_)) {
            return StoreState::LeftQueue;
        }
        let Some(outage) = outage else { return StoreState::Answers };
        if matches!(self.outage, OutageWait::None) && outage.connected {
            let semaphore = &self.limiter.semaphore;
            // A probe has to live until the store has had time to answer it.
            let lives = settings.outage_after.max(semaphore.call_timeout());
            if semaphore.may_probe(lives) {
                *self.probing_until = now.checked_add(lives);
            }
        }
        StoreState::Unavailable { since: outage.since, probing_until: *self.probing_until }
    }

    /// Waits until the policy decides. It stays pending while there is no outage.
    fn poll_verdict(
        &mut self,
        store: StoreState,
        now: Instant,
        settings: &Settings,
        cx: &mut Context<'_>,
    ) -> Poll<Verdict> {
        match decide(settings.outage_policy, store, now, settings.outage_after) {
            Decision::Queue => Poll::Pending,
            Decision::QueueUntil(until) => {
                ready!(self.outage.poll_grace(until, cx));
                Poll::Ready(verdict(settings.outage_policy))
            }
            Decision::ByPolicy(verdict) => Poll::Ready(verdict),
        }
    }

    fn begin_local_cap(&mut self, cap: NonZeroU32, times: PollTimes, settings: &Settings) {
        let left = settings.time_left(self.request.wait_until, times.waited());
        let deadline = left.and_then(|left| times.now.checked_add(left));
        let wait = self.limiter.local_cap().wait(cap, self.request.units(), deadline);
        *self.outage = OutageWait::LocalCap(wait);
    }

    fn poll_local_cap(
        &mut self,
        outage: Option<&Outage>,
        times: PollTimes,
        cx: &mut Context<'_>,
    ) -> Poll<AdmissionResult> {
        let OutageWait::LocalCap(wait) = self.outage else { return Poll::Pending };
        let Some(units) = ready!(wait.as_mut().poll(cx)) else {
            let (down_for, error) = self.outage_so_far(outage, times.now);
            return Poll::Ready(Err(self.reject(Reason::Unavailable { down_for, error }, None)));
        };
        let limiter = Arc::clone(self.limiter);
        Poll::Ready(Ok(RequestPermit::local_cap(units, limiter, times.waited())))
    }

    /// Returns how long the outage has lasted, and what the latest call to the store ended with.
    fn outage_so_far(
        &self,
        outage: Option<&Outage>,
        now: Instant,
    ) -> (Duration, Option<StoreError>) {
        let down_for = outage.map(|outage| now.saturating_duration_since(outage.since));
        let error = match &*self.queue {
            Queue::Left(error) => Some(error.clone()),
            Queue::Waiting(_) => outage.and_then(|outage| outage.error.clone()),
        };
        (down_for.unwrap_or_default(), error)
    }

    fn reject(&self, reason: Reason, place: Option<u64>) -> Rejection {
        self.limiter.reject(reason, self.request.units(), place)
    }
}

impl OutageWait {
    /// Waits until the outage counts, at `until`.
    fn poll_grace(&mut self, until: Instant, cx: &mut Context<'_>) -> Poll<()> {
        if let Self::Grace(timer) = self {
            if timer.deadline() != until {
                timer.as_mut().reset(until);
            }
            return timer.as_mut().poll(cx);
        }
        let mut timer = Box::pin(sleep_until(until));
        let polled = timer.as_mut().poll(cx);
        *self = Self::Grace(timer);
        polled
    }
}

/// Returns whether the store has told that there is no room, or that the waiter was kicked: it answers.
fn is_of_a_store_that_answers(error: &AcquireError) -> bool {
    use AcquireError::{Kicked, QueueFull, Timeout};
    matches!(error, Timeout { outage: None, place: Some(_), .. } | QueueFull { .. } | Kicked)
}

/// Returns the number of requests ahead in the queue when the wait ended, if the store said it.
fn place_of(error: &AcquireError) -> Option<u64> {
    match error {
        AcquireError::Timeout { place, .. } => *place,
        AcquireError::QueueFull { waiting, .. } => Some(*waiting),
        _ => None,
    }
}
