//! The future that admits one request: it finds the limiter, then waits for the permit.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project::pin_project;
use tokio::time::Instant;

use super::limiter::Limiter;
use super::permit::RequestPermit;
use super::request::PermitRequest;
use super::wait::{AdmissionResult, PermitWait, PollTimes};
use crate::store::BoxFuture;
use crate::tower::metrics::OutcomeGuard;
use crate::tower::rejection::{Reason, Rejection};
use crate::tower::settings::Settings;

/// The look-up of the semaphore of a request and its limit.
type LimiterLookup = BoxFuture<'static, Result<Arc<Limiter>, Rejection>>;

/// Admits a request: waits for its permit, or for the outage policy to let it through.
///
/// # Cancel safety
///
/// The same as [`Acquire`](crate::Acquire): dropping it at any point leaves no permit and no queue entry.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct AdmissionFuture {
    settings: Arc<Settings>,
    request: PermitRequest,
    outcome: OutcomeGuard,
    #[pin]
    stage: Stage,
}

#[expect(clippy::large_enum_variant, reason = "a box would be an allocation per request")]
#[pin_project(project = StageProj)]
enum Stage {
    /// The request passes as if the layer were not there.
    Exempt,
    /// The request weighs nothing, so it needs no permit.
    Weightless,
    LookingUp(LimiterLookup),
    Waiting(#[pin] PermitWait),
}

impl AdmissionFuture {
    fn new(stage: Stage, request: PermitRequest, settings: Arc<Settings>) -> Self {
        let outcome = OutcomeGuard::new(&settings.meter);
        Self { settings, request, outcome, stage }
    }

    /// Admits a request without a permit, and without counting it.
    pub(crate) fn exempt(settings: Arc<Settings>) -> Self {
        let mut admission = Self::new(Stage::Exempt, PermitRequest::default(), settings);
        admission.outcome.disarm();
        admission
    }

    /// Admits a request whose limiter is known.
    pub(crate) fn by(
        limiter: Arc<Limiter>,
        request: PermitRequest,
        settings: Arc<Settings>,
    ) -> Self {
        let stage = match request.units() {
            0 => Stage::Weightless,
            _ => Stage::Waiting(PermitWait::new(limiter, request, Duration::ZERO, &settings)),
        };
        Self::new(stage, request, settings)
    }

    /// Admits a request whose limiter has to be looked up.
    pub(crate) fn looking_up(
        lookup: LimiterLookup,
        request: PermitRequest,
        settings: Arc<Settings>,
    ) -> Self {
        let stage = match request.units() {
            0 => Stage::Weightless,
            _ => Stage::LookingUp(lookup),
        };
        Self::new(stage, request, settings)
    }

    /// Ends the wait and rejects the request. Returns `None` while its limiter is not known.
    pub(crate) fn give_up(self: Pin<&mut Self>, reason: Reason) -> Option<Rejection> {
        let this = self.project();
        let Stage::Waiting(wait) = &*this.stage else { return None };
        let rejection = wait.limiter().reject(reason, this.request.units(), None);
        this.outcome.record(this.settings.outcome(rejection.reason()));
        Some(rejection.with_jitter(this.settings.min_retry_after))
    }
}

impl Future for AdmissionFuture {
    type Output = Result<RequestPermit, Rejection>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let now = Instant::now();
        let times = PollTimes { started: this.outcome.start(now), now };
        let settings = &**this.settings;
        let end = ready!(this.stage.poll(*this.request, times, settings, cx));
        this.outcome.record(match &end {
            Ok(permit) => permit.outcome(),
            Err(rejection) => settings.outcome(rejection.reason()),
        });
        let min_retry_after = settings.min_retry_after;
        Poll::Ready(match end {
            Ok(permit) => Ok(permit.with_min_retry_after(min_retry_after)),
            Err(rejection) => Err(rejection.with_jitter(min_retry_after)),
        })
    }
}

impl Stage {
    fn poll(
        mut self: Pin<&mut Self>,
        request: PermitRequest,
        times: PollTimes,
        settings: &Settings,
        cx: &mut Context<'_>,
    ) -> Poll<AdmissionResult> {
        let permit = loop {
            match self.as_mut().project() {
                StageProj::Exempt => return Poll::Ready(Ok(RequestPermit::weightless())),
                StageProj::Weightless => break RequestPermit::weightless(),
                StageProj::LookingUp(lookup) => {
                    let limiter = ready!(lookup.as_mut().poll(cx))?;
                    let wait = PermitWait::new(limiter, request, times.waited(), settings);
                    self.set(Self::Waiting(wait));
                }
                StageProj::Waiting(wait) => break ready!(wait.poll(times, settings, cx))?,
            }
        };
        let inner = settings.inner_deadline(request.wait_until, times.started);
        Poll::Ready(Ok(permit.with_inner_deadline(inner)))
    }
}

// By hand: futures need not be `Debug`.
impl fmt::Debug for AdmissionFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdmissionFuture")
            .field("units", &self.request.units())
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}
