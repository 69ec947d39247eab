//! The modes for [`reqwest::Client`], whose requests and responses are types of its own.

use reqwest::{Body, Request, Response, ResponseBuilderExt};

use super::hold_body::HoldBody;
use super::watch_body::WatchBody;
use super::{OnRequest, OnResponse, cooldown};
use crate::tower::admission::permit::RequestPermit;
use crate::tower::body::capped::CappedBody;
use crate::tower::body::permit::PermitBody;
use crate::tower::error::Error;
use crate::tower::rejection::Rejection;

impl OnRequest<Request> for HoldBody {
    type Request = Request;
    type Queued = Request;
    type Info = ();

    fn take_in(&self, request: Request) -> ((), Request) {
        ((), request)
    }

    fn let_in(&self, request: Request, _: &RequestPermit) -> Request {
        request
    }
}

impl<E> OnResponse<Request, Response, E> for HoldBody {
    type Response = Response;
    type Error = Error<E>;

    fn hold(&self, (): &(), response: Response, permit: RequestPermit) -> Response {
        map(response, |response| {
            let permit = cooldown::keep_if_busy(self.max_cooldown, &response, permit);
            response.map(|body| Body::wrap(PermitBody::new(body, permit)))
        })
    }

    fn reject(&self, (): &(), rejection: Rejection) -> Result<Response, Error<E>> {
        Err(Error::Rejected(rejection))
    }

    fn fail(&self, error: E) -> Error<E> {
        Error::Inner(error)
    }
}

impl OnRequest<Request> for WatchBody {
    type Request = Request;
    type Queued = Request;
    type Info = ();

    fn take_in(&self, request: Request) -> ((), Request) {
        ((), request)
    }

    fn let_in(&self, request: Request, _: &RequestPermit) -> Request {
        request
    }

    fn ends_when_lost(&self) -> bool {
        self.end_when.lost
    }
}

impl<E> OnResponse<Request, Response, E> for WatchBody {
    type Response = Response;
    type Error = Error<E>;

    fn hold(&self, (): &(), response: Response, permit: RequestPermit) -> Response {
        map(response, |response| {
            let permit = cooldown::keep_if_busy(self.max_cooldown, &response, permit);
            response.map(|body| Body::wrap(CappedBody::new(body, permit, self.end_when)))
        })
    }

    fn reject(&self, (): &(), rejection: Rejection) -> Result<Response, Error<E>> {
        Err(Error::Rejected(rejection))
    }

    fn fail(&self, error: E) -> Error<E> {
        Error::Inner(error)
    }
}

/// Changes a response as an [`http::Response`].
fn map(
    response: Response,
    change: impl FnOnce(http::Response<Body>) -> http::Response<Body>,
) -> Response {
    let url = response.url().clone();
    let mut response = change(response.into());
    // An `http::Response` keeps a URL only in this extension, which only a builder can fill.
    if let Ok(of_url) = http::Response::builder().url(url).body(()) {
        response.extensions_mut().extend(of_url.into_parts().0.extensions);
    }
    response.into()
}
