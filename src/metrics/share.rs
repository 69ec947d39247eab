//! A part of a gauge that one owner accounts for.

use ::metrics::Gauge;

/// What one owner has added to a gauge. It is taken back when it is dropped, so nothing of it stays.
#[derive(Debug)]
pub(super) struct Share {
    gauge: Gauge,
    amount: u64,
}

impl Share {
    /// A share of nothing.
    pub(super) fn of(gauge: &Gauge) -> Self {
        Self { gauge: gauge.clone(), amount: 0 }
    }

    pub(super) fn amount(&self) -> u64 {
        self.amount
    }

    /// Moves the gauge by as much as the share changes. Others may have shares of the same gauge.
    pub(super) fn set(&mut self, amount: u64) {
        let before = std::mem::replace(&mut self.amount, amount);
        if amount > before {
            self.gauge.increment((amount - before) as f64);
        } else if amount < before {
            self.gauge.decrement((before - amount) as f64);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}
