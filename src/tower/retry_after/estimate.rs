//! The estimate for `Retry-After`. Pure.
//!
//! # The estimate
//!
//! A rejected request needs its own units, one unit for each request ahead of it, and those that are in
//! use above a lowered limit, less the free units. The estimate is the time in which that many of the
//! units in use are expected to become free:
//!
//! 1. *A present hold of age `a`* ends within `t` as often as holds that lasted longer than `a` ended
//!    before `a + t`: the empirical survival function, given the age. Quick responses say nothing about a
//!    stream that has outlived them, however many they are.
//! 2. *A hold that has outlived all that have ended* is expected to last for as long again: in
//!    equilibrium the remaining time of a hold is distributed as its age (Feller, "An Introduction to
//!    Probability Theory and Its Applications", vol. II, XI.4). It is not expected to end before it has
//!    reached the median age of the present holds either, since each of those shows that holds get that
//!    old.
//! 3. *The rest of the cluster* is like this process: the holds of this process are a sample of all.
//! 4. *If all holds are elsewhere*, or more must end than are held now, units become free at the rate
//!    `in_use / length` (Little's law). `length` is the mean length of the holds that an observer finds in
//!    progress at some instant, `sum(s^2) / sum(s)`. It is weighted by time held and not by count
//!    (length-biased sampling, the inspection paradox: Feller, vol. II, I.4).
//! 5. *A request that needs more units than are held now* waits for rounds of that length. A hold that
//!    hangs does not end a round: its units may become free last, while the others become free again and
//!    again. Only a request that wants that many units itself needs those of the hanging hold.
//!
//! Each choice makes the estimate too long rather than too short. A client that comes too early is rejected
//! again and costs a turn; a client that comes late gets its permit.

use std::time::Duration;

use super::ended_holds::EndedHolds;

/// The longest estimate. With the random part no client is told more than 2 minutes.
pub(super) const LONGEST: Duration = Duration::from_secs(96);

/// A hold that has not ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct PresentHold {
    /// In seconds.
    pub(super) age: f64,
    pub(super) units: f64,
}

/// How full a semaphore is, as far as this process knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Occupancy {
    /// `None` if the store has not said; then the semaphore counts as full.
    pub(crate) in_use: Option<u64>,
    pub(crate) limit: u32,
}

/// Returns the expected time until a request for `units` units, with `ahead` requests ahead of it, gets
/// them.
pub(super) fn estimate(
    ended: &EndedHolds,
    present: &[PresentHold],
    occupancy: Occupancy,
    ahead: u64,
    units: u32,
) -> Duration {
    if occupancy.limit == 0 {
        // Paused: no end of a hold lets anybody in.
        return LONGEST;
    }
    let limit = f64::from(occupancy.limit);
    let in_use = occupancy.in_use.map_or(limit, |in_use| in_use as f64);
    let needed = ahead as f64 + f64::from(units) + in_use - limit;
    if needed <= 0.0 || in_use <= 0.0 {
        return Duration::ZERO;
    }
    let length = ended.mean_by_time().max(median_age(present));
    let ends = ends(ended, present);
    let first = |share: f64| match share {
        share if share <= 0.0 => 0.0,
        share => reaching(share * units_of(&ends), &ends).unwrap_or(share * length),
    };
    // A share of more than 1 takes several rounds of holds.
    let share = needed / in_use;
    let rounds = (share.ceil() - 1.0).max(0.0);
    let in_turn = rounds * length + first(share - rounds);
    // A hold that hangs does not end a round: units that became free first become free again.
    let in_next = (rounds + 1.0) * length + first(f64::MIN_POSITIVE);
    // But the units of one request must be free at the same time.
    let own = first((f64::from(units) + in_use - limit) / in_use);
    Duration::try_from_secs_f64(in_turn.min(in_next).max(own)).unwrap_or(LONGEST).min(LONGEST)
}

/// Returns the times at which the present holds are expected to end, in order, each with its units.
fn ends(ended: &EndedHolds, present: &[PresentHold]) -> Vec<(f64, f64)> {
    let median = median_age(present);
    let mut ends: Vec<(f64, f64)> = Vec::with_capacity(present.len());
    for &PresentHold { age, units } in present {
        let known = ends.len();
        ends.extend(ended.ends_after(age).map(|(end, likely)| (end, likely * units)));
        if ends.len() == known {
            ends.push((age.max(median - age), units));
        }
    }
    in_order(ends)
}

fn median_age(present: &[PresentHold]) -> f64 {
    let ages = in_order(present.iter().map(|hold| (hold.age, hold.units)).collect());
    reaching(units_of(&ages) / 2.0, &ages).unwrap_or(0.0)
}

fn in_order(mut values: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    values.sort_unstable_by(|(one, _), (other, _)| one.total_cmp(other));
    values
}

fn units_of(values: &[(f64, f64)]) -> f64 {
    values.iter().map(|(_, units)| units).sum()
}

/// Returns the value at which the sum of the weights, in the order of the values, reaches `enough`. A tenth
/// of a unit may be missing, since an end is then almost certain.
fn reaching(enough: f64, values: &[(f64, f64)]) -> Option<f64> {
    let mut sum = 0.0;
    let enough = enough - enough.min(1.0) / 10.0;
    let reached = values.iter().find(|(_, weight)| {
        sum += weight;
        sum >= enough
    });
    reached.or(values.last()).map(|(value, _)| *value)
}
