//! How long a permit is held, which decides what response and error come out of the layer.

use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body::Body;
use tokio::time::{Instant, timeout};

use super::body::{CappedBody, PermitBody};
use super::error::{Error, Rejection};
use super::pass::Pass;
use super::rest::rest_time;
use super::sealed::Sealed;
use super::wait_until::WaitDeadline;
use super::watched::Ends;
use crate::LostReason;

/// What becomes of a request on its way in. Sealed: see [`HoldBody`], [`ReleaseOnResponse`] and
/// [`Answer`](super::Answer).
pub trait OnRequest<Req>: Sealed {
    /// What the inner service is called with.
    type Request;
    /// The request while it is queued.
    #[doc(hidden)]
    type Queued;
    /// What is to be known of the request when it is answered.
    #[doc(hidden)]
    type Asked;

    /// Until when outer layers let the request wait.
    #[doc(hidden)]
    fn until(&self, _: &Req) -> Option<Instant> {
        None
    }

    #[doc(hidden)]
    fn take_in(&self, request: Req) -> (Self::Asked, Self::Queued);

    /// While the request waits. Ready once there is nothing to wait for any more, since the request
    /// is broken.
    #[doc(hidden)]
    fn poll_queued(&self, _: &mut Self::Queued, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    #[doc(hidden)]
    fn let_in(&self, queued: Self::Queued, pass: &Pass) -> Self::Request;

    /// Whether the loss of its permit ends a request.
    #[doc(hidden)]
    fn ends_when_lost(&self) -> bool {
        false
    }
}

/// What becomes of a response, or of a failure, on its way out. Sealed, as [`OnRequest`] is.
///
/// `Res` and `E` are the response and the error of the inner service.
pub trait OnResponse<Req, Res, E>: OnRequest<Req> {
    /// What the layer answers.
    type Response;
    /// How the layer fails.
    type Error;

    /// Keeps the permit for as long as the response needs it.
    #[doc(hidden)]
    fn hold(&self, asked: &Self::Asked, response: Res, pass: Pass) -> Self::Response;

    /// Answers a request that was not let through or was ended, or fails it.
    #[doc(hidden)]
    fn reject(
        &self,
        asked: &Self::Asked,
        rejection: Rejection,
    ) -> Result<Self::Response, Self::Error>;

    /// Passes on how the inner service failed.
    #[doc(hidden)]
    fn fail(&self, error: E) -> Self::Error;
}

/// The rejection of a request whose permit was lost while the inner service ran.
pub(super) fn lost(pass: &Pass, reason: LostReason) -> Option<Rejection> {
    pass.lost(reason)
}

/// Holds the permit until the body of an HTTP response ends: its last frame, its error, or its drop.
/// The default.
///
/// A response of `B` becomes one of [`PermitBody<B>`]. A body that is at its end from the start, as
/// that of a `204` or of an answer to `HEAD`, holds nothing.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct HoldBody {
    /// For how long at most the answer of a provider that is too busy keeps the permit.
    pub(super) rest: Option<Duration>,
}

impl Sealed for HoldBody {}

impl<B> OnRequest<http::Request<B>> for HoldBody {
    type Request = http::Request<B>;
    type Queued = http::Request<B>;
    type Asked = ();

    fn until(&self, request: &http::Request<B>) -> Option<Instant> {
        WaitDeadline::of(request.extensions())
    }

    fn take_in(&self, request: http::Request<B>) -> ((), http::Request<B>) {
        ((), request)
    }

    fn let_in(&self, mut request: http::Request<B>, pass: &Pass) -> http::Request<B> {
        pass.tell(request.extensions_mut());
        request
    }
}

impl<ReqB, B: Body, E> OnResponse<http::Request<ReqB>, http::Response<B>, E> for HoldBody {
    type Response = http::Response<PermitBody<B>>;
    type Error = Error<E>;

    fn hold(&self, (): &(), response: http::Response<B>, pass: Pass) -> Self::Response {
        let pass = rest_if_429(self.rest, &response, pass);
        response.map(|body| PermitBody::new(body, pass))
    }

    fn reject(&self, (): &(), rejection: Rejection) -> Result<Self::Response, Self::Error> {
        Err(Error::Rejected(rejection))
    }

