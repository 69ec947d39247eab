//! Answers rejections over HTTP, in the error formats that SDKs understand. Pure.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};

use super::cause::Cause;
use crate::tower::rejection::Rejection;

/// The longest wait that SDKs from before 2026 obey. If they are told a longer one, they retry within
/// seconds.
const SDK_MAX_WAIT: Duration = Duration::from_secs(60);

/// The error format in which rejections are answered over HTTP; set by
/// [`dialect`](crate::tower::ZSetSemaphoreLayer::dialect).
///
/// | cause | [`Plain`](Self::Plain) | [`OpenAi`](Self::OpenAi): status, type, code | [`Anthropic`](Self::Anthropic): status, type |
/// |---|---|---|---|
/// | limit reached | `503` | `503`, `service_unavailable_error`, `server_is_overloaded` | `529`, `overloaded_error` |
/// | limit reached, with [`status`](crate::tower::ZSetSemaphoreLayer::status) `429` | `429` | `429`, `rate_limit_error`, `rate_limit_exceeded` | `429`, `rate_limit_error` |
/// | store unavailable, and the like | `503` | `503`, `service_unavailable_error`, `service_unavailable` | `503`, `api_error` |
/// | weighs more than the limit | `413` | `413`, `invalid_request_error`, `request_too_large` | `413`, `request_too_large` |
/// | request body broke off | `400` | `400`, `invalid_request_error`, `request_incomplete` | `400`, `invalid_request_error` |
///
/// The SDKs `openai` and `anthropic` retry by themselves after the time in `retry-after-ms` or
/// `Retry-After`, if `x-should-retry` allows it. The header forbids a retry if the time is more than 60 s,
/// since older versions of the SDKs would then retry within seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Dialect {
    /// `{"error":"too many requests at once","limit_name":"chats",...}`. The default.
    #[default]
    Plain,
    /// `{"error":{"message":"..","type":"..","param":null,"code":".."}}`, as the API of OpenAI and compatible
    /// ones answer.
    OpenAi,
    /// `{"type":"error","error":{"type":"..","message":".."}}`, as the API of Anthropic answers.
    Anthropic,
}

impl Dialect {
    /// Makes the answer to a rejected request. Call it in
    /// [`answer_with`](crate::tower::ZSetSemaphoreLayer::answer_with) if the dialect depends on the request.
    /// `full` is the status if the limit was reached; the default is that of the table above.
    pub fn answer(self, rejection: &Rejection, full: Option<StatusCode>) -> Response<Bytes> {
        let cause = Cause::of(rejection);
        let status = self.status(cause, full);
        let text = match self {
            Self::Plain => plain(rejection, cause),
            Self::OpenAi => open_ai(cause, status, &message(rejection, cause)),
            Self::Anthropic => anthropic(cause, status, &message(rejection, cause)),
        };
        let mut response = Response::new(Bytes::from(text));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let time = rejection.retry_after();
        if cause.may_pass() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds(time)));
        }
        if self != Self::Plain {
            let retry = cause.may_pass() && time <= SDK_MAX_WAIT;
            let retry = HeaderValue::from_static(if retry { "true" } else { "false" });
            headers.insert("x-should-retry", retry);
            if cause.may_pass() {
                let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
                headers.insert("retry-after-ms", HeaderValue::from(millis));
            }
        }
        response
    }

    /// Returns the last event of a stream whose permit was lost. It begins with empty lines, since the
    /// stream may have ended in the middle of an event.
    pub(super) fn lost_event(self) -> Bytes {
        Bytes::from_static(match self {
            Self::Plain => b"\n\nevent: error\ndata: {\"error\":\"the permit of this stream was lost\"}\n\n",
            Self::OpenAi => b"\n\nevent: error\ndata: {\"error\":{\"message\":\"the permit of this stream was lost\",\"type\":\"server_error\",\"param\":null,\"code\":\"permit_lost\"}}\n\n",
            Self::Anthropic => b"\n\nevent: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"the permit of this stream was lost\"}}\n\n",
        })
    }

    fn status(self, cause: Cause, full: Option<StatusCode>) -> StatusCode {
        match cause {
            Cause::Full => full.unwrap_or_else(|| match self {
                Self::Plain | Self::OpenAi => StatusCode::SERVICE_UNAVAILABLE,
                Self::Anthropic => overloaded(),
            }),
            Cause::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Cause::RequestBody => StatusCode::BAD_REQUEST,
            Cause::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// The status that Anthropic sends when it is overloaded.
fn overloaded() -> StatusCode {
    StatusCode::from_u16(529).unwrap_or(StatusCode::SERVICE_UNAVAILABLE)
}

fn message(rejection: &Rejection, cause: Cause) -> String {
    let name = escaped(rejection.limit_name());
    let text = cause.text();
    if cause.may_pass() {
        let seconds = seconds(rejection.retry_after());
        format!("{name}: {text}; try again in {seconds} s")
    } else {
        format!("{name}: {text}")
    }
}

fn plain(rejection: &Rejection, cause: Cause) -> String {
    let number = |number: Option<u64>| number.map_or_else(|| "null".to_owned(), |n| n.to_string());
    format!(
        r#"{{"error":"{}","limit_name":"{}","limit":{},"in_use":{},"place":{},"retry_after":{}}}"#,
        cause.text(),
        escaped(rejection.limit_name()),
        rejection.limit(),
        number(rejection.in_use()),
        number(rejection.place()),
        number(cause.may_pass().then(|| seconds(rejection.retry_after()))),
    )
}

fn open_ai(cause: Cause, status: StatusCode, message: &str) -> String {
    let (kind, code) = match cause {
        Cause::Full if status == StatusCode::TOO_MANY_REQUESTS => {
            ("rate_limit_error", "rate_limit_exceeded")
        }
        Cause::Full => ("service_unavailable_error", "server_is_overloaded"),
        Cause::Unavailable => ("service_unavailable_error", "service_unavailable"),
        Cause::TooLarge => ("invalid_request_error", "request_too_large"),
        Cause::RequestBody => ("invalid_request_error", "request_incomplete"),
    };
    format!(r#"{{"error":{{"message":"{message}","type":"{kind}","param":null,"code":"{code}"}}}}"#)
}

fn anthropic(cause: Cause, status: StatusCode, message: &str) -> String {
    let kind = match cause {
        Cause::Full if status == StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        Cause::Full => "overloaded_error",
        Cause::Unavailable => "api_error",
        Cause::TooLarge => "request_too_large",
        Cause::RequestBody => "invalid_request_error",
    };
    format!(r#"{{"type":"error","error":{{"type":"{kind}","message":"{message}"}}}}"#)
}

/// Rounds up to whole seconds.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_add((duration.subsec_nanos() > 0).into())
}

/// Escapes a name for a JSON string (RFC 8259, 7). Names have no control characters.
fn escaped(name: &str) -> String {
    name.replace('\\', r"\\").replace('"', r#"\""#)
}
