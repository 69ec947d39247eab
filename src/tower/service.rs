//! The service: always ready, since what it waits for depends on the request.

use std::sync::Arc;
use std::task::{Context, Poll};

use tower_service::Service;

use super::admit::AdmissionFuture;
use super::future::ResponseFuture;
use super::hold::{HoldBody, OnRequest, OnResponse};
use super::select::{Ask, SelectSemaphore, Single};
use super::settings::Settings;

/// Lets a request through to `Inner` once it has a permit; made by
/// [`ZSetSemaphoreLayer`](super::ZSetSemaphoreLayer).
///
/// A clone shares the semaphore, and holds nothing.
///
/// # Errors
///
/// With [`HoldBody`] and [`ReleaseOnResponse`](super::ReleaseOnResponse) its error is
/// [`Error<Inner::Error>`](super::Error): no permit, or the error of the inner service. With
/// [`Answer`](super::Answer) it is `Inner::Error`.
#[derive(Debug, Clone)]
pub struct ZSetSemaphoreService<Inner, H = HoldBody, S = Single> {
    inner: Inner,
    selector: S,
    settings: Arc<Settings>,
    hold: H,
}

impl<Inner, H, S> ZSetSemaphoreService<Inner, H, S> {
    pub(super) fn new(inner: Inner, selector: S, settings: Arc<Settings>, hold: H) -> Self {
        Self { inner, selector, settings, hold }
    }

    /// The inner service.
    pub fn get_ref(&self) -> &Inner {
        &self.inner
    }

    /// The inner service, to be changed.
    pub fn get_mut(&mut self) -> &mut Inner {
        &mut self.inner
    }

    /// Takes the inner service out.
    pub fn into_inner(self) -> Inner {
        self.inner
    }
}

impl<Inner, Req, H, S> Service<Req> for ZSetSemaphoreService<Inner, H, S>
where
    Inner: Service<<H as OnRequest<Req>>::Request> + Clone,
    H: OnRequest<Req>
        + OnResponse<
            Req,
            <Inner as Service<<H as OnRequest<Req>>::Request>>::Response,
            <Inner as Service<<H as OnRequest<Req>>::Request>>::Error,
        > + Clone,
    S: SelectSemaphore<Req>,
{
    type Response = H::Response;
    type Error = H::Error;
    type Future = ResponseFuture<Inner, Req, H>;

    /// Always ready. A permit, or the readiness of the inner service, would be held by a connection
    /// that idles.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let admit = if self.selector.exempts(&request) {
            AdmissionFuture::exempt(Arc::clone(&self.settings))
        } else {
            let ask = Ask { units: None, until: self.hold.until(&request) };
            self.selector.select(&request, ask, &self.settings)
        };
        ResponseFuture::new(admit, self.inner.clone(), request, self.hold.clone())
    }
}
