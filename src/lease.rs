//! Lease arithmetic: how long a permit is provably ours, and when to renew it. Pure.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::ConfigError;

/// The shortest lease that is accepted: below it, the margin and a round trip leave nothing.
pub(crate) const SHORTEST: Duration = Duration::from_millis(50);
/// The longest lease that is accepted, 30 days: a crashed holder keeps its units that long.
pub(crate) const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// A lease in milliseconds, if `lease` is one; `field` names the setting.
pub(crate) fn checked_ms(field: &'static str, lease: Duration) -> Result<u64, ConfigError> {
    if lease < SHORTEST || lease > LONGEST {
        return Err(ConfigError::new(field, lease, "50 ms to 30 days"));
    }
    Ok(u64::try_from(lease.as_millis()).unwrap_or(u64::MAX))
}

/// By how much the local end of a lease comes before the server's: `clamp(lease / 50, 5 ms, 1 s)`.
///
/// It covers clocks that run at different speeds (2 % is far beyond any quartz), small steps of
/// the server's clock, and the time until the holder has noticed.
pub(crate) fn margin(lease: Duration) -> Duration {
    (lease / 50).clamp(Duration::from_millis(5), Duration::from_secs(1))
}

/// Until when a lease is provably ours, given when the turn that granted it was *sent*: the server
/// cannot have started the lease before that.
pub(crate) fn provable_until(sent: Instant, lease: Duration) -> Instant {
    sent + lease.saturating_sub(margin(lease))
}

/// When to renew a lease that was granted or renewed by a turn sent at `sent`.
pub(crate) fn renew_at(sent: Instant, lease: Duration) -> Instant {
    sent + lease / 3
}

/// When to turn a claim that is ours until `deadline` into a full lease: a third of what is left,
/// so that two more turns fit before it ends.
pub(crate) fn confirm_at(now: Instant, deadline: Instant) -> Instant {
    now + deadline.saturating_duration_since(now) / 3
}

/// A turn whose answer takes longer is said again, as far as it renews, beside the one that may still
/// be answered: so three can be lost before a lease ends, or each can take a third of it.
pub(crate) fn answer_in(lease: Duration) -> Duration {
    lease / 6
}

/// A renewal due within this rides on a turn that goes anyway.
pub(crate) fn ride(lease: Duration) -> Duration {
    lease / 8
}

/// How often a waiting client speaks: every second, or a third of its lease if that is shorter.
pub(crate) fn asking_period(lease: Duration) -> Duration {
    (lease / 3).min(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_margin_is_a_fiftieth_within_bounds() {
        assert_eq!(margin(ms(50)), ms(5));
        assert_eq!(margin(ms(1_000)), ms(20));
        assert_eq!(margin(ms(30_000)), ms(600));
        assert_eq!(margin(ms(300_000)), ms(1_000));
    }

    #[tokio::test(start_paused = true)]
    async fn three_renewals_fit_into_every_lease() {
        let sent = Instant::now();
        for lease in [SHORTEST, ms(1_000), ms(30_000), LONGEST] {
            let end = provable_until(sent, lease);
            assert!(end < sent + lease);
            assert!(renew_at(sent, lease) + lease / 3 < end);
            assert!(renew_at(sent, lease) + ride(lease) < end);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_claim_is_confirmed_sooner() {
        let now = Instant::now();
        assert_eq!(confirm_at(now, now + ms(2_940)), now + ms(980));
        assert_eq!(confirm_at(now, now + ms(1_500)), now + ms(500));
        assert_eq!(confirm_at(now + ms(10), now), now + ms(10));
    }
}
