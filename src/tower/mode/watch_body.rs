//! The mode that may end the body of a response, when its permit is lost or its reader stalls.

use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use tokio::time::Instant;

use super::{OnRequest, OnResponse, cooldown};
use crate::tower::admission::permit::RequestPermit;
use crate::tower::admission::wait_deadline::WaitDeadline;
use crate::tower::body::capped::CappedBody;
use crate::tower::body::end::EndWhen;
use crate::tower::error::Error;
use crate::tower::rejection::Rejection;
use crate::tower::sealed::Sealed;

/// Holds the permit until the body of an HTTP response ends, as [`HoldBody`](crate::tower::HoldBody) does, and ends
/// the request when its permit is lost
/// ([`end_when_lost`](crate::tower::ZSetSemaphoreLayer::end_when_lost)) or its reader stalls
/// ([`stall_timeout`](crate::tower::ZSetSemaphoreLayer::stall_timeout)).
///
/// The body must be `Send + 'static`, because a separate task drops it in these cases.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct WatchBody {
    pub(crate) end_when: EndWhen,
    /// The maximum time for which a `429` of a provider keeps the permit.
    pub(crate) max_cooldown: Option<Duration>,
}

impl Sealed for WatchBody {}

impl<B> OnRequest<http::Request<B>> for WatchBody {
    type Request = http::Request<B>;
    type Queued = http::Request<B>;
    type Info = ();

    fn wait_until(&self, request: &http::Request<B>) -> Option<Instant> {
        WaitDeadline::of(request.extensions())
    }

    fn take_in(&self, request: http::Request<B>) -> ((), http::Request<B>) {
        ((), request)
    }

    fn let_in(&self, mut request: http::Request<B>, permit: &RequestPermit) -> http::Request<B> {
        permit.insert_into(request.extensions_mut());
        request
    }

    fn ends_when_lost(&self) -> bool {
        self.end_when.lost
    }
}

impl<ReqB, B, E> OnResponse<http::Request<ReqB>, http::Response<B>, E> for WatchBody
where
    B: Body<Data: From<Bytes>> + Send + 'static,
{
    type Response = http::Response<CappedBody<B>>;
    type Error = Error<E>;

    fn hold(&self, (): &(), response: http::Response<B>, permit: RequestPermit) -> Self::Response {
        let permit = cooldown::keep_if_busy(self.max_cooldown, &response, permit);
        response.map(|body| CappedBody::new(body, permit, self.end_when))
    }

    fn reject(&self, (): &(), rejection: Rejection) -> Result<Self::Response, Self::Error> {
        Err(Error::Rejected(rejection))
    }

    fn fail(&self, error: E) -> Self::Error {
        Error::Inner(error)
    }
}
