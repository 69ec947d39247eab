//! For how long a provider that turns a request away wants to be left alone. Pure.

use std::time::{Duration, SystemTime};

use http::header::{DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use http::{HeaderName, StatusCode};

/// What providers of language models send besides `Retry-After`; it is finer, so it counts first.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
/// Of a provider that says that it is too busy, and not for how long.
const SOME: Duration = Duration::from_secs(1);

/// For how long an answer asks to be left alone: `429`, and `529` as Anthropic answers when it is
/// overloaded, always do, a `503` only where it says for how long, since it may tell of any failure.
pub(crate) fn rest_time(
    status: StatusCode,
    headers: &HeaderMap,
    now: SystemTime,
) -> Option<Duration> {
    match status.as_u16() {
        429 | 529 => Some(retry_after(headers, now).unwrap_or(SOME)),
        503 => retry_after(headers, now),
        _ => None,
    }
}

/// RFC 9110, 10.2.3: seconds, or a date, which is counted from the `Date` of the same clock.
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// One hour before the date that the cases name.
    fn now() -> SystemTime {
        httpdate::parse_http_date("Wed, 21 Oct 2026 06:28:00 GMT").unwrap()
    }

    fn rests(status: u16, headers: &[(&'static str, &'static str)]) -> Option<f64> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, HeaderValue::from_static(value));
        }
        let status = StatusCode::from_u16(status).unwrap();
        rest_time(status, &map, now()).map(|time| time.as_secs_f64())
    }

    #[test]
    fn seconds_milliseconds_and_dates_are_understood() {
        const DATE: &str = "Wed, 21 Oct 2026 07:28:00 GMT";
        for (headers, seconds) in [
            (&[("retry-after", "7")][..], 7.0),
            (&[("retry-after", " 7 ")], 7.0),
            (&[("retry-after", "1.5")], 1.5),
            (&[("retry-after-ms", "250")], 0.25),
            (&[("retry-after-ms", "250"), ("retry-after", "7")], 0.25),
            (&[("retry-after-ms", "soon"), ("retry-after", "7")], 7.0),
            (&[("retry-after-ms", "-1"), ("retry-after", "7")], 7.0),
            (&[("retry-after-ms", "NaN"), ("retry-after", DATE)], 3600.0),
            (&[("retry-after", DATE)], 3600.0),
            (&[("retry-after", "Wednesday, 21-Oct-26 07:28:00 GMT")], 3600.0),
            (&[("retry-after", "Wed Oct 21 07:28:00 2026")], 3600.0),
            // By the clock of the provider, not by ours.
            (&[("retry-after", DATE), ("date", "Wed, 21 Oct 2026 07:27:30 GMT")], 30.0),
            (&[("retry-after", DATE), ("date", "Wed, 21 Oct 2026 08:00:00 GMT")], 0.0),
            (&[("retry-after", "0")], 0.0),
        ] {
            assert_eq!(rests(429, headers), Some(seconds), "{headers:?}");
        }
    }

    #[test]
    fn what_says_nothing_of_a_time_rests_for_a_second_and_not_at_all_if_it_may_be_any_failure() {
        for headers in [
            &[][..],
            &[("retry-after", "")],
            &[("retry-after", "soon")],
            &[("retry-after", "-3")],
            &[("retry-after", "NaN")],
            &[("retry-after", "inf")],
        ] {
            let rest = [429, 529, 503, 200, 500].map(|status| rests(status, headers));
            assert_eq!(rest, [Some(1.0), Some(1.0), None, None, None], "{headers:?}");
        }
        let told = [429, 529, 503, 200, 500].map(|status| rests(status, &[("retry-after", "4")]));
        assert_eq!(told, [Some(4.0), Some(4.0), Some(4.0), None, None]);
    }
}
