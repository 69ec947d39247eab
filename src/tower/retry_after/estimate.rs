//! When to come again. Pure.
//!
//! # The estimate
//!
//! Who is turned away needs the units that it wants, one for each who waits ahead, and those in use
//! above a lowered limit, less what is free. It is told when that many of the units in use are
//! expected to have come free:
//!
//! 1. *A present hold of age `a`* ends within `t` as often as holds that lasted longer than `a` ended
//!    before `a + t`: the empirical survival function, given the age. Quick responses say nothing of
//!    a stream that has outlived them, however many they are.
//! 2. *One that has outlived all that ended* has as long to go as it has lasted: in equilibrium the
//!    time that a hold has to go is distributed as the time that has gone (Feller, "An Introduction
//!    to Probability Theory and Its Applications", vol. II, XI.4). Nor is it expected to end before it
//!    is as old as half of the present holds are: each of those shows that holds get so old.
//! 3. *The rest of the cluster* is as this process: its holds are a sample of all.
//! 4. Where *all holds are elsewhere*, or more must end than holds now, units come free at the rate
//!    `in_use / length` (Little's law), with the mean length of those that one who comes at some
//!    instant finds in progress: `sum(s^2) / sum(s)`, weighted by time held and not by count
//!    (length-biased sampling, the inspection paradox: Feller, vol. II, I.4).
//!
//! 5. *Who needs all that holds now, and more*, waits in rounds of that length. A hold that hangs does not
//!    end a round: its units may come last, while those of the others come free again and again. Only
//!    who wants so many units himself needs its.
//!
//! Each choice errs to the long side: who comes too early is turned away again and costs a turn;
//! who comes late finds a place.

use std::time::Duration;

/// No estimate is longer; with what is added at random no client is told more than 2 minutes.
pub(crate) const LONGEST: Duration = Duration::from_secs(96);
/// At random at least up to this is added, so that headers of whole seconds differ, too.
const LEAST_SPREAD: Duration = Duration::from_secs(2);
/// After how many seconds a hold that ended counts half.
const HALF_LIFE: f64 = 120.0;
/// EndedHolds from 1 ms to over two hours, by powers of two.
const BUCKETS: f64 = 24.0;

/// A hold that has not ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PresentHold {
    /// In seconds.
    pub(crate) age: f64,
    pub(crate) units: f64,
}

/// How long the holds were that ended, in seconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct EndedHolds {
    buckets: Vec<Bucket>,
}

/// Holds of about the same length.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Bucket {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Bucket {
    fn mean(&self) -> f64 {
        if self.count > 0.0 { self.sum / self.count } else { 0.0 }
    }
}

impl EndedHolds {
    pub(crate) fn record(&mut self, length: f64) {
        let length = length.min(1e9); // some decades: squares stay finite
        let bucket = (length * 1000.0).log2().clamp(0.0, BUCKETS - 1.0) as usize;
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, Bucket::default());
        }
        if let Some(bucket) = self.buckets.get_mut(bucket) {
            bucket.count += 1.0;
            bucket.sum += length;
            bucket.squares += length * length;
        }
    }

    /// So many seconds went by.
    pub(crate) fn fade(&mut self, seconds: f64) {
        let rest = (-seconds / HALF_LIFE).exp2();
        for bucket in &mut self.buckets {
            bucket.count *= rest;
            bucket.sum *= rest;
            bucket.squares *= rest;
        }
    }

    /// The mean weighted by time held.
    fn length(&self) -> f64 {
        let sum: f64 = self.buckets.iter().map(|bucket| bucket.sum).sum();
        let squares: f64 = self.buckets.iter().map(|bucket| bucket.squares).sum();
        if sum > 0.0 { squares / sum } else { 0.0 }
    }

    /// When a hold may end, and how likely each is. None if it has outlived all that ended.
    fn ends(&self, age: f64) -> impl Iterator<Item = (f64, f64)> {
        let longer = move |bucket: &&Bucket| bucket.mean() > age;
        let all: f64 = self.buckets.iter().filter(longer).map(|bucket| bucket.count).sum();
        let buckets = self.buckets.iter().filter(longer);
        buckets.map(move |bucket| (bucket.mean() - age, bucket.count / all))
    }
}

/// How full a semaphore is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Occupancy {
    /// Taken to be full where that is not known.
    pub(crate) in_use: Option<u64>,
    pub(crate) limit: u32,
}

