//! The wait of one request: for its permit, or for what the policy says while the store is away.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project::pin_project;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use super::error::{Reason, Rejection};
use super::handle::Handle;
use super::metrics::{Outcome, Tally};
use super::outage::OutagePolicy;
use super::pass::Pass;
use super::select::Ask;
use super::settings::Settings;
use crate::store::BoxFuture;
use crate::{Acquire, AcquireError, StoreError};

/// Waits for what a request is let through with.
///
/// # Cancel safety
///
/// As that of [`Acquire`]: dropping it at any point leaves no permit and no queue entry.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct AdmissionFuture {
    settings: Arc<Settings>,
    units: u32,
    /// Until when outer layers let it wait.
    until: Option<Instant>,
    tally: Tally,
    #[pin]
    stage: Stage,
}

#[expect(clippy::large_enum_variant, reason = "a box would be an allocation per request")]
#[pin_project(project = StageProj)]
enum Stage {
    /// None of ours: let through as if the layer were not there.
    Exempt,
    /// Weighs nothing: let through as it is.
    Weightless,
    /// Which semaphore it is, and its limit, are being found out.
    Opening(BoxFuture<'static, Result<Arc<Handle>, Rejection>>),
    Waiting(#[pin] Waiting),
}

#[pin_project]
struct Waiting {
    handle: Arc<Handle>,
    /// None once its wait ended, since the store refused or did not answer in time.
    #[pin]
    acquire: Option<Acquire>,
    /// What it ended with then.
    refused: Option<StoreError>,
    /// Until when the store may take to come back.
    patience: Option<Pin<Box<Sleep>>>,
    /// Lets this one ask the store though that is away, to find out whether it still is.
    probing_until: Option<Instant>,
    /// The wait for the cap of this process, while the store is away.
    local: Option<BoxFuture<'static, Option<OwnedSemaphorePermit>>>,
}

impl AdmissionFuture {
    fn new(stage: Stage, ask: Ask, settings: Arc<Settings>) -> Self {
        let tally = Tally::new(&settings.metrics);
        Self { settings, units: ask.units(), until: ask.until, tally, stage }
    }

    /// For a request that passes without a permit.
    pub(super) fn exempt(settings: Arc<Settings>) -> Self {
        let mut admit = Self::new(Stage::Exempt, Ask::default(), settings);
        admit.tally.leave_out();
        admit
    }

    /// For a semaphore that is known.
    pub(super) fn to(handle: Arc<Handle>, ask: Ask, settings: Arc<Settings>) -> Self {
        let stage = match ask.units() {
            0 => Stage::Weightless,
            units => {
                let patience = settings.patience(ask.until, Duration::ZERO);
                Stage::Waiting(Waiting::new(handle, units, patience, &settings))
            }
        };
        Self::new(stage, ask, settings)
    }

    /// For a semaphore that is yet to be found.
    pub(super) fn opening(
        opening: BoxFuture<'static, Result<Arc<Handle>, Rejection>>,
        ask: Ask,
        settings: Arc<Settings>,
    ) -> Self {
        let stage = if ask.units() == 0 { Stage::Weightless } else { Stage::Opening(opening) };
        Self::new(stage, ask, settings)
    }

    /// How a wait that is ended from outside is told of; `None` while it is not known for what.
    pub(super) fn give_up(self: Pin<&mut Self>, reason: Reason) -> Option<Rejection> {
        let this = self.project();
        let Stage::Waiting(Waiting { handle, .. }) = &*this.stage else { return None };
        let rejection = handle.reject(reason, *this.units, None);
        this.tally.settle(Outcome::Rejected(rejection.reason().label()));
        Some(rejection.told(this.settings.retry_floor))
    }
}

impl Future for AdmissionFuture {
    type Output = Result<Pass, Rejection>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let now = Instant::now();
        let started = this.tally.start(now);
        let end = loop {
            match this.stage.as_mut().project() {
                StageProj::Exempt => break Ok(Pass::weightless()),
                StageProj::Weightless => {
                    let common = this.settings.common_deadline(*this.until, started);
                    break Ok(Pass::weightless().wait_until(common));
                }
                StageProj::Opening(opening) => {
                    let handle = match ready!(opening.as_mut().poll(cx)) {
                        Ok(handle) => handle,
                        Err(rejection) => break Err(rejection),
                    };
                    let patience = this.settings.patience(*this.until, started.elapsed());
                    let waiting = Waiting::new(handle, *this.units, patience, this.settings);
                    this.stage.set(Stage::Waiting(waiting));
                }
                StageProj::Waiting(waiting) => {
                    let (asked, settings) = ((*this.units, *this.until), &**this.settings);
                    let end = ready!(waiting.poll(asked, started, now, settings, cx));
                    let common = settings.common_deadline(*this.until, started);
                    break end.map(|pass| pass.wait_until(common));
                }
            }
        };
        this.tally.settle(match &end {
            Ok(pass) => pass.outcome(),
            Err(rejection) => Outcome::Rejected(this.settings.label(rejection.reason())),
        });
        let floor = this.settings.retry_floor;
        Poll::Ready(match end {
            Ok(pass) => Ok(pass.with_floor(floor)),
            Err(rejection) => Err(rejection.told(floor)),
        })
    }
}

impl Waiting {
    fn new(
        handle: Arc<Handle>,
        units: u32,
        patience: Option<Duration>,
        settings: &Settings,
    ) -> Self {
        let mut acquire = handle.semaphore.acquire(units);
        if let Some(patience) = patience {
            acquire = acquire.timeout(patience);
        }
        if let Some(most) = settings.max_queue {
            acquire = acquire.max_queue(most);
        }
        Self {
            handle,
            acquire: Some(acquire),
            refused: None,
            patience: None,
            probing_until: None,
            local: None,
        }
    }

