//! Rejections answered by the layer itself.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{EXPECT, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body::Body;
use tokio::time::Instant;

use super::body::CappedBody;
use super::dialect::{self, Cause, Dialect};
use super::error::Rejection;
use super::grpc::{self, Code};
use super::hold::{OnRequest, OnResponse, rest_if_429};
use super::pass::Pass;
use super::read_ahead::ReadAhead;
use super::sealed::Sealed;
use super::wait_until::WaitDeadline;
use super::watched::Ends;

type Change = dyn Fn(&Rejection, &Parts, Response<Bytes>) -> Response<Bytes> + Send + Sync;

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
    /// For want of room, if not that of the dialect.
    pub(super) status: Option<StatusCode>,
    pub(super) dialect: Dialect,
    pub(super) change: Option<Arc<Change>>,
    pub(super) headers: bool,
    pub(super) ends: Ends,
    pub(super) last_event: bool,
    pub(super) rest: Option<Duration>,
    pub(super) read_ahead: u64,
}

/// What is to be known of a request when it is answered.
#[derive(Debug)]
pub struct Asked {
    grpc: bool,
    /// Kept only where answers are changed.
    head: Option<Box<Parts>>,
}

impl Default for Answer {
    fn default() -> Self {
        let settings = AnswerSettings {
            status: None,
            dialect: Dialect::Plain,
            change: None,
            headers: false,
            ends: Ends::default(),
            last_event: false,
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

impl<B: Body> OnRequest<Request<B>> for Answer {
    type Request = Request<ReadAhead<B>>;
    type Queued = Request<ReadAhead<B>>;
    type Asked = Asked;

    fn until(&self, request: &Request<B>) -> Option<Instant> {
        WaitDeadline::of(request.extensions())
    }

    fn take_in(&self, request: Request<B>) -> (Asked, Self::Queued) {
        let changed = self.settings.change.is_some();
        let asked = Asked {
            grpc: grpc::is_grpc(request.headers()),
            head: changed.then(|| Box::new(head_of(&request))),
        };
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

impl<ReqB, B, E> OnResponse<Request<ReqB>, Response<B>, E> for Answer
where
    ReqB: Body,
    B: Body<Data: From<Bytes>, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + 'static,
{
    type Response = Response<CappedBody<B>>;
    type Error = E;

    fn hold(&self, _: &Asked, mut response: Response<B>, pass: Pass) -> Self::Response {
        if self.settings.headers {
            tell(&pass, response.headers_mut());
        }
        let pass = rest_if_429(self.settings.rest, &response, pass);
        let says = self.settings.last_event && dialect::is_event_stream(response.headers());
        response.map(|body| {
            let body = CappedBody::new(body, pass, self.settings.ends);
            if says { body.with_last_event(self.settings.dialect) } else { body }
        })
    }

    fn reject(&self, asked: &Asked, rejection: Rejection) -> Result<Self::Response, E> {
        let response = if asked.grpc {
            in_grpc(&rejection)
        } else {
            let answer = self.settings.dialect.answer(&rejection, self.settings.status);
            match (&self.settings.change, &asked.head) {
                (Some(change), Some(head)) => change(&rejection, head, answer),
                _ => answer,
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
    let mut expected = headers.get_all(EXPECT).iter().map(HeaderValue::as_bytes);
    expected.any(|value| value.eq_ignore_ascii_case(b"100-continue"))
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

fn in_grpc(rejection: &Rejection) -> Response<Bytes> {
    let cause = Cause::of(rejection);
    let code = match cause {
        Cause::Full => Code::ResourceExhausted,
        Cause::TooLarge => Code::InvalidArgument,
        Cause::RequestBody => Code::Cancelled,
        Cause::Unavailable => Code::Unavailable,
    };
    let text = if cause == Cause::Unavailable { "not available just now" } else { cause.text() };
    let message = format!("{}: {text}", rejection.limit_name());
    let retry = cause.may_pass().then(|| rejection.retry_after());
    grpc::trailers_only(code, &message, retry).map(|()| Bytes::new())
}

/// The head of a request, kept for those who change its answer.
fn head_of<B>(request: &Request<B>) -> Parts {
    let (mut head, ()) = Request::new(()).into_parts();
    head.method = request.method().clone();
    head.uri = request.uri().clone();
    head.version = request.version();
    head.headers = request.headers().clone();
    head.extensions = request.extensions().clone();
    for (name, value) in &mut head.headers {
        let name = name.as_str();
        // What it displays goes to logs.
        if ["authorization", "proxy-authorization", "cookie"].contains(&name)
            || name.ends_with("api-key")
        {
            value.set_sensitive(true);
        }
    }
    head
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("dialect", &self.settings.dialect)
            .field("status", &self.settings.status)
            .field("headers", &self.settings.headers)
            .field("ends", &self.settings.ends)
            .field("rest", &self.settings.rest)
            .field("read_ahead", &self.settings.read_ahead)
            .field("changed", &self.settings.change.is_some())
            .finish_non_exhaustive()
    }
}