/// In what time one who stands behind `ahead` others may expect `units` units.
pub(crate) fn estimate(
    lengths: &EndedHolds,
    holders: &[PresentHold],
    room: Occupancy,
    ahead: u64,
    units: u32,
) -> Duration {
    let limit = f64::from(room.limit);
    let in_use = room.in_use.map_or(limit, |in_use| in_use as f64);
    let needed = ahead as f64 + f64::from(units) + in_use - limit;
    if room.limit == 0 {
        return LONGEST; // paused: no end of a hold lets anybody in
    }
    if needed <= 0.0 || in_use <= 0.0 {
        return Duration::ZERO;
    }
    let length = lengths.length().max(median_age(holders));
    let ends = ends(lengths, holders);
    let first = |share: f64| match share {
        share if share <= 0.0 => 0.0,
        share => reaching(share * units_of(&ends), &ends).unwrap_or(share * length),
    };
    // A share of more than 1 is several rounds of holders.
    let share = needed / in_use;
    let rounds = (share.ceil() - 1.0).max(0.0);
    let in_turn = rounds * length + first(share - rounds);
    // A hold that hangs does not end a round: what has come free first comes free again.
    let in_next = (rounds + 1.0) * length + first(f64::MIN_POSITIVE);
    // But its own units must be free at once.
    let own = first((f64::from(units) + in_use - limit) / in_use);
    Duration::try_from_secs_f64(in_turn.min(in_next).max(own)).unwrap_or(LONGEST).min(LONGEST)
}

/// When the units held by these are expected to have come free, and how many at each time, in order.
fn ends(lengths: &EndedHolds, holders: &[PresentHold]) -> Vec<(f64, f64)> {
    let median = median_age(holders);
    let mut ends: Vec<(f64, f64)> = Vec::with_capacity(holders.len());
    for &PresentHold { age, units } in holders {
        let known = ends.len();
        ends.extend(lengths.ends(age).map(|(end, likely)| (end, likely * units)));
        if ends.len() == known {
            ends.push((age.max(median - age), units));
        }
    }
    in_order(ends)
}

fn median_age(holders: &[PresentHold]) -> f64 {
    let ages = in_order(holders.iter().map(|holder| (holder.age, holder.units)).collect());
    reaching(units_of(&ages) / 2.0, &ages).unwrap_or(0.0)
}

fn in_order(mut values: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    values.sort_unstable_by(|(one, _), (other, _)| one.total_cmp(other));
    values
}

fn units_of(values: &[(f64, f64)]) -> f64 {
    values.iter().map(|(_, units)| units).sum()
}

/// Where the weights, summed up in the order of the values, reach so much; what lacks no more than a
/// tenth of a unit, an end that is all but certain, does.
fn reaching(enough: f64, values: &[(f64, f64)]) -> Option<f64> {
    let mut sum = 0.0;
    let enough = enough - enough.min(1.0) / 10.0;
    let reached = values.iter().find(|(_, weight)| {
        sum += weight;
        sum >= enough
    });
    reached.or(values.last()).map(|(value, _)| *value)
}

