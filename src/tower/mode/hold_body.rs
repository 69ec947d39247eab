//! The mode that holds the permit until the body of the response ends.

use std::time::Duration;

use http_body::Body;
use tokio::time::Instant;

use super::{OnRequest, OnResponse, cooldown};
use crate::tower::admission::permit::RequestPermit;
use crate::tower::admission::wait_deadline::WaitDeadline;
use crate::tower::body::permit::PermitBody;
use crate::tower::error::Error;
use crate::tower::rejection::Rejection;
use crate::tower::sealed::Sealed;

/// Holds the permit until the body of an HTTP response ends: by its last frame, its error, or its drop.
/// The default.
///
/// A response of `B` becomes one of [`PermitBody<B>`]. A body that is at its end from the start, such as
/// that of a `204` or of a response to `HEAD`, holds nothing.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct HoldBody {
    /// The maximum time for which a `429` of a provider keeps the permit.
    pub(crate) max_cooldown: Option<Duration>,
}

impl Sealed for HoldBody {}

impl<B> OnRequest<http::Request<B>> for HoldBody {
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
}

impl<ReqB, B: Body, E> OnResponse<http::Request<ReqB>, http::Response<B>, E> for HoldBody {
    type Response = http::Response<PermitBody<B>>;
    type Error = Error<E>;

    fn hold(&self, (): &(), response: http::Response<B>, permit: RequestPermit) -> Self::Response {
        let permit = cooldown::keep_if_busy(self.max_cooldown, &response, permit);
        response.map(|body| PermitBody::new(body, permit))
    }

    fn reject(&self, (): &(), rejection: Rejection) -> Result<Self::Response, Self::Error> {
        Err(Error::Rejected(rejection))
    }

    fn fail(&self, error: E) -> Self::Error {
        Error::Inner(error)
    }
}
