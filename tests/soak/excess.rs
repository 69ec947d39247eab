//! How far a name was over its limit where acknowledged writes may have been lost.

/// A stretch of time in which some holders may not know yet that the write about them was lost.
#[derive(Clone, Copy, Debug)]
pub struct Excuse {
    from: u64,
    to: u64,
    kind: &'static str,
}

/// How often, by how much and for how long, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Excess {
    pub times: u64,
    pub most_units: u64,
    pub longest: u64,
    pub total: u64,
}

impl Excess {
    pub fn add(&mut self, other: Self) {
        self.times += other.times;
        self.most_units = self.most_units.max(other.most_units);
        self.longest = self.longest.max(other.longest);
        self.total += other.total;
    }
}

/// The excuses of one name, and what was over its limit under each.
#[derive(Default)]
pub struct Excuses {
    all: Vec<Excuse>,
    measured: Vec<(&'static str, Excess)>,
    /// A stretch over the limit that was judged up to its end, and may go on from there.
    last: Option<Stretch>,
}

/// A stretch of time in which the name is over its limit.
#[derive(Clone, Copy)]
struct Stretch {
    from: u64,
    to: u64,
    units: u64,
}

impl Excuses {
    pub fn begin(&mut self, from: u64, kind: &'static str) {
        self.all.push(Excuse { from, to: u64::MAX, kind });
    }

    pub fn end(&mut self, to: u64) {
        for excuse in self.all.iter_mut().filter(|excuse| excuse.to == u64::MAX) {
            excuse.to = to;
        }
    }

    pub fn covers(&self, at: u64) -> bool {
        self.all.iter().any(|excuse| excuse.from <= at && at <= excuse.to)
    }

    /// The name was over its limit by so many units. Returns the first instant that no excuse covers, if any.
    pub fn over(&mut self, from: u64, to: u64, units: u64) -> Option<u64> {
        let excuse = self.all.iter().find(|excuse| excuse.from <= from && from <= excuse.to)?;
        let goes_on = self.last.filter(|last| last.to == from);
        let began = goes_on.map_or(from, |last| last.from);
        let units = units.max(goes_on.map_or(0, |last| last.units));
        let excess = Excess {
            times: u64::from(goes_on.is_none()),
            most_units: units,
            longest: to - began,
            total: to - from,
        };
        self.measured.push((excuse.kind, excess));
        self.last = Some(Stretch { from: began, to, units });
        (to > excuse.to).then_some(excuse.to)
    }

    pub fn take(&mut self) -> Vec<(&'static str, Excess)> {
        std::mem::take(&mut self.measured)
    }

    pub fn forget_before(&mut self, old: u64) {
        self.all.retain(|excuse| excuse.to > old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_that_is_judged_in_two_steps_is_one() {
        let mut excuses = Excuses::default();
        excuses.begin(10, "killed");
        assert!(excuses.covers(20) && !excuses.covers(9));
        assert_eq!(excuses.over(20, 30, 1), None);
        assert_eq!(excuses.over(30, 45, 2), None);
        assert_eq!(excuses.over(50, 51, 1), None);
        let mut sum = Excess::default();
        excuses.take().into_iter().for_each(|(_, excess)| sum.add(excess));
        assert_eq!(sum, Excess { times: 2, most_units: 2, longest: 25, total: 26 });
    }

    #[test]
    fn what_outlives_its_excuse_is_told() {
        let mut excuses = Excuses::default();
        excuses.begin(10, "killed");
        excuses.end(40);
        assert_eq!(excuses.over(20, 40, 1), None);
        assert_eq!(excuses.over(20, 41, 1), Some(40));
        assert!(!excuses.covers(41));
    }
}
