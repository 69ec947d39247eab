//! The scores of permits: twice the deadline in milliseconds, plus 1 once the permit is kicked. So the score
//! of a kicked permit is half a millisecond after its deadline, as in Redis.

/// Returns the score of a permit that is not kicked.
pub(super) fn deadline_score(deadline: u64) -> u64 {
    2 * deadline
}

/// Returns the deadline of a score, rounded up to whole milliseconds if the permit is kicked.
pub(super) fn deadline_of(score: u64) -> u64 {
    score.div_ceil(2)
}

pub(super) fn kicked(score: u64) -> u64 {
    score | 1
}

pub(super) fn is_kicked(score: u64) -> bool {
    score % 2 == 1
}
