//! The cooldown after a provider has refused a request: the permit is kept for as long as the provider asks.

use std::time::{Duration, SystemTime};

use http::header::{DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use http::{HeaderName, StatusCode};
use tokio::time::timeout;

use crate::tower::admission::permit::RequestPermit;

/// A header that providers of language models send in addition to `Retry-After`. It is more precise, so it
/// takes precedence.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
/// The cooldown of a provider that is too busy and does not say for how long.
const DEFAULT_COOLDOWN: Duration = Duration::from_secs(1);

/// Keeps the permit for a while if the response says that the provider is too busy. Returns the permit with
/// which the response is held: an empty one if the permit is kept, else `permit` itself.
pub(super) fn keep_if_busy<B>(
    max_cooldown: Option<Duration>,
    response: &http::Response<B>,
    permit: RequestPermit,
) -> RequestPermit {
    let Some(max) = max_cooldown else { return permit };
    match cooldown_of(response.status(), response.headers(), SystemTime::now()) {
        Some(cooldown) => {
            keep(permit, cooldown.min(max));
            RequestPermit::weightless()
        }
        None => permit,
    }
}

/// Keeps the permit for `cooldown`, or until it is lost. Nobody else gets its units in that time.
fn keep(permit: RequestPermit, cooldown: Duration) {
    let (Some(handle), Some(limiter)) = (permit.handle(), permit.limiter()) else { return };
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        let resting = limiter.semaphore.meter().resting(handle.units());
        runtime.spawn(async move {
            let (_permit, _resting) = (permit, resting);
            let _ = timeout(cooldown, handle.lost()).await;
        });
    }
}

/// Returns the cooldown that a response asks for. A `429` always asks for one, and so does a `529`, which
/// Anthropic sends when it is overloaded. A `503` asks for one only if it has `Retry-After`, since it may
/// stand for any failure.
pub(super) fn cooldown_of(
    status: StatusCode,
    headers: &HeaderMap,
    now: SystemTime,
) -> Option<Duration> {
    match status.as_u16() {
        429 | 529 => Some(retry_after(headers, now).unwrap_or(DEFAULT_COOLDOWN)),
        503 => retry_after(headers, now),
        _ => None,
    }
}

/// Reads `Retry-After` (RFC 9110, 10.2.3): seconds, or a date. A date is compared with the header `Date`,
/// which comes from the same clock.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name| headers.get(name).map(HeaderValue::to_str)?.ok().map(str::trim);
    let number = |name, unit: f64| {
        let number: f64 = text(name)?.parse().ok()?;
        Duration::try_from_secs_f64(number * unit).ok()
    };
    let time = number(RETRY_AFTER_MS, 0.001).or_else(|| number(RETRY_AFTER, 1.0));
    if time.is_some() {
        return time;
    }
    let date = |name| httpdate::parse_http_date(text(name)?).ok();
    let until = date(RETRY_AFTER)?;
    Some(until.duration_since(date(DATE).unwrap_or(now)).unwrap_or_default())
}
