//! What this process knows of the holds of a semaphore: how long those that ended were, and since
//! when those that did not have lasted.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::sync::lock;
use crate::tower::retry_after::estimate::{EndedHolds, Occupancy, PresentHold, estimate};

/// So many present holds are known by their start: enough to tell from, and quick to look at. They
/// are as good as any others, since whether a hold finds a place has nothing to do with its length.
const SAMPLE: usize = 64;

/// Keeps the length of holds, and the start of those that last.
#[derive(Debug, Default)]
pub(crate) struct HoldTimes {
    holds: Mutex<Holds>,
}

#[derive(Debug, Default)]
struct Holds {
    ended: EndedHolds,
    /// When what ended was last made to count less.
    faded: Option<Instant>,
    present: Present,
}

#[derive(Debug, Default)]
struct Present {
    places: Vec<Option<(Instant, u32)>>,
    free: Vec<usize>,
}

/// A hold that is metered; to be handed back at its end.
#[derive(Debug)]
pub(crate) struct TimedHold {
    since: Instant,
    place: Option<usize>,
}

impl HoldTimes {
    pub(crate) fn begin(&self, since: Instant, units: u32) -> TimedHold {
        TimedHold { since, place: lock(&self.holds).present.enter(since, units) }
    }

    pub(crate) fn end(&self, timed: &TimedHold) {
        let now = Instant::now();
        let mut holds = lock(&self.holds);
        if let Some(place) = timed.place {
            holds.present.leave(place);
        }
        holds.record(now.saturating_duration_since(timed.since), now);
    }

    /// When one who wants `units` units and stands behind `ahead` others may expect them.
    pub(crate) fn estimate(&self, room: Occupancy, ahead: u64, units: u32) -> Duration {
        let holds = lock(&self.holds);
        let holders = holds.present.holders(Instant::now());
        estimate(&holds.ended, &holders, room, ahead, units)
    }
}

impl Holds {
    fn record(&mut self, held: Duration, now: Instant) {
        let faded = *self.faded.get_or_insert(now);
        let passed = now.saturating_duration_since(faded);
        // Not for each: it walks all lengths.
        if passed >= Duration::from_secs(1) {
            self.ended.fade(passed.as_secs_f64());
            self.faded = Some(now);
        }
        self.ended.record(held.as_secs_f64());
    }
}

impl Present {
    fn enter(&mut self, since: Instant, units: u32) -> Option<usize> {
        if let Some(place) = self.free.pop() {
            self.places[place] = Some((since, units));
            return Some(place);
        }
        let place = self.places.len();
        (place < SAMPLE).then(|| {
            self.places.push(Some((since, units)));
            place
        })
    }

    fn leave(&mut self, place: usize) {
        self.places[place] = None;
        self.free.push(place);
    }

    fn holders(&self, now: Instant) -> Vec<PresentHold> {
        let present = self.places.iter().flatten();
        let holder = |&(since, units): &(Instant, u32)| PresentHold {
            age: now.saturating_duration_since(since).as_secs_f64(),
            units: units.into(),
        };
        present.map(holder).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Occupancy = Occupancy { in_use: Some(2), limit: 2 };

    #[tokio::test(start_paused = true)]
    async fn it_goes_by_the_age_of_those_who_hold_and_the_length_of_those_who_held() {
        let hold_times = HoldTimes::default();
        let estimate = || hold_times.estimate(ROOM, 0, 1).as_secs();
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
    async fn it_keeps_no_more_than_a_sample_and_gives_places_back() {
        let hold_times = HoldTimes::default();
        let present = || lock(&hold_times.holds).present.holders(Instant::now()).len();
        for _ in 0..3 {
            let all: Vec<_> = (0..1000).map(|_| hold_times.begin(Instant::now(), 1)).collect();
            assert_eq!(present(), SAMPLE);
            all.iter().for_each(|one| hold_times.end(one));
            assert_eq!(present(), 0);
        }
        assert_eq!(lock(&hold_times.holds).present.places.len(), SAMPLE);
    }
}
