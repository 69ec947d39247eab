//! Durations as people write and read them.

use std::time::Duration;

/// Reads `500ms`, `2s`, `1m30s`, or `0`.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write it as 500ms, 2s or 1m30s"))
}

/// A duration as programs read it.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A duration in one or two units: `250ms`, `4.2s`, `1m 30s`, `3h 20m`, `2d 4h`.
pub(crate) fn short(duration: Duration) -> String {
    let (millis, seconds) = (duration.as_millis(), duration.as_secs());
    let two = |large: u64, large_name: char, small: u64, small_name: char| match small {
        0 => format!("{large}{large_name}"),
        _ => format!("{large}{large_name} {small}{small_name}"),
    };
    match seconds {
        0 => format!("{millis}ms"),
        1..=9 => format!("{seconds}.{}s", millis % 1_000 / 100),
        10..=59 => format!("{seconds}s"),
        60..=3_599 => two(seconds / 60, 'm', seconds % 60, 's'),
        3_600..=86_399 => two(seconds / 3_600, 'h', seconds % 3_600 / 60, 'm'),
        _ => two(seconds / 86_400, 'd', seconds % 86_400 / 3_600, 'h'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        let millis = |text| parse(text).map(|duration| duration.as_millis());
        for (text, wanted) in
            [("500ms", 500), ("2s", 2_000), ("1m30s", 90_000), ("0", 0), ("1h 1m", 3_660_000)]
        {
            assert_eq!(millis(text), Ok(wanted), "{text}");
        }
        for wrong in ["", "2", "-1s", "soon", "1.5x", "99999999999999999999s"] {
            let problem = millis(wrong).unwrap_err();
            assert!(problem.ends_with("write it as 500ms, 2s or 1m30s"), "{wrong}: {problem}");
        }
    }

    #[test]
    fn durations_are_shown_in_two_units_at_most() {
        let shown = |millis| short(Duration::from_millis(millis));
        for (millis, wanted) in [
            (0, "0ms"),
            (999, "999ms"),
            (1_000, "1.0s"),
            (9_990, "9.9s"),
            (10_000, "10s"),
            (59_999, "59s"),
            (60_000, "1m"),
            (90_000, "1m 30s"),
            (3_600_000, "1h"),
            (12_000_000, "3h 20m"),
            (86_400_000, "1d"),
            (187_200_000, "2d 4h"),
        ] {
            assert_eq!(shown(millis), wanted);
        }
    }
}
