//! The random part of `Retry-After`. Pure.

use std::time::Duration;

/// At least up to this is added at random, so that headers of whole seconds differ as well.
const LEAST_SPREAD: Duration = Duration::from_secs(2);

/// Returns what a client is told: the estimate or `min`, whichever is longer, and up to a quarter of it or
/// 2 s more. `random` is from 0 to 1. So clients that were rejected together do not come back together.
pub(crate) fn with_jitter(estimate: Duration, min: Duration, random: f64) -> Duration {
    let least = estimate.max(min);
    least.saturating_add((least / 4).max(LEAST_SPREAD).mul_f64(random))
}
