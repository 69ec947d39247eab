//! Durations in messages.

use std::fmt;
use std::time::Duration;

/// Prints a duration with three digits, or in whole seconds. It rounds down, since a timer ends a little late: a timeout of
/// 300 ms that has ended after 300.9 ms is printed as `300ms`.
pub(super) struct Rounded(pub(super) Duration);

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SECOND: u64 = 1_000_000_000;
        let nanos = u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX);
        if nanos == 0 {
            return f.write_str("0s");
        }
        let digits = nanos.ilog10();
        let step = 10_u64.pow(digits.saturating_sub(2)).min(SECOND);
        write!(f, "{:?}", Duration::from_nanos(nanos - nanos % step))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_printed_as_it_was_set_though_it_ended_a_little_late() {
        for (nanos, printed) in [
            (0, "0s"),
            (999, "999ns"),
            (50_012_345, "50ms"),
            (300_945_874, "300ms"),
            (999_999_999, "999ms"),
            (1_002_080_196, "1s"),
            (1_250_000_001, "1.25s"),
            (30_001_000_000, "30s"),
            (90_512_000_000, "90.5s"),
            (3_599_999_999_999, "3599s"),
        ] {
            assert_eq!(Rounded(Duration::from_nanos(nanos)).to_string(), printed, "{nanos}");
        }
        assert_eq!(Rounded(Duration::MAX).to_string(), "18446744073s");
    }
}