    fn fail(&self, error: E) -> Self::Error {
        Error::Inner(error)
    }
}

/// What is left to hold the response by: the permit of a provider that is too busy rests, where that is
/// asked for.
pub(super) fn rest_if_429<B>(
    longest: Option<Duration>,
    response: &http::Response<B>,
    pass: Pass,
) -> Pass {
    let time = || rest_time(response.status(), response.headers(), SystemTime::now());
    match longest.and_then(|longest| Some(time()?.min(longest))) {
        Some(time) => {
            rest(pass, time);
            Pass::weightless()
        }
        None => pass,
    }
}

/// Keeps the permit for a while, in which nobody else gets its units.
fn rest(pass: Pass, time: Duration) {
    let Some(watch) = pass.watch() else { return };
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(async move {
            let _pass = pass;
            let _ = timeout(time, watch.lost()).await;
        });
    }
}

/// As [`HoldBody`], but more than its reader can end a request: the loss of its permit
/// ([`end_when_lost`](super::ZSetSemaphoreLayer::end_when_lost)), or that its reader stalls
/// ([`stall_timeout`](super::ZSetSemaphoreLayer::stall_timeout)).
///
/// A body that is ended so is dropped by a task beside it, so it must be `Send + 'static`.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct WatchBody {
    pub(super) ends: Ends,
    /// For how long at most a `429` from the inner service keeps the permit.
    pub(super) rest: Option<Duration>,
}

impl Sealed for WatchBody {}

impl<B> OnRequest<http::Request<B>> for WatchBody {
    type Request = http::Request<B>;
    type Queued = http::Request<B>;
    type Asked = ();

    fn until(&self, request: &http::Request<B>) -> Option<Instant> {
        WaitDeadline::of(request.extensions())
    }

    fn take_in(&self, request: http::Request<B>) -> ((), http::Request<B>) {
        ((), request)
    }

    fn let_in(&self, mut request: http::Request<B>, pass: &Pass) -> http::Request<B> {
        pass.tell(request.extensions_mut());
        request
    }

    fn ends_when_lost(&self) -> bool {
        self.ends.when_lost
    }
}

impl<ReqB, B, E> OnResponse<http::Request<ReqB>, http::Response<B>, E> for WatchBody
where
    B: Body<Data: From<Bytes>> + Send + 'static,
{
    type Response = http::Response<CappedBody<B>>;
    type Error = Error<E>;

    fn hold(&self, (): &(), response: http::Response<B>, pass: Pass) -> Self::Response {
        let pass = rest_if_429(self.rest, &response, pass);
        response.map(|body| CappedBody::new(body, pass, self.ends))
    }

    fn reject(&self, (): &(), rejection: Rejection) -> Result<Self::Response, Self::Error> {
        Err(Error::Rejected(rejection))
    }

    fn fail(&self, error: E) -> Self::Error {
        Error::Inner(error)
    }
}

/// Holds the permit until the inner service has answered; leaves the response, of any type, alone.
///
/// What streams after the head is not capped; see
/// [`release_on_response`](super::ZSetSemaphoreLayer::release_on_response).
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ReleaseOnResponse {
    pub(super) end_when_lost: bool,
}

impl Sealed for ReleaseOnResponse {}

impl<Req> OnRequest<Req> for ReleaseOnResponse {
    type Request = Req;
    type Queued = Req;
    type Asked = ();

    fn take_in(&self, request: Req) -> ((), Req) {
        ((), request)
    }

    fn let_in(&self, request: Req, _: &Pass) -> Req {
        request
    }

    fn ends_when_lost(&self) -> bool {
        self.end_when_lost
    }
}

impl<Req, Res, E> OnResponse<Req, Res, E> for ReleaseOnResponse {
    type Response = Res;
    type Error = Error<E>;

    fn hold(&self, (): &(), response: Res, pass: Pass) -> Self::Response {
        drop(pass);
        response
    }

    fn reject(&self, (): &(), rejection: Rejection) -> Result<Self::Response, Self::Error> {
        Err(Error::Rejected(rejection))
    }

    fn fail(&self, error: E) -> Self::Error {
        Error::Inner(error)
    }
}
