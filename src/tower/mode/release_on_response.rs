//! The mode that holds the permit until the inner service has responded.

use super::{OnRequest, OnResponse};
use crate::tower::admission::permit::RequestPermit;
use crate::tower::error::Error;
use crate::tower::rejection::Rejection;
use crate::tower::sealed::Sealed;

/// Holds the permit until the inner service has responded. The response may have any type and is not
/// changed.
///
/// A body that streams after that is not capped; see
/// [`release_on_response`](crate::tower::ZSetSemaphoreLayer::release_on_response).
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ReleaseOnResponse {
    pub(crate) end_when_lost: bool,
}

impl Sealed for ReleaseOnResponse {}

impl<Req> OnRequest<Req> for ReleaseOnResponse {
    type Request = Req;
    type Queued = Req;
    type Info = ();

    fn take_in(&self, request: Req) -> ((), Req) {
        ((), request)
    }

    fn let_in(&self, request: Req, _: &RequestPermit) -> Req {
        request
    }

    fn ends_when_lost(&self) -> bool {
        self.end_when_lost
    }
}

impl<Req, Res, E> OnResponse<Req, Res, E> for ReleaseOnResponse {
    type Response = Res;
    type Error = Error<E>;

    fn hold(&self, (): &(), response: Res, permit: RequestPermit) -> Self::Response {
        drop(permit);
        response
    }

    fn reject(&self, (): &(), rejection: Rejection) -> Result<Self::Response, Self::Error> {
        Err(Error::Rejected(rejection))
    }

    fn fail(&self, error: E) -> Self::Error {
        Error::Inner(error)
    }
}
