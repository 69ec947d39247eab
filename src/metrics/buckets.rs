//! The buckets of the histograms.

#[cfg(feature = "tower")]
use super::names::REQUEST_WAIT_SECONDS;
use super::names::{HELD_SECONDS, TURN_IDS, TURN_SECONDS, WAIT_SECONDS};

/// The buckets of [`WAIT_SECONDS`] and of the waits of requests, in seconds: from a round trip to a long queue.
pub const WAIT_SECONDS_BUCKETS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0, 300.0,
];

/// The buckets of [`HELD_SECONDS`], in seconds: from a short request to an hour.
pub const HELD_SECONDS_BUCKETS: &[f64] = &[
    0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0,
];

/// The buckets of [`TURN_SECONDS`], in seconds: from a local server to the longest wait for an answer.
pub const TURN_SECONDS_BUCKETS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0];

/// The buckets of [`TURN_IDS`]: up to as many as one turn can name.
pub const TURN_IDS_BUCKETS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// The buckets of each histogram, by its name.
pub const BUCKETS: &[(&str, &[f64])] = &[
    (WAIT_SECONDS, WAIT_SECONDS_BUCKETS),
    (HELD_SECONDS, HELD_SECONDS_BUCKETS),
    (TURN_SECONDS, TURN_SECONDS_BUCKETS),
    (TURN_IDS, TURN_IDS_BUCKETS),
    #[cfg(feature = "tower")]
    (REQUEST_WAIT_SECONDS, WAIT_SECONDS_BUCKETS),
];
