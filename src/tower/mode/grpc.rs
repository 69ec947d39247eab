//! Answers rejections over gRPC. Pure.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};

use super::cause::Cause;
use crate::tower::rejection::Rejection;

/// The status codes of gRPC that a rejection can have; see `grpc/doc/statuscodes.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    Cancelled = 1,
    InvalidArgument = 3,
    ResourceExhausted = 8,
    Unavailable = 14,
}

/// Answers a rejected request: with a status, and when to retry if that may help.
pub(super) fn answer(rejection: &Rejection) -> Response<Bytes> {
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
    trailers_only(code, &message, retry).map(|()| Bytes::new())
}

/// Returns whether a request is one of gRPC, by its content type: `application/grpc` or
/// `application/grpc+proto`, not `application/grpc-web`.
pub(super) fn is_grpc(headers: &http::HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.and_then(|kind| kind.strip_prefix(b"application/grpc"))
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// Makes a response that has only trailers; gRPC sends them as the head.
pub(super) fn trailers_only(
    code: Code,
    message: &str,
    retry_after: Option<Duration>,
) -> Response<()> {
    let mut response = Response::new(());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from(code as u16));
    let mut insert = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    };
    insert("grpc-message", percent_encoded(message));
    if let Some(delay) = retry_after {
        let details = STANDARD_NO_PAD.encode(status(code, message, delay));
        insert("grpc-status-details-bin", details);
        insert("grpc-retry-pushback-ms", delay.as_millis().to_string());
    }
    response
}

/// Encodes a `grpc-message`, as in `grpc/doc/PROTOCOL-HTTP2.md`.
fn percent_encoded(message: &str) -> String {
    message.bytes().fold(String::new(), |mut text, byte| {
        match byte {
            b' '..=b'~' if byte != b'%' => text.push(char::from(byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
        text
    })
}

/// Encodes `google.rpc.Status { code, message, details: [RetryInfo { retry_delay }] }` as protobuf.
fn status(code: Code, message: &str, delay: Duration) -> Vec<u8> {
    let mut duration = number(1, delay.as_secs());
    duration.extend(number(2, delay.subsec_nanos().into()));
    let retry_info = bytes(1, &duration);
    let mut any = bytes(1, b"type.googleapis.com/google.rpc.RetryInfo");
    any.extend(bytes(2, &retry_info));
    let mut status = number(1, code as u64);
    status.extend(bytes(2, message.as_bytes()));
    status.extend(bytes(3, &any));
    status
}

fn number(field: u8, value: u64) -> Vec<u8> {
    if value == 0 {
        return Vec::new(); // the default is left out
    }
    let mut out = vec![field << 3];
    out.extend(varint(value));
    out
}

fn bytes(field: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![field << 3 | 2];
    out.extend(varint(value.len() as u64));
    out.extend(value);
    out
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn grpc_is_told_from_grpc_web_and_from_json() {
        let of = |kind: &'static str| {
            let mut headers = http::HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            is_grpc(&headers)
        };
        for kind in ["application/grpc", "application/grpc+proto", "application/grpc;v=1"] {
            assert!(of(kind), "{kind}");
        }
        for kind in ["application/grpc-web", "application/grpc-web+proto", "application/json", ""] {
            assert!(!of(kind), "{kind}");
        }
        assert!(!is_grpc(&http::HeaderMap::new()));
    }

    #[test]
    fn the_head_carries_the_status_and_the_retry_info() {
        let delay = Duration::from_millis(2500);
        let head = trailers_only(Code::ResourceExhausted, "100% ü", Some(delay));
        let header = |name: &str| head.headers()[name].to_str().unwrap();
        assert_eq!(header("grpc-status"), "8");
        assert_eq!(header("grpc-message"), "100%25 %C3%BC");
        assert_eq!(header("grpc-retry-pushback-ms"), "2500");
        let details = STANDARD_NO_PAD.decode(header("grpc-status-details-bin")).unwrap();
        // As protoc encodes `code: 8 message: "100% ü" details { [RetryInfo] { retry_delay {
        // seconds: 2 nanos: 500000000 } } }`.
        let mut expected = b"\x08\x08\x12\x07100% \xc3\xbc\x1a\x36\x0a\x28".to_vec();
        expected.extend(b"type.googleapis.com/google.rpc.RetryInfo");
        expected.extend(b"\x12\x0a\x0a\x08\x08\x02\x10\x80\xca\xb5\xee\x01");
        assert_eq!(details, expected);

        let plain = trailers_only(Code::InvalidArgument, "no", None);
        assert_eq!(plain.headers().len(), 3, "{:?}", plain.headers());
    }
}