    fn poll(
        self: Pin<&mut Self>,
        (units, until): (u32, Option<Instant>),
        started: Instant,
        now: Instant,
        settings: &Settings,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Pass, Rejection>> {
        let mut this = self.project();
        let (handle, waited) = (&*this.handle, now - started);
        if let Some(acquire) = this.acquire.as_mut().as_pin_mut()
            && let Poll::Ready(end) = acquire.poll(cx)
        {
            match end {
                Ok(permit) => {
                    settings.log.back(handle);
                    let pass = Pass::permit(permit, Arc::clone(handle), waited, now);
                    return Poll::Ready(Ok(pass));
                }
                Err(
                    AcquireError::Refused(error)
                    | AcquireError::Timeout { outage: Some(error), .. },
                ) if settings.outage != OutagePolicy::FailClosed => {
                    *this.refused = Some(error);
                    this.acquire.set(None);
                }
                Err(error) => {
                    let ahead = match &error {
                        AcquireError::Timeout { place, .. } => *place,
                        AcquireError::QueueFull { waiting, .. } => Some(*waiting),
                        _ => None,
                    };
                    return Poll::Ready(Err(handle.reject(Reason::Acquire(error), units, ahead)));
                }
            }
        }

        let away = handle.semaphore.outlook().away;
        if this.acquire.is_some() {
            let Some(away) = &away else {
                // Back to the queue, where the place was kept.
                (*this.local, *this.patience, *this.probing_until) = (None, None, None);
                return Poll::Pending;
            };
            let first_look = this.patience.is_none() && this.local.is_none();
            // A probe has to live until its turn may be answered.
            let probe = settings.outage_after.max(handle.semaphore.call_timeout());
            if first_look && away.connected && handle.semaphore.may_probe(probe) {
                *this.probing_until = now.checked_add(probe);
            }
            let until =
                this.probing_until.or_else(|| away.since.checked_add(settings.outage_after));
            // Beyond the end of time: every outage is ridden out.
            let Some(until) = until else { return Poll::Pending };
            if now < until {
                let patience = this.patience.get_or_insert_with(|| Box::pin(sleep_until(until)));
                if patience.deadline() != until {
                    patience.as_mut().reset(until);
                }
                ready!(patience.as_mut().poll(cx));
            }
        }

        let (since, error) = away.map_or((Duration::ZERO, None), |away| {
            (now.saturating_duration_since(away.since), away.error)
        });
        let error = this.refused.clone().or(error);
        settings.log.away(handle, settings.outage, since, error.as_ref());
        match settings.outage {
            OutagePolicy::FailClosed | OutagePolicy::LocalCap(0) => Poll::Ready(Err(
                handle.reject(Reason::Unavailable { down_for: since, error }, units, None)
            )),
            OutagePolicy::FailOpen => Poll::Ready(Ok(Pass::open(Arc::clone(handle), waited))),
            OutagePolicy::LocalCap(cap) => {
                let local = this.local.get_or_insert_with(|| {
                    let (cap, here) = handle.local(cap);
                    let here = Arc::clone(here).acquire_many_owned(units.min(*cap));
                    let patience = settings.patience(until, waited);
                    let deadline = patience.and_then(|patience| now.checked_add(patience));
                    Box::pin(async move {
                        match deadline {
                            Some(deadline) => timeout_at(deadline, here).await.ok()?.ok(),
                            None => here.await.ok(),
                        }
                    })
                });
                Poll::Ready(match ready!(local.as_mut().poll(cx)) {
                    Some(permit) => Ok(Pass::local(permit, Arc::clone(handle), waited)),
                    None => Err(handle.reject(
                        Reason::Unavailable { down_for: since, error },
                        units,
                        None,
                    )),
                })
            }
        }
    }
}

// By hand: futures need not be `Debug`.
impl fmt::Debug for AdmissionFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdmissionFuture")
            .field("units", &self.units)
            .field("tally", &self.tally)
            .finish_non_exhaustive()
    }
}
