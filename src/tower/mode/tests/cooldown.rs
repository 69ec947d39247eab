use std::time::SystemTime;

use http::StatusCode;
use http::header::{HeaderMap, HeaderValue};

use crate::tower::mode::cooldown::cooldown_of;

/// One hour before the date that the cases name.
fn now() -> SystemTime {
    httpdate::parse_http_date("Wed, 21 Oct 2026 06:28:00 GMT").unwrap()
}

fn cooldown(status: u16, headers: &[(&'static str, &'static str)]) -> Option<f64> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(*name, HeaderValue::from_static(value));
    }
    let status = StatusCode::from_u16(status).unwrap();
    cooldown_of(status, &map, now()).map(|time| time.as_secs_f64())
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
        assert_eq!(cooldown(429, headers), Some(seconds), "{headers:?}");
    }
}

#[test]
fn a_response_without_a_time_cools_down_for_a_second_and_not_at_all_if_it_may_be_any_failure() {
    for headers in [
        &[][..],
        &[("retry-after", "")],
        &[("retry-after", "soon")],
        &[("retry-after", "-3")],
        &[("retry-after", "NaN")],
        &[("retry-after", "inf")],
    ] {
        let found = [429, 529, 503, 200, 500].map(|status| cooldown(status, headers));
        assert_eq!(found, [Some(1.0), Some(1.0), None, None, None], "{headers:?}");
    }
    let told = [429, 529, 503, 200, 500].map(|status| cooldown(status, &[("retry-after", "4")]));
    assert_eq!(told, [Some(4.0), Some(4.0), Some(4.0), None, None]);
}
