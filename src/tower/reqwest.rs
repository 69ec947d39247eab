//! [`reqwest::Client`] as an inner service: its requests and responses are types of its own.

use reqwest::{Body, Request, Response, ResponseBuilderExt};

use super::body::{CappedBody, PermitBody};
use super::error::{Error, Rejection};
use super::hold::{HoldBody, OnRequest, OnResponse, WatchBody, rest_if_429};
use super::pass::Pass;

impl OnRequest<Request> for HoldBody {
    type Request = Request;
    type Queued = Request;
    type Asked = ();

    fn take_in(&self, request: Request) -> ((), Request) {
        ((), request)
    }

    fn let_in(&self, request: Request, _: &Pass) -> Request {
        request
    }
}

impl<E> OnResponse<Request, Response, E> for HoldBody {
    type Response = Response;
    type Error = Error<E>;

    fn hold(&self, (): &(), response: Response, pass: Pass) -> Response {
        map(response, |response| {
            let pass = rest_if_429(self.rest, &response, pass);
            response.map(|body| Body::wrap(PermitBody::new(body, pass)))
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
    type Asked = ();

    fn take_in(&self, request: Request) -> ((), Request) {
        ((), request)
    }

    fn let_in(&self, request: Request, _: &Pass) -> Request {
        request
    }

    fn ends_when_lost(&self) -> bool {
        self.ends.when_lost
    }
}

impl<E> OnResponse<Request, Response, E> for WatchBody {
    type Response = Response;
    type Error = Error<E>;

    fn hold(&self, (): &(), response: Response, pass: Pass) -> Response {
        map(response, |response| {
            let pass = rest_if_429(self.rest, &response, pass);
            response.map(|body| Body::wrap(CappedBody::new(body, pass, self.ends)))
        })
    }

    fn reject(&self, (): &(), rejection: Rejection) -> Result<Response, Error<E>> {
        Err(Error::Rejected(rejection))
    }

    fn fail(&self, error: E) -> Error<E> {
        Error::Inner(error)
    }
}

/// Changes a response as one of `http`.
fn map(
    response: Response,
    change: impl FnOnce(http::Response<Body>) -> http::Response<Body>,
) -> Response {
    let url = response.url().clone();
    let mut response = change(response.into());
    // A response of `http` has no place for a URL but this one, which only a builder can fill.
    if let Ok(of_url) = http::Response::builder().url(url).body(()) {
        response.extensions_mut().extend(of_url.into_parts().0.extensions);
    }
    response.into()
}
