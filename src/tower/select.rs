//! Selects the semaphore of a request, and weighs the request.

use std::fmt;
use std::sync::Arc;

use super::admission::future::AdmissionFuture;
use super::admission::limiter::Limiter;
use super::admission::request::PermitRequest;
use super::sealed::Sealed;
use super::settings::Settings;
use crate::ZSetSemaphore;

/// Selects the semaphore of a request. Sealed: see [`Single`], [`Keyed`](super::Keyed),
/// [`Weighted`] and [`Exempt`](super::Exempt).
pub trait SelectSemaphore<Req>: Sealed {
    /// Returns whether the request passes as if the layer were not there.
    #[doc(hidden)]
    fn exempts(&self, _: &Req) -> bool {
        false
    }

    /// Makes the future that waits for the permit.
    #[doc(hidden)]
    fn select(
        &self,
        request: &Req,
        wanted: PermitRequest,
        settings: &Arc<Settings>,
    ) -> AdmissionFuture;
}

/// Selects one semaphore for all requests. The default.
#[derive(Debug, Clone)]
pub struct Single {
    limiter: Arc<Limiter>,
}

impl Single {
    pub(crate) fn new(semaphore: ZSetSemaphore) -> Self {
        let limit_name = semaphore.clone_name();
        Self { limiter: Limiter::new(semaphore, limit_name, Arc::default()) }
    }
}

impl Sealed for Single {}

impl<Req> SelectSemaphore<Req> for Single {
    fn select(&self, _: &Req, wanted: PermitRequest, settings: &Arc<Settings>) -> AdmissionFuture {
        AdmissionFuture::by(Arc::clone(&self.limiter), wanted, Arc::clone(settings))
    }
}

/// Selects the semaphore that `S` selects, and takes as many units as a closure returns; made by
/// [`ZSetSemaphoreLayer::weight`](super::ZSetSemaphoreLayer::weight).
pub struct Weighted<F, S = Single> {
    selector: S,
    weigh: Arc<F>,
}

impl<F, S> Weighted<F, S> {
    pub(crate) fn new(selector: S, weigh: F) -> Self {
        Self { selector, weigh: Arc::new(weigh) }
    }
}

impl<F, S: Sealed> Sealed for Weighted<F, S> {}

impl<Req, F, S> SelectSemaphore<Req> for Weighted<F, S>
where
    F: Fn(&Req) -> u32,
    S: SelectSemaphore<Req>,
{
    fn exempts(&self, request: &Req) -> bool {
        self.selector.exempts(request)
    }

    fn select(
        &self,
        request: &Req,
        wanted: PermitRequest,
        settings: &Arc<Settings>,
    ) -> AdmissionFuture {
        let wanted = wanted.or_weigh(|| (self.weigh)(request));
        self.selector.select(request, wanted, settings)
    }
}

// By hand: a derived one would require that the closure is `Clone`.
impl<F, S: Clone> Clone for Weighted<F, S> {
    fn clone(&self) -> Self {
        Self { selector: self.selector.clone(), weigh: Arc::clone(&self.weigh) }
    }
}

impl<F, S: fmt::Debug> fmt::Debug for Weighted<F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Weighted").field("selector", &self.selector).finish_non_exhaustive()
    }
}
