//! Rejections answered by the layer itself.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, EXPECT, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Request, Response, StatusCode};
use http_body::Body;
use tokio::time::Instant;

use super::body::CappedBody;
use super::error::{Reason, Rejection};
use super::grpc::{self, Code};
use super::hold::{Hold, Reply, rest_if_429};
use super::pass::Pass;
use super::read_ahead::ReadAhead;
use super::sealed::Sealed;
use super::wait_until::WaitUntil;
use super::watched::Ends;

type Change = dyn Fn(&Rejection, Response<Bytes>) -> Response<Bytes> + Send + Sync;

/// Answers rejections by itself, so that the error is that of the inner service alone; made by
/// [`answer`](super::ZSetSemaphoreLayer::answer).
///
/// It holds the permit until the body has ended, as [`HoldBody`](super::HoldBody) does, and reads
/// the request body ahead while the request is queued ([`ReadAhead`]).
#[derive(Clone)]
pub struct Answer {
    pub(super) settings: Arc<AnswerSettings>,
}

#[derive(Clone)]
pub(super) struct AnswerSettings {
    pub(super) status: StatusCode,
    pub(super) change: Option<Arc<Change>>,
    pub(super) headers: bool,
    pub(super) ends: Ends,
    pub(super) rest: Option<Duration>,
    pub(super) read_ahead: u64,
}

/// What is to be known of a request when it is answered.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    grpc: bool,
}

impl Default for Answer {
    fn default() -> Self {
        let settings = AnswerSettings {
            status: StatusCode::SERVICE_UNAVAILABLE,
            change: None,
            headers: false,
            ends: Ends::default(),
            rest: None,
            read_ahead: 256 * 1024,
        };
        Self { settings: Arc::new(settings) }
    }
}

impl Answer {
    /// With what was set before it was known that rejections are answered.
    pub(super) fn with(ends: Ends, rest: Option<Duration>) -> Self {
        let mut answer = Self::default();
        let settings = Arc::make_mut(&mut answer.settings);
        (settings.ends, settings.rest) = (ends, rest);
        answer
    }
}

impl Sealed for Answer {}

impl<B: Body> Hold<Request<B>> for Answer {
    type Request = Request<ReadAhead<B>>;
    type Queued = Request<ReadAhead<B>>;
    type Asked = Asked;

    fn until(&self, request: &Request<B>) -> Option<Instant> {
        WaitUntil::of(request.extensions())
    }

    fn take_in(&self, request: Request<B>) -> (Asked, Self::Queued) {
        let asked = Asked { grpc: grpc::is_grpc(request.headers()) };
        let bound = match expects_continue(request.headers()) {
            // To read is to tell the client to go on, before it is known that the request is let in.
            true => 0,
            false => self.settings.read_ahead,
        };
        (asked, request.map(|body| ReadAhead::new(body, bound)))
    }

    fn poll_queued(&self, queued: &mut Self::Queued, cx: &mut Context<'_>) -> Poll<()> {
        queued.body_mut().poll_ahead(cx)
    }

    fn let_in(&self, mut queued: Self::Queued, pass: &Pass) -> Self::Request {
        pass.tell(queued.extensions_mut());
        queued
    }

    fn ends_when_lost(&self) -> bool {
        self.settings.ends.when_lost
    }
}

impl<ReqB, B, E> Reply<Request<ReqB>, Response<B>, E> for Answer
where
    ReqB: Body,
    B: Body<Data: From<Bytes>, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + 'static,
{
    type Response = Response<CappedBody<B>>;
    type Error = E;

    fn hold(&self, _: Asked, mut response: Response<B>, pass: Pass) -> Self::Response {
        if self.settings.headers {
            tell(&pass, response.headers_mut());
        }
        let pass = rest_if_429(self.settings.rest, &response, pass);
        response.map(|body| CappedBody::new(body, pass, self.settings.ends))
    }

    fn reject(&self, asked: Asked, rejection: Rejection) -> Result<Self::Response, E> {
        let response = if asked.grpc {
            in_grpc(&rejection)
        } else {
            let answer = in_json(&rejection, self.settings.status);
            match &self.settings.change {
                Some(change) => change(&rejection, answer),
                None => answer,
            }
        };
        Ok(response.map(CappedBody::rejection))
    }

    fn fail(&self, error: E) -> E {
        error
    }
}

/// Whether the client waits to be told until it sends the body (RFC 9110, 10.1.1).
fn expects_continue(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Says how full it is, unless a layer further in has said so of its own limit.
fn tell(pass: &Pass, headers: &mut HeaderMap) {
    let Some(handle) = pass.handle().filter(|_| pass.is_permit()) else { return };
    if headers.contains_key("x-concurrency-limit") {
        return;
    }
    let outlook = handle.semaphore.outlook();
    let mut insert = |name, value: u64| {
        headers.insert(HeaderName::from_static(name), HeaderValue::from(value));
    };
    insert("x-concurrency-limit", outlook.limit.into());
    if let Some(in_use) = outlook.in_use {
        insert("x-concurrency-in-use", in_use);
    }
    let waited = u64::try_from(pass.waited().as_millis()).unwrap_or(u64::MAX);
    insert("x-concurrency-waited-ms", waited);
}

/// Whole seconds, not less.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

fn in_json(rejection: &Rejection, status: StatusCode) -> Response<Bytes> {
    let (status, error, retry) = if rejection.is_full() {
        (status, "too many requests at once", true)
    } else if rejection.is_too_large() {
        (StatusCode::PAYLOAD_TOO_LARGE, "the request weighs more than the limit", false)
    } else if matches!(rejection.reason(), Reason::RequestBody) {
        (StatusCode::BAD_REQUEST, "the body of the request is not complete", false)
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the service is not available just now", true)
    };
    let number = |number: Option<u64>| number.map_or_else(|| "null".to_owned(), |n| n.to_string());
    let retry_after = retry.then(|| seconds(rejection.retry_after()));
    let text = format!(
        r#"{{"error":"{error}","limit_name":"{}","limit":{},"in_use":{},"place":{},"retry_after":{}}}"#,
        escaped(rejection.limit_name()),
        rejection.limit(),
        number(rejection.in_use()),
        number(rejection.place()),
        number(retry_after),
    );
    let mut response = Response::new(Bytes::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(seconds) = retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// As a JSON string has it (RFC 8259, 7); names have no control characters.
fn escaped(name: &str) -> String {
    name.replace('\\', r"\\").replace('"', r#"\""#)
}

fn in_grpc(rejection: &Rejection) -> Response<Bytes> {
    let retry = Some(rejection.retry_after());
    let name = rejection.limit_name();
    let (code, message, retry) = if rejection.is_full() {
        (Code::ResourceExhausted, format!("{name}: too many requests at once"), retry)
    } else if rejection.is_too_large() {
        (Code::InvalidArgument, format!("{name}: the request weighs more than the limit"), None)
    } else if matches!(rejection.reason(), Reason::RequestBody) {
        (Code::Cancelled, format!("{name}: the body of the request is not complete"), None)
    } else {
        (Code::Unavailable, format!("{name}: not available just now"), retry)
    };
    grpc::trailers_only(code, &message, retry).map(|()| Bytes::new())
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.settings.status)
            .field("headers", &self.settings.headers)
            .field("ends", &self.settings.ends)
            .field("rest", &self.settings.rest)
            .field("read_ahead", &self.settings.read_ahead)
            .field("changed", &self.settings.change.is_some())
            .finish_non_exhaustive()
    }
}
