//! The response headers that say how full a limit is.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::tower::admission::permit::RequestPermit;

/// Adds the headers, unless an inner layer has added those of its own limit.
pub(super) fn add(permit: &RequestPermit, headers: &mut HeaderMap) {
    let Some(limiter) = permit.limiter().filter(|_| permit.is_granted()) else { return };
    if headers.contains_key("x-concurrency-limit") {
        return;
    }
    let known = limiter.semaphore.last_known();
    let mut insert = |name, value: u64| {
        headers.insert(HeaderName::from_static(name), HeaderValue::from(value));
    };
    insert("x-concurrency-limit", known.limit.into());
    if let Some(in_use) = known.in_use {
        insert("x-concurrency-in-use", in_use);
    }
    let waited = u64::try_from(permit.waited().as_millis()).unwrap_or(u64::MAX);
    insert("x-concurrency-waited-ms", waited);
}