/// What a client is told: no less than the estimate, nor than `floor`, and up to a quarter more, or
/// 2 s, as `luck` from 0 to 1 has it: those who were told at once do not come back at once.
pub(crate) fn told(estimate: Duration, floor: Duration, luck: f64) -> Duration {
    let least = estimate.max(floor);
    least.saturating_add((least / 4).max(LEAST_SPREAD).mul_f64(luck))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holders(ages: &[f64]) -> Vec<PresentHold> {
        ages.iter().map(|&age| PresentHold { age, units: 1.0 }).collect()
    }

    fn ended(lengths: &[f64]) -> EndedHolds {
        let mut all = EndedHolds::default();
        lengths.iter().for_each(|length| all.record(*length));
        all
    }

    const fn room(in_use: u64, limit: u32) -> Occupancy {
        Occupancy { in_use: Some(in_use), limit }
    }

    /// What is expected, in seconds: how long holds were, how old those are that last, how full it
    /// is, how many are ahead, and how many units are wanted.
    #[track_caller]
    fn assert_waits(
        expected: f64,
        lengths: &[f64],
        ages: &[f64],
        room: Occupancy,
        ahead: u64,
        units: u32,
    ) {
        let found = estimate(&ended(lengths), &holders(ages), room, ahead, units).as_secs_f64();
        assert!((found - expected).abs() < 1e-3, "{found} s, not {expected} s");
    }

    #[test]
    fn before_any_hold_has_ended_present_ones_last_as_long_again_as_they_have() {
        assert_waits(0.0, &[], &[], room(4, 4), 0, 1);
        assert_waits(0.0, &[], &[0.0; 4], room(4, 4), 0, 1);
        assert_waits(20.0, &[], &[20.0; 4], room(4, 4), 0, 1);
        assert_waits(50.0, &[], &[50.0], room(1, 1), 0, 1);
        // One that just came is no sign that holds end soon.
        assert_waits(19.0, &[], &[20.0, 20.0, 20.0, 1.0], room(4, 4), 0, 1);
        // Nor is one that hangs a sign that they do not.
        assert_waits(5.0, &[], &[3000.0, 5.0, 6.0, 7.0], room(4, 4), 0, 1);
    }

    #[test]
    fn holds_that_began_together_end_together_and_others_one_by_one() {
        let began_one_by_one = [0.0, 15.0, 30.0, 45.0];
        assert_waits(40.0, &[60.0], &[20.0; 4], room(4, 4), 0, 1);
        assert_waits(40.0, &[60.0], &[20.0; 4], room(4, 4), 3, 1);
        assert_waits(15.0, &[60.0], &began_one_by_one, room(4, 4), 0, 1);
        assert_waits(45.0, &[60.0], &began_one_by_one, room(4, 4), 2, 1);
        assert_waits(45.0, &[60.0], &began_one_by_one, room(4, 4), 0, 3);
        // The next round of holders.
        assert_waits(25.0, &[20.0], &[15.0; 4], room(4, 4), 4, 1);
        assert_waits(65.0, &[20.0], &[15.0; 4], room(4, 4), 15, 1);
    }

    #[test]
    fn quick_responses_say_nothing_of_streams_that_have_outlived_them() {
        let mut lengths = vec![0.01; 1000];
        assert_waits(30.0, &lengths, &[30.0; 4], room(4, 4), 0, 1);
        lengths.insert(500, 60.0);
        assert_waits(30.0, &lengths, &[30.0; 4], room(4, 4), 0, 1);
        // But those that have just come are most likely quick.
        assert_waits(0.01, &lengths, &[30.0, 30.0, 30.0, 0.0], room(4, 4), 0, 1);
        // Of those elsewhere the age is not known: most of the time is held by the long ones.
        let found = estimate(&ended(&lengths), &[], room(4, 4), 0, 1).as_secs_f64();
        assert!((12.0..15.0).contains(&found), "{found}");
    }

    #[test]
    fn nobody_is_told_less_for_standing_further_back_or_wanting_more() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut seconds = || 10_f64.powf(4.0 * random.f64() - 1.0);
        for n in 0..200_u32 {
            let (ages, lengths) = (1 + n % 8, n % 21);
            let holders = holders(&(0..ages).map(|_| seconds()).collect::<Vec<_>>());
            let lengths = ended(&(0..lengths).map(|_| seconds()).collect::<Vec<_>>());
            let wait =
                |ahead, units| estimate(&lengths, &holders, room(ages.into(), ages), ahead, units);
            for ahead in 0..24 {
                for units in 1..=ages {
                    let told = wait(ahead, units);
                    assert!(told <= wait(ahead + 1, units), "{ahead} ahead, {units}: {holders:?}");
                    assert!(units == ages || told <= wait(ahead, units + 1), "{ahead}, {units}");
                }
            }
        }
        // What the quick ones had is free again sooner than what the one that hangs has.
        assert_waits(11.0, &[], &[3000.0, 5.0, 6.0, 7.0], room(4, 4), 3, 1);
        assert_waits(11.0, &[], &[3000.0, 5.0, 6.0, 7.0], room(4, 4), 4, 1);
        // Who wants all needs that one, too.
        assert_waits(96.0, &[], &[3000.0, 5.0, 6.0, 7.0], room(4, 4), 0, 4);
    }

    #[test]
    fn one_that_hangs_does_not_hide_that_others_end() {
        let lengths = [&[10.0; 100][..], &[3600.0]].concat();
        assert_waits(2.0, &lengths, &[7200.0, 2.0, 4.0, 8.0], room(4, 4), 0, 1);
        // Sixty WebSockets and forty requests a second.
        let ages = [[3600.0; 60].as_slice(), &[0.05; 40]].concat();
        assert_waits(0.05, &[0.1; 100], &ages, room(100, 100), 0, 1);
    }

    /// Where the end of a hold has nothing to do with its age, one of n ends in a nth of the mean.
    #[test]
    fn of_many_that_may_end_at_any_time_one_ends_soon() {
        let quantile = |n: u32| -30.0 * (1.0 - (f64::from(n) + 0.5) / 1000.0).ln();
        let lengths: Vec<_> = (0..1000).map(quantile).collect();
        let ages: Vec<_> = lengths.iter().step_by(16).copied().collect();
        let n = ages.len() as u64;
        let found = estimate(&ended(&lengths), &holders(&ages), room(n, n as u32), 0, 1);
        assert!((0.1..3.0).contains(&found.as_secs_f64()), "{found:?}, not about 0.5 s");
    }

    #[test]
    fn what_is_elsewhere_is_as_what_is_here_or_ends_evenly() {
        assert_waits(15.0, &[60.0], &[], room(4, 4), 0, 1);
        assert_waits(3.0, &[2.0], &[], room(4, 4), 5, 1);
        assert_waits(20.0, &[60.0], &[10.0, 40.0], room(8, 8), 0, 1);
        assert_waits(50.0, &[60.0], &[10.0, 40.0], room(8, 8), 4, 1);
        // How full it is is not known: as if it were full.
        assert_waits(10.0, &[60.0], &[], Occupancy { in_use: None, limit: 6 }, 0, 1);
    }

    #[test]
    fn the_limit_says_how_much_must_end() {
        let ages = [1.0, 3.0, 5.0, 7.0];
        // It was lowered: the surplus ends first.
        assert_waits(5.0, &[8.0], &ages, room(4, 2), 0, 1);
        // Who wants all of it waits until nothing is in use; who wants less finds room.
        assert_waits(7.0, &[8.0], &[1.0, 3.0], room(2, 8), 0, 8);
        assert_waits(0.0, &[8.0], &[1.0, 3.0], room(2, 8), 0, 1);
        // Paused.
        assert_waits(96.0, &[1.0], &[], room(0, 0), 0, 1);
    }

    #[test]
    fn a_heavy_holder_frees_all_its_units_at_once() {
        let holders = [PresentHold { age: 5.0, units: 3.0 }, PresentHold { age: 8.0, units: 1.0 }];
        let wait = |units| estimate(&ended(&[10.0]), &holders, room(4, 4), 0, units).as_secs();
        assert_eq!([1, 2, 3, 4].map(wait), [2, 5, 5, 5]);
    }

    #[test]
    fn what_was_usual_long_ago_gives_way() {
        let mut lengths = ended(&[60.0; 100]);
        lengths.fade(1200.0);
        (0..10).for_each(|_| lengths.record(10.0));
        let wait = estimate(&lengths, &holders(&[5.0; 4]), room(4, 4), 0, 1);
        assert_eq!(wait.as_secs(), 5);
    }

    #[test]
    fn no_hold_is_too_long_or_too_short_for_it() {
        let longest = Duration::MAX.as_secs_f64();
        assert_waits(96.0, &[longest; 10], &[longest], room(1, 1), u64::MAX, u32::MAX);
        assert_waits(0.0, &[0.0], &[0.0], room(1, 1), 0, 1);
        let mut faded = ended(&[1.0]);
        faded.fade(longest);
        assert_eq!(estimate(&faded, &holders(&[3.0]), room(1, 1), 0, 1).as_secs(), 3);
    }

    #[test]
    fn no_client_is_told_less_than_the_estimate_or_the_floor_and_none_much_more() {
        let secs = Duration::from_secs;
        for (estimate, floor, least, most) in [
            (0, 1, 1, 3),
            (1, 0, 1, 3),
            (0, 0, 0, 2),
            (20, 1, 20, 25),
            (20, 30, 30, 38),
            (96, 1, 96, 120),
            (96, 600, 600, 750),
        ] {
            for luck in [0.0, 0.3, 0.999] {
                let told = told(secs(estimate), secs(floor), luck);
                assert!((secs(least)..secs(most)).contains(&told), "{estimate} {floor}: {told:?}");
            }
        }
        assert_eq!(told(Duration::MAX, secs(0), 0.9), Duration::MAX);
    }
}
