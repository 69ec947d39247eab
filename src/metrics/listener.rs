//! Whether a recorder is installed.
//!
//! # Implementation
//!
//! A handle of the `metrics` crate does not tell whether it does anything. But it converts a value only if it does, so
//! a value that notes its conversion finds out. It is recorded zero times, or as a zero that is added.

use std::cell::Cell;

use ::metrics::{Gauge, Histogram, IntoF64, gauge, histogram};

use super::names::{CONNECTED, TURN_IDS, TURN_SECONDS};

struct Probe<'a>(&'a Cell<bool>);

impl IntoF64 for Probe<'_> {
    fn into_f64(self) -> f64 {
        self.0.set(true);
        0.0
    }
}

/// Returns whether a recorder is installed. A recorder that leaves some metrics out has to take one of those without a
/// label.
pub(super) fn is_there() -> bool {
    hears_gauge(&gauge!(CONNECTED))
        || hears_histogram(&histogram!(TURN_SECONDS))
        || hears_histogram(&histogram!(TURN_IDS))
}

fn hears_histogram(histogram: &Histogram) -> bool {
    let heard = Cell::new(false);
    histogram.record_many(Probe(&heard), 0);
    heard.get()
}

fn hears_gauge(gauge: &Gauge) -> bool {
    let heard = Cell::new(false);
    gauge.increment(Probe(&heard));
    heard.get()
}
