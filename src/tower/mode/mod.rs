//! The modes of the layer: until when a permit is held, and what a rejection becomes.
//!
//! A mode sees a request on its way in ([`OnRequest`]), and its response, rejection or error on its way
//! out ([`OnResponse`]).

pub(crate) mod answer;
mod cause;
mod cooldown;
pub(crate) mod dialect;
mod grpc;
pub(crate) mod hold_body;
mod limit_headers;
pub(crate) mod release_on_response;
mod request_info;
#[cfg(feature = "reqwest")]
mod reqwest;
mod sse;
pub(crate) mod watch_body;

#[cfg(test)]
mod tests;

use std::task::{Context, Poll};

use tokio::time::Instant;

use super::admission::permit::RequestPermit;
use super::rejection::Rejection;
use super::sealed::Sealed;

/// What a mode does with a request on its way in. Sealed: see
/// [`HoldBody`](super::HoldBody), [`WatchBody`](super::WatchBody),
/// [`ReleaseOnResponse`](super::ReleaseOnResponse) and [`Answer`](super::Answer).
pub trait OnRequest<Req>: Sealed {
    /// The request that the inner service is called with.
    type Request;
    /// The request while it is queued.
    #[doc(hidden)]
    type Queued;
    /// What is kept of the request until it is answered.
    #[doc(hidden)]
    type Info;

    /// Returns the deadline that outer layers have set for the wait.
    #[doc(hidden)]
    fn wait_until(&self, _: &Req) -> Option<Instant> {
        None
    }

    /// Takes in a request, before it waits.
    #[doc(hidden)]
    fn take_in(&self, request: Req) -> (Self::Info, Self::Queued);

    /// Polls a request that waits. Ready once its body has failed, so that the wait is pointless.
    #[doc(hidden)]
    fn poll_queued(&self, _: &mut Self::Queued, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    /// Makes the request that the inner service is called with.
    #[doc(hidden)]
    fn let_in(&self, queued: Self::Queued, permit: &RequestPermit) -> Self::Request;

    /// Returns whether the loss of its permit ends a request.
    #[doc(hidden)]
    fn ends_when_lost(&self) -> bool {
        false
    }
}

/// What a mode does with a response, a rejection or an error on its way out. Sealed, as [`OnRequest`] is.
///
/// `Res` and `E` are the response and the error of the inner service.
pub trait OnResponse<Req, Res, E>: OnRequest<Req> {
    /// The response of the layer.
    type Response;
    /// The error of the layer.
    type Error;

    /// Passes on a response, and holds the permit for as long as the mode requires.
    #[doc(hidden)]
    fn hold(&self, info: &Self::Info, response: Res, permit: RequestPermit) -> Self::Response;

    /// Answers a rejected request, or fails it.
    #[doc(hidden)]
    fn reject(
        &self,
        info: &Self::Info,
        rejection: Rejection,
    ) -> Result<Self::Response, Self::Error>;

    /// Passes on an error of the inner service.
    #[doc(hidden)]
    fn fail(&self, error: E) -> Self::Error;
}
