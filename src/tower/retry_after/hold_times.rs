//! How long the permits of a semaphore are held in this process: both past and present ones.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::ended_holds::EndedHolds;
use super::estimate::{Occupancy, PresentHold, estimate};
use crate::sync::lock;

/// The number of present holds whose start is kept: enough for an estimate, and quick to look at. They are
/// a fair sample, since whether a hold gets a slot does not depend on its length.
const SAMPLE: usize = 64;

/// Keeps the lengths of the holds that have ended, and the start of a sample of the present ones.
#[derive(Debug, Default)]
pub(crate) struct HoldTimes {
    holds: Mutex<Holds>,
}

#[derive(Debug, Default)]
struct Holds {
    ended: EndedHolds,
    /// When the ended holds were last decayed.
    decayed: Option<Instant>,
    present: PresentHolds,
}

/// A sample of the present holds.
#[derive(Debug, Default)]
struct PresentHolds {
    /// The start and the units of each.
    slots: Vec<Option<(Instant, u32)>>,
    free: Vec<usize>,
}

/// The record of one hold. It is passed to [`HoldTimes::end`] at the end of the hold.
#[derive(Debug)]
pub(crate) struct TimedHold {
    since: Instant,
    slot: Option<usize>,
}

impl HoldTimes {
    /// Notes the begin of a hold.
    pub(crate) fn begin(&self, since: Instant, units: u32) -> TimedHold {
        TimedHold { since, slot: lock(&self.holds).present.enter(since, units) }
    }

    /// Notes the end of a hold.
    pub(crate) fn end(&self, timed: &TimedHold) {
        let now = Instant::now();
        let mut holds = lock(&self.holds);
        if let Some(slot) = timed.slot {
            holds.present.leave(slot);
        }
        holds.record(now.saturating_duration_since(timed.since), now);
    }

    /// Returns the expected time until a request for `units` units, with `ahead` requests ahead of it, gets
    /// them.
    pub(crate) fn estimate(&self, occupancy: Occupancy, ahead: u64, units: u32) -> Duration {
        let holds = lock(&self.holds);
        let present = holds.present.at(Instant::now());
        estimate(&holds.ended, &present, occupancy, ahead, units)
    }
}

impl Holds {
    fn record(&mut self, held: Duration, now: Instant) {
        let decayed = *self.decayed.get_or_insert(now);
        let passed = now.saturating_duration_since(decayed);
        // Not for each hold, since it walks all buckets.
        if passed >= Duration::from_secs(1) {
            self.ended.decay(passed.as_secs_f64());
            self.decayed = Some(now);
        }
        self.ended.record(held.as_secs_f64());
    }
}

impl PresentHolds {
    fn enter(&mut self, since: Instant, units: u32) -> Option<usize> {
        if let Some(slot) = self.free.pop() {
            self.slots[slot] = Some((since, units));
            return Some(slot);
        }
        let slot = self.slots.len();
        (slot < SAMPLE).then(|| {
            self.slots.push(Some((since, units)));
            slot
        })
    }

    fn leave(&mut self, slot: usize) {
        self.slots[slot] = None;
        self.free.push(slot);
    }

    fn at(&self, now: Instant) -> Vec<PresentHold> {
        let present = self.slots.iter().flatten();
        let hold = |&(since, units): &(Instant, u32)| PresentHold {
            age: now.saturating_duration_since(since).as_secs_f64(),
            units: units.into(),
        };
        present.map(hold).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: Occupancy = Occupancy { in_use: Some(2), limit: 2 };

    #[tokio::test(start_paused = true)]
    async fn the_estimate_uses_the_ages_of_present_holds_and_the_lengths_of_ended_ones() {
        let hold_times = HoldTimes::default();
        let estimate = || hold_times.estimate(FULL, 0, 1).as_secs();
        let (one, two) = (hold_times.begin(Instant::now(), 1), hold_times.begin(Instant::now(), 1));
        assert_eq!(estimate(), 0);
        tokio::time::advance(Duration::from_secs(40)).await;
        assert_eq!(estimate(), 40);
        hold_times.end(&one);
        let three = hold_times.begin(Instant::now(), 1);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(estimate(), 30, "holds take 40 s, and one has lasted for 10 s");
        hold_times.end(&three);
        assert_eq!(estimate(), 50, "what is left has outlived the others");
        hold_times.end(&two);
        assert_eq!(estimate(), 21, "two elsewhere, each (40^2 + 10^2 + 50^2) / (40 + 10 + 50) s");
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_a_sample_is_kept_and_slots_are_reused() {
        let hold_times = HoldTimes::default();
        let present = || lock(&hold_times.holds).present.at(Instant::now()).len();
        for _ in 0..3 {
            let all: Vec<_> = (0..1000).map(|_| hold_times.begin(Instant::now(), 1)).collect();
            assert_eq!(present(), SAMPLE);
            all.iter().for_each(|one| hold_times.end(one));
            assert_eq!(present(), 0);
        }
        assert_eq!(lock(&hold_times.holds).present.slots.len(), SAMPLE);
    }
}
