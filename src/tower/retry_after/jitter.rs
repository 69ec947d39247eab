//! The random part of `Retry-After`. Pure.

use std::time::Duration;

/// The minimum range of the random part. It is more than a second, so that headers in whole seconds differ
/// as well.
const LEAST_SPREAD: Duration = Duration::from_secs(2);

/// Returns the time that a client is told: the longer one of `estimate` and `min`, plus a random part of up
/// to a quarter of it, or up to 2 s if that is longer. `random` is from 0 to 1. The random part keeps
/// clients that were rejected together from coming back together.
pub(crate) fn with_jitter(estimate: Duration, min: Duration, random: f64) -> Duration {
    let least = estimate.max(min);
    least.saturating_add((least / 4).max(LEAST_SPREAD).mul_f64(random))
}
