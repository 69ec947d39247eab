//! The instruments of one value of the label `semaphore`.

use std::sync::Arc;

use ::metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use super::histograms::Histograms;
use super::label::SEMAPHORE;
use super::names::{
    DATA_LOSSES_TOTAL, HELD_SECONDS, HELD_UNITS, IN_USE_UNITS, LIMIT_UNITS, LOST_TOTAL,
    QUEUE_LENGTH, UNHEARD_GRANTS_TOTAL, WAIT_SECONDS, WAITERS,
};
use super::outcome::WaitOutcome;
#[cfg(feature = "tower")]
use super::share::Share;
use crate::lost_reason::LostReason;

/// The metrics of one value of the label in one client; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Meter(pub(super) Option<Arc<Instruments>>);

/// A part of a gauge that is there until this is dropped.
#[cfg(feature = "tower")]
#[derive(Debug)]
pub(crate) struct Counted(#[expect(dead_code, reason = "a drop guard")] Option<Share>);

impl Meter {
    /// Returns whether somebody listens.
    pub(crate) fn is_heard(&self) -> bool {
        self.0.is_some()
    }

    /// The layer keeps the units of a permit, because a provider has refused a request.
    #[cfg(feature = "tower")]
    pub(crate) fn resting(&self, units: u32) -> Counted {
        Counted(self.0.as_ref().map(|instruments| {
            let mut share = Share::of(&instruments.resting_units);
            share.set(units.into());
            share
        }))
    }
}

#[derive(Debug)]
pub(super) struct Instruments {
    waits: Histograms<{ WaitOutcome::ALL.len() }>,
    pub(super) held_released: Histogram,
    pub(super) held_lost: Histogram,
    pub(super) held_units: Gauge,
    pub(super) waiters: Gauge,
    pub(super) in_use_units: Gauge,
    pub(super) queue_length: Gauge,
    pub(super) limit_units: Gauge,
    #[cfg(feature = "tower")]
    resting_units: Gauge,
    lost: [Counter; LostReason::ALL.len()],
    pub(super) unheard_grants: Counter,
    pub(super) data_losses: Counter,
}

pub(super) fn label_of(reason: LostReason) -> &'static str {
    match reason {
        LostReason::Expired => "expired",
        LostReason::Kicked => "kicked",
        LostReason::MissingInStore => "missing_in_store",
        LostReason::RenewalTimeout => "renewal_timeout",
        LostReason::MaxHold => "max_hold",
        LostReason::Shutdown => "shutdown",
    }
}

impl Instruments {
    /// `semaphore` is the value of the label.
    pub(super) fn new(semaphore: &Arc<str>) -> Self {
        let label = || Arc::clone(semaphore);
        let held = |end| histogram!(HELD_SECONDS, SEMAPHORE => label(), "end" => end);
        let instruments = Self {
            waits: Histograms::new(WAIT_SECONDS, semaphore),
            held_released: held("released"),
            held_lost: held("lost"),
            held_units: gauge!(HELD_UNITS, SEMAPHORE => label()),
            waiters: gauge!(WAITERS, SEMAPHORE => label()),
            in_use_units: gauge!(IN_USE_UNITS, SEMAPHORE => label()),
            queue_length: gauge!(QUEUE_LENGTH, SEMAPHORE => label()),
            limit_units: gauge!(LIMIT_UNITS, SEMAPHORE => label()),
            #[cfg(feature = "tower")]
            resting_units: gauge!(super::names::RESTING_UNITS, SEMAPHORE => label()),
            lost: LostReason::ALL.map(
                |reason| counter!(LOST_TOTAL, SEMAPHORE => label(), "reason" => label_of(reason)),
            ),
            unheard_grants: counter!(UNHEARD_GRANTS_TOTAL, SEMAPHORE => label()),
            data_losses: counter!(DATA_LOSSES_TOTAL, SEMAPHORE => label()),
        };
        // These are registered at once: nearly every semaphore has grants, and who looks for failures looks for timeouts.
        instruments.waited(WaitOutcome::Granted);
        instruments.waited(WaitOutcome::Timeout);
        instruments
    }

    /// Returns the value of the label.
    #[cfg(feature = "tower")]
    pub(super) fn label(&self) -> &Arc<str> {
        self.waits.semaphore()
    }

    pub(super) fn waited(&self, outcome: WaitOutcome) -> &Histogram {
        self.waits.of_outcome(outcome as usize, outcome.label())
    }

    pub(super) fn lost(&self, reason: LostReason) -> &Counter {
        &self.lost[reason as usize]
    }
}
