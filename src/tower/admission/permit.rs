//! The permit of a request, for as long as the layer holds it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::admitted::{Admission, Admitted, Counted, Units};
use super::limiter::Limiter;
use super::wait_deadline::WaitDeadline;
use crate::metrics::RequestOutcome;
use crate::tower::rejection::{Reason, Rejection};
use crate::{LostReason, Permit, PermitHandle};

/// Resolves when a permit is lost. It is `Sync`, because some bodies have to be.
pub(crate) type UntilLost = Pin<Box<dyn Future<Output = LostReason> + Send + Sync>>;

/// The units with which a request was admitted. Dropping it releases them, unless the handler took them
/// over.
#[clippy::has_significant_drop]
pub struct RequestPermit {
    /// `None` for a request that weighs nothing.
    admission: Option<Admission>,
    limiter: Option<Arc<Limiter>>,
    /// The deadline for waits in inner layers; `None` if this layer sets none.
    inner_deadline: Option<Instant>,
    min_retry_after: Duration,
}

impl RequestPermit {
    /// Makes one for a `permit` that the store granted at `since`.
    pub(crate) fn granted(
        permit: Permit,
        limiter: Arc<Limiter>,
        waited: Duration,
        since: Instant,
    ) -> Self {
        let counted = Counted::Cluster(permit.handle());
        let timed = limiter.hold_times().begin(since, permit.units());
        let units = Units::Permit { permit, limiter: Arc::clone(&limiter), timed };
        Self::new(counted, units, limiter, waited)
    }

    /// Makes one for `units` of the local cap.
    pub(super) fn local_cap(
        units: OwnedSemaphorePermit,
        limiter: Arc<Limiter>,
        waited: Duration,
    ) -> Self {
        let units = Units::Local { _permit: units, _limiter: Arc::clone(&limiter) };
        Self::new(Counted::Local, units, limiter, waited)
    }

    /// Makes one for a request that the outage policy let through and nobody counts.
    pub(super) fn uncounted(limiter: Arc<Limiter>, waited: Duration) -> Self {
        Self::new(Counted::No, Units::None, limiter, waited)
    }

    fn new(counted: Counted, units: Units, limiter: Arc<Limiter>, waited: Duration) -> Self {
        let admission = Some(Admission::new(&limiter, counted, units, waited));
        Self { admission, limiter: Some(limiter), ..Self::weightless() }
    }

    /// Makes one for a request that needs no permit.
    pub(crate) fn weightless() -> Self {
        Self {
            admission: None,
            limiter: None,
            inner_deadline: None,
            min_retry_after: Duration::ZERO,
        }
    }

    /// Sets the deadline for waits in inner layers.
    pub(super) fn with_inner_deadline(mut self, deadline: Option<Instant>) -> Self {
        self.inner_deadline = deadline;
        self
    }

    /// Sets the minimum `Retry-After` of the rejection that follows if the permit is lost.
    pub(super) fn with_min_retry_after(mut self, min: Duration) -> Self {
        self.min_retry_after = min;
        self
    }

    pub(crate) fn handle(&self) -> Option<PermitHandle> {
        self.admission.as_ref()?.permit().cloned()
    }

    /// Resolves when the permit is lost, even if a handler took it over; `None` without a permit.
    pub(crate) fn until_lost(&self) -> Option<UntilLost> {
        let handle = self.handle()?;
        Some(Box::pin(async move { handle.lost().await }))
    }

    /// Returns the reason why the permit was lost; `None` if it is still held.
    pub(crate) fn lost_reason(&self) -> Option<LostReason> {
        self.admission.as_ref()?.permit()?.lost_reason()
    }

    pub(crate) fn limiter(&self) -> Option<&Arc<Limiter>> {
        self.limiter.as_ref()
    }

    /// Returns whether the store granted the permit.
    pub(crate) fn is_granted(&self) -> bool {
        matches!(self.outcome(), RequestOutcome::Permit)
    }

    pub(crate) fn waited(&self) -> Duration {
        self.admission.as_ref().map_or(Duration::ZERO, Admission::waited)
    }

    pub(super) fn outcome(&self) -> RequestOutcome {
        match self.admission.as_ref().map(Admission::counted) {
            Some(Counted::Cluster(_)) => RequestOutcome::Permit,
            Some(Counted::Local) => RequestOutcome::Local,
            Some(Counted::No) => RequestOutcome::Uncounted,
            None => RequestOutcome::Weightless,
        }
    }

    /// Makes the rejection of a request whose permit was lost while the inner service ran.
    pub(crate) fn reject_lost(&self, reason: LostReason) -> Option<Rejection> {
        let units = self.handle().map_or(1, |handle| handle.units());
        let rejection = self.limiter()?.reject(Reason::Lost(reason), units, None);
        Some(rejection.with_jitter(self.min_retry_after))
    }

    /// Adds the admission to the extensions of the request, where the handler and inner layers find it. The
    /// admissions of outer layers come before it.
    pub(crate) fn insert_into(&self, extensions: &mut http::Extensions) {
        if let Some(deadline) = self.inner_deadline {
            extensions.insert(WaitDeadline::at(deadline));
        }
        let admitted = Admitted::behind(extensions.get(), self.admission.as_ref());
        extensions.insert(admitted);
    }
}

impl Drop for RequestPermit {
    fn drop(&mut self) {
        // The extensions of a request may outlive the response. They keep the slot, but not its units.
        drop(self.admission.as_ref().and_then(Admission::take));
    }
}

impl fmt::Debug for RequestPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.admission {
            Some(admission) => admission.counted().fmt(f),
            None => f.write_str("Weightless"),
        }
    }
}
