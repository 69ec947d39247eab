//! How far a name was over its limit where acknowledged writes may have been lost.

/// A cause by which acknowledged writes may be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause {
    pub kind: &'static str,
    /// Whether the numbers that were given out may be forgotten, too, so that tokens fall.
    pub forgets_numbers: bool,
}

/// A stretch of time in which some holders may not know yet that the write about them was lost.
#[derive(Clone, Copy, Debug)]
pub struct Excuse {
    from: u64,
    to: u64,
    /// Until when tokens may be lower than before.
    tokens_to: u64,
    cause: Cause,
}

/// How often, by how much and for how long, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Excess {
    pub times: u64,
    pub most_units: u64,
    pub longest: u64,
    pub total: u64,
    pub fallen_tokens: u64,
    pub missing_permits: u64,
}

impl Excess {
    pub fn add(&mut self, other: Self) {
        self.fallen_tokens += other.fallen_tokens;
        self.missing_permits += other.missing_permits;
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
    measure: Measure,
}

/// What was measured, by cause.
#[derive(Default)]
pub struct Measure {
    taken: Vec<(&'static str, Excess)>,
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

impl Measure {
    pub fn count(&mut self, kind: &'static str, excess: Excess) {
        self.taken.push((kind, excess));
    }

    /// The name was over its limit by so many units.
    pub fn over(&mut self, kind: &'static str, from: u64, to: u64, units: u64) {
        let goes_on = self.last.filter(|last| last.to == from);
        let began = goes_on.map_or(from, |last| last.from);
        let units = units.max(goes_on.map_or(0, |last| last.units));
        let excess = Excess {
            times: u64::from(goes_on.is_none()),
            most_units: units,
            longest: to - began,
            total: to - from,
            ..Excess::default()
        };
        self.count(kind, excess);
        self.last = Some(Stretch { from: began, to, units });
    }

    pub fn take(&mut self) -> Vec<(&'static str, Excess)> {
        std::mem::take(&mut self.taken)
    }
}

impl Excuses {
    pub fn begin(&mut self, from: u64, cause: Cause) {
        self.all.push(Excuse { from, to: u64::MAX, tokens_to: u64::MAX, cause });
    }

    /// `to` is when all holders know, `tokens_to` when tokens are above all those before again.
    pub fn end(&mut self, to: u64, tokens_to: u64) {
        for excuse in self.all.iter_mut().filter(|excuse| excuse.to == u64::MAX) {
            (excuse.to, excuse.tokens_to) = (to, tokens_to);
        }
    }

    /// A token was given twice, or fell. Returns whether that is excused for a grant between the two.
    pub fn excuses_token(&mut self, from: u64, to: u64) -> bool {
        let within = |excuse: &&Excuse| excuse.from <= to && from <= excuse.tokens_to;
        let mut all = self.all.iter().filter(|excuse| excuse.cause.forgets_numbers);
        let Some(excuse) = all.find(within) else { return false };
        let fallen = Excess { fallen_tokens: 1, ..Excess::default() };
        self.measure.count(excuse.cause.kind, fallen);
        true
    }

    /// The store did not know a permit that was held from one instant to the other. Returns whether that is
    /// excused. Where there is always room, it is put back, unless older copies of keys were put in place.
    pub fn excuses_missing(&mut self, from: u64, to: u64, is_roomy: bool) -> bool {
        let within = |excuse: &&Excuse| {
            excuse.from <= to && from <= excuse.to && (!is_roomy || excuse.cause.forgets_numbers)
        };
        let Some(excuse) = self.all.iter().find(within) else { return false };
        let missing = Excess { missing_permits: 1, ..Excess::default() };
        self.measure.count(excuse.cause.kind, missing);
        true
    }

    pub fn covers(&self, at: u64) -> bool {
        self.all.iter().any(|excuse| excuse.from <= at && at <= excuse.to)
    }

    /// The name was over its limit by so many units. Returns the first instant that no excuse covers, if any.
    pub fn over(&mut self, from: u64, to: u64, units: u64) -> Option<u64> {
        let excuse = self.all.iter().find(|excuse| excuse.from <= from && from <= excuse.to)?;
        self.measure.over(excuse.cause.kind, from, to, units);
        (to > excuse.to).then_some(excuse.to)
    }

    pub fn take(&mut self) -> Vec<(&'static str, Excess)> {
        self.measure.take()
    }

    pub fn forget_before(&mut self, old: u64) {
        self.all.retain(|excuse| excuse.to.max(excuse.tokens_to) > old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KILLED: Cause = Cause { kind: "killed", forgets_numbers: false };

    #[test]
    fn a_stretch_that_is_judged_in_two_steps_is_one() {
        let mut excuses = Excuses::default();
        excuses.begin(10, KILLED);
        assert!(excuses.covers(20) && !excuses.covers(9));
        assert_eq!(excuses.over(20, 30, 1), None);
        assert_eq!(excuses.over(30, 45, 2), None);
        assert_eq!(excuses.over(50, 51, 1), None);
        let mut sum = Excess::default();
        excuses.take().into_iter().for_each(|(_, excess)| sum.add(excess));
        assert_eq!(sum, Excess { times: 2, most_units: 2, longest: 25, total: 26, ..sum });
    }

    #[test]
    fn what_outlives_its_excuse_is_told() {
        let mut excuses = Excuses::default();
        excuses.begin(10, KILLED);
        excuses.end(40, 40);
        assert_eq!(excuses.over(20, 40, 1), None);
        assert_eq!(excuses.over(20, 41, 1), Some(40));
        assert!(!excuses.covers(41));
    }

    #[test]
    fn tokens_may_fall_only_where_numbers_are_forgotten_and_for_longer() {
        let mut killed = Excuses::default();
        killed.begin(10, KILLED);
        assert!(!killed.excuses_token(20, 30) && killed.excuses_missing(20, 30, false));
        assert!(!killed.excuses_missing(20, 30, true));
        let mut given_up = Excuses::default();
        given_up.begin(10, Cause { kind: "given up", forgets_numbers: true });
        given_up.end(40, 60);
        for (from, to, tokens, missing) in [
            (1, 9, false, false),
            (1, 10, true, true),
            (40, 70, true, true),
            (41, 70, true, false),
            (61, 70, false, false),
        ] {
            assert_eq!(given_up.excuses_token(from, to), tokens, "{from} to {to}");
            assert_eq!(given_up.excuses_missing(from, to, true), missing, "{from} to {to}");
        }
        let mut sum = Excess::default();
        given_up.take().into_iter().for_each(|(_, excess)| sum.add(excess));
        assert_eq!((sum.fallen_tokens, sum.missing_permits), (3, 2));
    }
}
