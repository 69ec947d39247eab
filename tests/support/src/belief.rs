//! What a holder goes by: until when `is_lost()` answers no.

use std::fmt::Debug;

/// Until when `is_lost()` of a permit will say no, unless something else ends the permit: nanoseconds of
/// CLOCK_MONOTONIC. None if it says yes by now.
///
/// The crate does not tell this deadline in its API; `Permit`'s `Debug` shows it, and std's `Instant` is
/// CLOCK_MONOTONIC here.
pub fn local_deadline(permit: &impl Debug) -> Option<u64> {
    let shown = format!("{permit:?}");
    if !shown.contains("HeldUntil") {
        assert!(shown.contains("Lost("), "cannot read {shown}");
        return None;
    }
    let number = |field: &str| -> u64 {
        let (_, rest) = shown.split_once(field).unwrap_or_else(|| panic!("no {field} in {shown}"));
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().expect("a number")
    };
    Some(number("tv_sec: ") * 1_000_000_000 + number("tv_nsec: "))
}
