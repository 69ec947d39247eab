//! Exempts requests: they pass as if the layer were not there.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use super::admission::future::AdmissionFuture;
use super::admission::request::PermitRequest;
use super::sealed::Sealed;
use super::select::{SelectSemaphore, Single};
use super::settings::Settings;

/// Decides which requests pass a layer without a permit; see [`exempt`](super::ZSetSemaphoreLayer::exempt).
///
/// A closure `Fn(&Req) -> bool` implements it; name the type of its argument.
pub trait Exemption<Req> {
    /// Returns whether `request` passes.
    fn exempts(&self, request: &Req) -> bool;
}

impl<Req, F: Fn(&Req) -> bool> Exemption<Req> for F {
    fn exempts(&self, request: &Req) -> bool {
        self(request)
    }
}

/// Exempts HTTP requests with one of these paths, such as those of health checks. Over gRPC the path of a
/// health check is `/grpc.health.v1.Health/Check`.
///
/// Paths are compared literally, without the query. A router may strip the prefix that it has matched, as
/// axum's `nest` does. Then the rest of the path is compared.
#[derive(Debug, Clone)]
pub struct Paths {
    paths: HashSet<String>,
}

impl Paths {
    /// Exempts these paths, each with its leading slash.
    pub fn new(paths: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { paths: paths.into_iter().map(Into::into).collect() }
    }
}

impl<B> Exemption<http::Request<B>> for Paths {
    fn exempts(&self, request: &http::Request<B>) -> bool {
        self.paths.contains(request.uri().path())
    }
}

/// Selects the semaphore that `S` selects, and lets exempt requests pass without a permit; made by
/// [`exempt`](super::ZSetSemaphoreLayer::exempt).
pub struct Exempt<E, S = Single> {
    selector: S,
    exemption: Arc<E>,
}

impl<E, S> Exempt<E, S> {
    pub(crate) fn new(selector: S, exemption: E) -> Self {
        Self { selector, exemption: Arc::new(exemption) }
    }
}

impl<E, S: Sealed> Sealed for Exempt<E, S> {}

impl<Req, E: Exemption<Req>, S: SelectSemaphore<Req>> SelectSemaphore<Req> for Exempt<E, S> {
    fn exempts(&self, request: &Req) -> bool {
        self.exemption.exempts(request) || self.selector.exempts(request)
    }

    fn select(
        &self,
        request: &Req,
        wanted: PermitRequest,
        settings: &Arc<Settings>,
    ) -> AdmissionFuture {
        self.selector.select(request, wanted, settings)
    }
}

// By hand: a derived one would require that the exemption is `Clone`.
impl<E, S: Clone> Clone for Exempt<E, S> {
    fn clone(&self) -> Self {
        Self { selector: self.selector.clone(), exemption: Arc::clone(&self.exemption) }
    }
}

impl<E, S: fmt::Debug> fmt::Debug for Exempt<E, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exempt").field("selector", &self.selector).finish_non_exhaustive()
    }
}
