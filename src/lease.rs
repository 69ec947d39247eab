//! Lease arithmetic: until when a permit is provably held, and when to renew it. Pure.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::ConfigError;
use crate::numbers::Millis;

/// The shortest lease that is accepted. Below it, the margin and a round trip leave nothing.
pub(crate) const SHORTEST: Duration = Duration::from_millis(50);
/// The longest lease that is accepted: 30 days. A crashed holder keeps its units that long.
pub(crate) const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// Checks that `lease` is in range, and returns it as the store counts it. `field` names the setting.
pub(crate) fn checked(field: &'static str, lease: Duration) -> Result<Millis, ConfigError> {
    if lease < SHORTEST || lease > LONGEST {
        return Err(ConfigError::new(field, lease, "50 ms to 30 days"));
    }
    Ok(Millis::from(lease))
}

/// Returns by how much a lease ends here before it ends in the store: `clamp(lease / 50, 5 ms, 1 s)`.
///
/// It covers clocks that run at different speeds (2 % is far more than any quartz differs), small
/// steps of the server's clock, and the time that the holder needs to notice.
pub(crate) fn margin(lease: Duration) -> Duration {
    (lease / 50).clamp(Duration::from_millis(5), Duration::from_secs(1))
}

/// Returns until when a lease is provably held, given when the turn that granted it was *sent*. The
/// server cannot have started the lease before that.
pub(crate) fn provable_until(sent: Instant, lease: Duration) -> Instant {
    sent + lease.saturating_sub(margin(lease))
}

/// Returns when the turn was sent that granted a lease which is provably held until `until`.
#[cfg(feature = "metrics")]
pub(crate) fn sent_at(until: Instant, lease: Duration) -> Instant {
    let provable = lease.saturating_sub(margin(lease));
    until.checked_sub(provable).unwrap_or(until) // a lease of a year on a machine that has just started
}

/// Returns the lease that is provably held for `left`, counted from now. It is the inverse of
/// [`provable_until`].
pub(crate) fn held_for(left: Duration) -> Duration {
    left + (left / 49).clamp(Duration::from_millis(5), Duration::from_secs(1))
}

/// Returns when to renew a lease that was granted or renewed by a turn sent at `sent`.
pub(crate) fn renew_at(sent: Instant, lease: Duration) -> Instant {
    sent + lease / 3
}

/// Returns when to renew a claim that is held until `deadline`, which makes it a full lease: after a
/// third of the time that is left, so that two more turns fit before it ends.
pub(crate) fn confirm_at(now: Instant, deadline: Instant) -> Instant {
    now + deadline.saturating_duration_since(now) / 3
}

/// Returns after which time without an answer a renewal is sent again, beside the turn that may still
/// be answered. So three turns can be lost before a lease ends, or each can take a third of it.
pub(crate) fn answer_in(lease: Duration) -> Duration {
    lease / 6
}

/// Returns how long before it is due a renewal is piggybacked on a turn that is sent anyway.
pub(crate) fn piggyback(lease: Duration) -> Duration {
    lease / 8
}

/// Returns how often a client that waits sends a heartbeat: every second, or every third of its lease
/// if that is shorter.
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
    async fn a_lease_that_is_held_for_the_time_that_is_left_ends_when_the_first_one_does() {
        let sent = Instant::now();
        for lease in [ms(50), ms(250), ms(1_000), ms(30_000), ms(50_000), ms(3_600_000)] {
            let left = provable_until(sent, lease) - sent;
            assert_eq!(held_for(left), lease);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn three_renewals_fit_into_every_lease() {
        let sent = Instant::now();
        for lease in [SHORTEST, ms(1_000), ms(30_000), LONGEST] {
            let end = provable_until(sent, lease);
            assert!(end < sent + lease);
            assert!(renew_at(sent, lease) + lease / 3 < end);
            assert!(renew_at(sent, lease) + piggyback(lease) < end);
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
