//! Permits about which a new primary lacks the last word.
//!
//! A permit is *unbooked* from when the primary that knew it best is dead. The new one has it again once the holder
//! has put it back or renewed it, and nobody believes in it any more once its lease has ended. In between,
//! its units may be given to somebody else. So a name may be over its limit by the units of its unbooked permits at
//! most, and for as long as their leases at most: who is not unbooked is held against the limit all the
//! time. How much it was is measured over all.

use std::collections::HashMap;

use crate::excess::{Excess, Measure};

/// From when until when a permit is unbooked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Absence {
    pub from: u64,
    pub until: u64,
    pub kind: &'static str,
    /// Whether others may be given its units meanwhile. With a grace they may not.
    pub is_excused: bool,
}

/// A stretch in which somebody believes in some units.
#[derive(Clone, Copy, Debug)]
pub struct Belief {
    pub from: u64,
    pub until: u64,
    pub units: u64,
}

/// The unbooked permits of one name.
#[derive(Default)]
pub struct Unbooked {
    absences: HashMap<String, Vec<Absence>>,
    measure: Measure,
}

impl Unbooked {
    pub fn add(&mut self, id: &str, absence: Absence) {
        self.absences.entry(id.to_owned()).or_default().push(absence);
    }

    /// The primary has the permit again at `at`.
    pub fn booked(&mut self, id: &str, at: u64) {
        for absence in self.absences.get_mut(id).into_iter().flatten() {
            absence.until = absence.until.min(at.max(absence.from));
        }
    }

    /// The store does not know a permit any more. Returns whether it is one that a new primary lacked.
    pub fn excuses_missing(&mut self, id: &str) -> bool {
        let Some(absence) = self.absences.get(id).and_then(|all| all.last()) else { return false };
        self.measure.count(absence.kind, Excess { missing_permits: 1, ..Excess::default() });
        true
    }

    /// What is left of a stretch of this permit without those in which others may be given its units.
    pub fn cut(&self, id: &str, from: u64, until: u64) -> Vec<(u64, u64)> {
        let mut left = vec![(from, until)];
        let absences = self.absences.get(id).into_iter().flatten();
        for absence in absences.filter(|absence| absence.is_excused) {
            let without = |(from, until): (u64, u64)| {
                [(from, until.min(absence.from)), (from.max(absence.until), until)]
            };
            left =
                left.into_iter().flat_map(without).filter(|(from, until)| from < until).collect();
        }
        left
    }

    /// Whether any permit is unbooked between the two.
    pub fn concerns(&self, from: u64, to: u64) -> bool {
        self.absences.values().flatten().any(|one| one.from <= to && one.until >= from)
    }

    /// Measures how far these beliefs are over the limit between the two.
    pub fn measure(&mut self, limit: u64, beliefs: &[Belief], from: u64, to: u64) {
        for (since, until, units) in over(limit, beliefs, from, to) {
            let absences = self.absences.values().flatten();
            let kind = absences.filter(|one| one.from <= until).max_by_key(|one| one.from);
            if let Some(kind) = kind.map(|one| one.kind) {
                self.measure.over(kind, since, until, units);
            }
        }
    }

    pub fn take(&mut self) -> Vec<(&'static str, Excess)> {
        self.measure.take()
    }

    pub fn forget_before(&mut self, old: u64) {
        self.absences.retain(|_, all| all.iter().any(|absence| absence.until > old));
    }
}

/// The stretches within these bounds in which more than `limit` units are believed in, and by how many units.
fn over(limit: u64, beliefs: &[Belief], from: u64, to: u64) -> Vec<(u64, u64, u64)> {
    let mut edges = Vec::new();
    for belief in beliefs {
        let (begins, ends) = (belief.from.max(from), belief.until.min(to));
        if begins < ends {
            edges.extend([(begins, true, belief.units), (ends, false, belief.units)]);
        }
    }
    // At equal instants those who leave go first.
    edges.sort_unstable();
    let (mut units, mut stretches, mut open) = (0_u64, Vec::new(), None);
    for (at, enters, of) in edges {
        units = if enters { units + of } else { units - of };
        let excess = units.saturating_sub(limit);
        open = match open {
            Some((since, most)) if excess == 0 => {
                stretches.push((since, at, most));
                None
            }
            Some((since, most)) => Some((since, excess.max(most))),
            None => (excess > 0).then_some((at, excess)),
        };
    }
    stretches.retain(|(since, until, _)| since < until);
    stretches
}

#[cfg(test)]
mod tests {
    use super::*;

    const LACKED: Absence = Absence { from: 20, until: 60, kind: "overtaken", is_excused: true };

    #[test]
    fn an_unbooked_permit_is_left_out_until_it_is_booked_again() {
        let mut unbooked = Unbooked::default();
        unbooked.add("a", LACKED);
        unbooked.add("b", Absence { is_excused: false, ..LACKED });
        assert_eq!(unbooked.cut("a", 10, 90), [(10, 20), (60, 90)]);
        assert_eq!(unbooked.cut("a", 30, 50), []);
        assert_eq!(unbooked.cut("b", 10, 90), [(10, 90)]);
        assert_eq!(unbooked.cut("c", 10, 90), [(10, 90)]);
        unbooked.booked("a", 40);
        assert_eq!(unbooked.cut("a", 10, 90), [(10, 20), (40, 90)]);
        assert!(unbooked.excuses_missing("a") && !unbooked.excuses_missing("c"));
        unbooked.forget_before(50);
        assert_eq!(unbooked.cut("a", 10, 90), [(10, 90)]);
    }

    #[test]
    fn what_is_over_the_limit_is_measured_as_one_stretch_over_two_steps() {
        let mut unbooked = Unbooked::default();
        unbooked.add("a", LACKED);
        let belief = |from, until| Belief { from, until, units: 2 };
        let beliefs = [belief(10, 50), belief(30, 80)];
        unbooked.measure(3, &beliefs, 0, 40);
        unbooked.measure(3, &beliefs, 40, 100);
        let mut sum = Excess::default();
        unbooked.take().into_iter().for_each(|(_, excess)| sum.add(excess));
        let expected = Excess { times: 1, most_units: 1, longest: 20, total: 20, ..sum };
        assert_eq!(sum, expected);
    }
}
