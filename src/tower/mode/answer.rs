//! The mode that answers rejections itself, over HTTP or gRPC.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body::Body;
use tokio::time::Instant;

use super::dialect::Dialect;
use super::request_info::{self, RequestInfo};
use super::{OnRequest, OnResponse, cooldown, grpc, limit_headers, sse};
use crate::tower::admission::permit::RequestPermit;
use crate::tower::admission::wait_deadline::WaitDeadline;
use crate::tower::body::capped::CappedBody;
use crate::tower::body::end::EndWhen;
use crate::tower::body::read_ahead::ReadAhead;
use crate::tower::rejection::Rejection;
use crate::tower::sealed::Sealed;

type Change = dyn Fn(&Rejection, &Parts, Response<Bytes>) -> Response<Bytes> + Send + Sync;

/// Answers rejections itself. So the only error is that of the inner service. Made by
/// [`answer`](crate::tower::ZSetSemaphoreLayer::answer).
///
/// It holds the permit until the body has ended, as [`HoldBody`](crate::tower::HoldBody) does. While a
/// request is queued, it reads the request body ahead ([`ReadAhead`]).
#[derive(Clone)]
pub struct Answer {
    pub(crate) settings: Arc<AnswerSettings>,
}

#[derive(Clone)]
pub(crate) struct AnswerSettings {
    /// The status when the limit was reached, instead of that of the dialect.
    pub(crate) status: Option<StatusCode>,
    pub(crate) dialect: Dialect,
    pub(crate) change: Option<Arc<Change>>,
    pub(crate) limit_headers: bool,
    pub(crate) end_when: EndWhen,
    pub(crate) sse_error_event: bool,
    pub(crate) max_cooldown: Option<Duration>,
    /// In bytes.
    pub(crate) read_ahead: u64,
}

impl Default for Answer {
    fn default() -> Self {
        let settings = AnswerSettings {
            status: None,
            dialect: Dialect::Plain,
            change: None,
            limit_headers: false,
            end_when: EndWhen::default(),
            sse_error_event: false,
            max_cooldown: None,
            read_ahead: 256 * 1024,
        };
        Self { settings: Arc::new(settings) }
    }
}

impl Answer {
    /// Makes the mode, with the settings made before the call of `answer`.
    pub(crate) fn new(end_when: EndWhen, max_cooldown: Option<Duration>) -> Self {
        let mut answer = Self::default();
        let settings = Arc::make_mut(&mut answer.settings);
        (settings.end_when, settings.max_cooldown) = (end_when, max_cooldown);
        answer
    }
}

impl Sealed for Answer {}

impl<B: Body> OnRequest<Request<B>> for Answer {
    type Request = Request<ReadAhead<B>>;
    type Queued = Request<ReadAhead<B>>;
    type Info = RequestInfo;

    fn wait_until(&self, request: &Request<B>) -> Option<Instant> {
        WaitDeadline::of(request.extensions())
    }

    fn take_in(&self, request: Request<B>) -> (RequestInfo, Self::Queued) {
        let info = RequestInfo::new(&request, self.settings.change.is_some());
        let bound = match request_info::expects_continue(request.headers()) {
            // Reading would tell the client to send its body before the request is let in.
            true => 0,
            false => self.settings.read_ahead,
        };
        (info, request.map(|body| ReadAhead::new(body, bound)))
    }

    fn poll_queued(&self, queued: &mut Self::Queued, cx: &mut Context<'_>) -> Poll<()> {
        queued.body_mut().poll_ahead(cx)
    }

    fn let_in(&self, mut queued: Self::Queued, permit: &RequestPermit) -> Self::Request {
        permit.insert_into(queued.extensions_mut());
        queued
    }

    fn ends_when_lost(&self) -> bool {
        self.settings.end_when.lost
    }
}

impl<ReqB, B, E> OnResponse<Request<ReqB>, Response<B>, E> for Answer
where
    ReqB: Body,
    B: Body<Data: From<Bytes>, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + 'static,
{
    type Response = Response<CappedBody<B>>;
    type Error = E;

    fn hold(
        &self,
        _: &RequestInfo,
        mut response: Response<B>,
        permit: RequestPermit,
    ) -> Self::Response {
        let AnswerSettings { dialect, end_when, max_cooldown, .. } = *self.settings;
        if self.settings.limit_headers {
            limit_headers::add(&permit, response.headers_mut());
        }
        let permit = cooldown::keep_if_busy(max_cooldown, &response, permit);
        let tells = self.settings.sse_error_event && sse::takes_events(response.headers());
        response.map(|body| {
            let body = CappedBody::new(body, permit, end_when);
            if tells { body.with_last_event(dialect.lost_event()) } else { body }
        })
    }

    fn reject(&self, info: &RequestInfo, rejection: Rejection) -> Result<Self::Response, E> {
        let response = if info.is_grpc {
            grpc::answer(&rejection)
        } else {
            let answer = self.settings.dialect.answer(&rejection, self.settings.status);
            match (&self.settings.change, &info.head) {
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

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("dialect", &self.settings.dialect)
            .field("status", &self.settings.status)
            .field("limit_headers", &self.settings.limit_headers)
            .field("end_when", &self.settings.end_when)
            .field("max_cooldown", &self.settings.max_cooldown)
            .field("read_ahead", &self.settings.read_ahead)
            .field("changed", &self.settings.change.is_some())
            .finish_non_exhaustive()
    }
}
