//! The instruments of a layer, and the gauge of a keyed limit.

use std::sync::Arc;
use std::time::Duration;

use ::metrics::{Counter, Gauge, counter, gauge};

use super::histograms::Histograms;
use super::label::{self, SEMAPHORE};
use super::listener;
use super::names::{KEYS, OUTAGE, REQUEST_WAIT_SECONDS, REQUESTS_TOTAL};
use super::outcome::{Rejected, RequestOutcome};
use super::semaphore::Meter;
use super::share::Share;

/// The metrics of one layer. It is empty if no recorder was installed when the layer was made.
#[derive(Debug)]
pub(crate) struct LayerMeter(Option<LayerInstruments>);

#[derive(Debug)]
struct LayerInstruments {
    /// By outcome, without the rejected ones.
    admitted_or_gone: [Counter; RequestOutcome::UNREJECTED.len()],
    rejected: [Counter; Rejected::ALL.len()],
    waits: Histograms<{ RequestOutcome::UNREJECTED.len() + 1 }>,
    outage: Gauge,
}

impl LayerMeter {
    /// For a layer of a keyed limit, whose name is `limit`.
    pub(crate) fn new(limit: &str) -> Self {
        Self(listener::is_there().then(|| LayerInstruments::new(&label::value_for(limit))))
    }

    /// For a layer of one semaphore, whose label it shares.
    pub(crate) fn of(semaphore: &Meter) -> Self {
        Self(semaphore.0.as_ref().map(|instruments| LayerInstruments::new(instruments.label())))
    }

    pub(crate) fn request(&self, outcome: RequestOutcome, waited: Duration) {
        let Some(instruments) = &self.0 else { return };
        let counter = match outcome {
            RequestOutcome::Rejected(reason) => &instruments.rejected[reason as usize],
            _ => &instruments.admitted_or_gone[outcome.index()],
        };
        counter.increment(1);
        instruments.waits.of_outcome(outcome.index(), outcome.label()).record(waited);
    }

    /// The outage policy decides about requests from now on.
    pub(crate) fn outage_began(&self) {
        if let Some(instruments) = &self.0 {
            instruments.outage.increment(1.0);
        }
    }

    /// What [began](Self::outage_began) has ended.
    pub(crate) fn outage_ended(&self) {
        if let Some(instruments) = &self.0 {
            instruments.outage.decrement(1.0);
        }
    }
}

impl LayerInstruments {
    /// `semaphore` is the value of the label.
    fn new(semaphore: &Arc<str>) -> Self {
        // All series of a metric have the same labels. To Prometheus an empty label is the same as a missing one.
        let counter = |outcome: RequestOutcome, reason: &'static str| {
            let (semaphore, outcome) = (Arc::clone(semaphore), outcome.label());
            counter!(REQUESTS_TOTAL, SEMAPHORE => semaphore, "outcome" => outcome, "reason" => reason)
        };
        Self {
            admitted_or_gone: RequestOutcome::UNREJECTED.map(|outcome| counter(outcome, "")),
            rejected: Rejected::ALL
                .map(|reason| counter(RequestOutcome::Rejected(reason), reason.label())),
            waits: Histograms::new(REQUEST_WAIT_SECONDS, semaphore),
            outage: gauge!(OUTAGE, SEMAPHORE => Arc::clone(semaphore)),
        }
    }
}

/// The number of keys that a keyed limit has in its cache.
#[derive(Debug)]
pub(crate) struct KeysMeter(Option<Share>);

impl KeysMeter {
    pub(crate) fn new(limit: &str) -> Self {
        let gauge = || gauge!(KEYS, SEMAPHORE => label::value_for(limit));
        Self(listener::is_there().then(|| Share::of(&gauge())))
    }

    pub(crate) fn set(&mut self, keys: usize) {
        if let Some(share) = &mut self.0 {
            share.set(keys as u64);
        }
    }
}
