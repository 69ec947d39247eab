//! The service. It is always ready, since the wait depends on the request.

use std::sync::Arc;
use std::task::{Context, Poll};

use tower_service::Service;

use super::admission::future::AdmissionFuture;
use super::admission::request::PermitRequest;
use super::future::ResponseFuture;
use super::mode::hold_body::HoldBody;
use super::mode::{OnRequest, OnResponse};
use super::select::{SelectSemaphore, Single};
use super::settings::Settings;

/// A service that calls `Inner` once the request has a permit; made by
/// [`ZSetSemaphoreLayer`](super::ZSetSemaphoreLayer).
///
/// Clones share the semaphore. A service holds no permit itself.
///
/// # Errors
///
/// The error is [`Error<Inner::Error>`](super::Error): a rejection, or the error of the inner service. With
/// [`Answer`](super::Answer) it is `Inner::Error`, since rejections are answered.
#[derive(Debug, Clone)]
pub struct ZSetSemaphoreService<Inner, M = HoldBody, S = Single> {
    inner: Inner,
    selector: S,
    settings: Arc<Settings>,
    mode: M,
}

impl<Inner, M, S> ZSetSemaphoreService<Inner, M, S> {
    pub(crate) fn new(inner: Inner, selector: S, settings: Arc<Settings>, mode: M) -> Self {
        Self { inner, selector, settings, mode }
    }

    /// Returns the inner service.
    pub fn get_ref(&self) -> &Inner {
        &self.inner
    }

    /// Returns the inner service by a mutable reference.
    pub fn get_mut(&mut self) -> &mut Inner {
        &mut self.inner
    }

    /// Unwraps the inner service.
    pub fn into_inner(self) -> Inner {
        self.inner
    }
}

impl<Inner, Req, M, S> Service<Req> for ZSetSemaphoreService<Inner, M, S>
where
    Inner: Service<<M as OnRequest<Req>>::Request> + Clone,
    M: OnRequest<Req>
        + OnResponse<
            Req,
            <Inner as Service<<M as OnRequest<Req>>::Request>>::Response,
            <Inner as Service<<M as OnRequest<Req>>::Request>>::Error,
        > + Clone,
    S: SelectSemaphore<Req>,
{
    type Response = M::Response;
    type Error = M::Error;
    type Future = ResponseFuture<Inner, Req, M>;

    /// Always returns ready, and takes nothing. Otherwise an idle connection would hold a permit, or reserve
    /// the inner service.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let admission = if self.selector.exempts(&request) {
            AdmissionFuture::exempt(Arc::clone(&self.settings))
        } else {
            let wanted = PermitRequest::new(self.mode.wait_until(&request));
            self.selector.select(&request, wanted, &self.settings)
        };
        ResponseFuture::new(admission, self.inner.clone(), request, self.mode.clone())
    }
}
