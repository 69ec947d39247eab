//! Rejections over HTTP, in the words that clients understand. Pure.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER,
};
use http::{Response, StatusCode};

use crate::tower::error::{Reason, Rejection};

/// Whether an event can be put behind what streams: plain server-sent events of no known length.
pub(crate) fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("text/event-stream")
        && !headers.contains_key(CONTENT_ENCODING)
        && !headers.contains_key(CONTENT_LENGTH)
}

/// The SDKs of before 2026 do not wait for longer, but come again within seconds.
const SDK_PATIENCE: Duration = Duration::from_secs(60);

/// In whose words rejections are answered over HTTP; set by
/// [`dialect`](crate::tower::ZSetSemaphoreLayer::dialect).
///
/// | why | [`Plain`](Self::Plain) | [`OpenAi`](Self::OpenAi): status, type, code | [`Anthropic`](Self::Anthropic): status, type |
/// |---|---|---|---|
/// | no room | `503` | `503`, `service_unavailable_error`, `server_is_overloaded` | `529`, `overloaded_error` |
/// | no room, with [`status`](crate::tower::ZSetSemaphoreLayer::status) `429` | `429` | `429`, `rate_limit_error`, `rate_limit_exceeded` | `429`, `rate_limit_error` |
/// | the store is away, and the like | `503` | `503`, `service_unavailable_error`, `service_unavailable` | `503`, `api_error` |
/// | heavier than the limit | `413` | `413`, `invalid_request_error`, `request_too_large` | `413`, `request_too_large` |
/// | its body broke off | `400` | `400`, `invalid_request_error`, `request_incomplete` | `400`, `invalid_request_error` |
///
/// The SDKs of both (`openai`, `anthropic`) come again by themselves when `retry-after-ms` or
/// `Retry-After` says, as `x-should-retry` allows. Beyond 60 s they are told not to: their older versions
/// would come back within seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Dialect {
    /// `{"error":"too many requests at once","limit_name":"chats",...}`. The default.
    #[default]
    Plain,
    /// `{"error":{"message":"..","type":"..","param":null,"code":".."}}`, as the API of OpenAI and all that
    /// are made after it.
    OpenAi,
    /// `{"type":"error","error":{"type":"..","message":".."}}`, as the API of Anthropic.
    Anthropic,
}

/// What stands in the way, as far as a client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    Full,
    TooLarge,
    RequestBody,
    Unavailable,
}

impl Cause {
    pub(crate) fn of(rejection: &Rejection) -> Self {
        match rejection.reason() {
            _ if rejection.is_full() => Self::Full,
            _ if rejection.is_too_large() => Self::TooLarge,
            Reason::RequestBody => Self::RequestBody,
            _ => Self::Unavailable,
        }
    }

    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Full => "too many requests at once",
            Self::TooLarge => "the request weighs more than the limit",
            Self::RequestBody => "the body of the request is not complete",
            Self::Unavailable => "the service is not available just now",
        }
    }

    pub(crate) fn may_pass(self) -> bool {
        matches!(self, Self::Full | Self::Unavailable)
    }
}

impl Dialect {
    /// What a rejected request is answered in this dialect; for
    /// [`answer_with`](crate::tower::ZSetSemaphoreLayer::answer_with), where the request decides on it.
    /// `full` is the status for want of room; by default that of the table above.
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
            let again = cause.may_pass() && time <= SDK_PATIENCE;
            let again = HeaderValue::from_static(if again { "true" } else { "false" });
            headers.insert("x-should-retry", again);
            if cause.may_pass() {
                let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
                headers.insert("retry-after-ms", HeaderValue::from(millis));
            }
        }
        response
    }

    /// The last event of a stream whose permit was lost. Empty lines go before it, since what came last
    /// may have been half an event.
    pub(crate) fn lost_event(self) -> Bytes {
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

/// As Anthropic answers when it is overloaded.
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

/// Whole seconds, not less.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_add((duration.subsec_nanos() > 0).into())
}

/// As a JSON string has it (RFC 8259, 7); names have no control characters.
fn escaped(name: &str) -> String {
    name.replace('\\', r"\\").replace('"', r#"\""#)
}
