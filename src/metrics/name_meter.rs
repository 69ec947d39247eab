//! The meter of one name of a client.

use std::sync::OnceLock;

use super::semaphore::Meter;

/// Where the metrics of one name go: to the label that a handle has set, else to that of the name itself.
#[derive(Debug, Default)]
pub(crate) struct NameMeter {
    of_name: OnceLock<Meter>,
    of_setting: OnceLock<Meter>,
}

static NO_METER: Meter = Meter(None);

impl NameMeter {
    pub(crate) fn get(&self) -> &Meter {
        self.of_setting.get().or_else(|| self.of_name.get()).unwrap_or(&NO_METER)
    }

    /// Returns whether a handle with this setting of the label changes where the metrics go.
    pub(crate) fn lacks(&self, metrics_name: Option<&str>) -> bool {
        self.of_setting.get().is_none() && (metrics_name.is_some() || self.of_name.get().is_none())
    }

    /// Makes the metrics go to `meter`, which is that of a handle with this setting. Without effect if it
    /// [lacks](Self::lacks) none.
    pub(crate) fn set(&self, metrics_name: Option<&str>, meter: Meter) {
        let place = if metrics_name.is_some() { &self.of_setting } else { &self.of_name };
        let _ = place.set(meter); // if another handle was first, it has decided
    }
}
