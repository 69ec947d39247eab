//! The scores of permits: twice the deadline in milliseconds, and one more once a permit is kicked.
//! So a kicked permit stands half a millisecond behind its deadline, as in Redis.

/// Returns the score of a permit that is not kicked.
pub(super) fn deadline_score(deadline: u64) -> u64 {
    2 * deadline
}

/// Returns the deadline of a score; the mark of a kick counts as a millisecond that has begun.
pub(super) fn deadline_of(score: u64) -> u64 {
    score.div_ceil(2)
}

pub(super) fn kicked(score: u64) -> u64 {
    score | 1
}

pub(super) fn is_kicked(score: u64) -> bool {
    score % 2 == 1
}
