//! What is kept of a request until it is answered.

use http::Request;
use http::header::{EXPECT, HeaderMap, HeaderValue};
use http::request::Parts;

use super::grpc;

/// What is kept of a request until it is answered.
#[derive(Debug)]
pub struct RequestInfo {
    pub(super) is_grpc: bool,
    /// The head, kept only where answers are changed.
    pub(super) head: Option<Box<Parts>>,
}

impl RequestInfo {
    pub(super) fn new<B>(request: &Request<B>, keep_head: bool) -> Self {
        Self {
            is_grpc: grpc::is_grpc(request.headers()),
            head: keep_head.then(|| Box::new(head_of(request))),
        }
    }
}

/// Returns whether the client sends the body only when it is told to (RFC 9110, 10.1.1).
pub(super) fn expects_continue(headers: &HeaderMap) -> bool {
    let mut expected = headers.get_all(EXPECT).iter().map(HeaderValue::as_bytes);
    expected.any(|value| value.eq_ignore_ascii_case(b"100-continue"))
}

/// Copies the head of a request. Its credentials are marked sensitive, which hides them from `Debug`.
fn head_of<B>(request: &Request<B>) -> Parts {
    let (mut head, ()) = Request::new(()).into_parts();
    head.method = request.method().clone();
    head.uri = request.uri().clone();
    head.version = request.version();
    head.headers = request.headers().clone();
    head.extensions = request.extensions().clone();
    for (name, value) in &mut head.headers {
        let name = name.as_str();
        if ["authorization", "proxy-authorization", "cookie"].contains(&name)
            || name.ends_with("api-key")
        {
            value.set_sensitive(true);
        }
    }
    head
}
