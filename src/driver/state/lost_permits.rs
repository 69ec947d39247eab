//! What is logged of permits that were lost: how many, why, and which one was granted first. Pure.

use std::fmt;

use crate::hold::Hold;
use crate::id::PermitId;
use crate::lost_reason::LostReason;
use crate::numbers::Seq;

#[derive(Debug, Default)]
pub(crate) struct LostPermits {
    /// How many, by reason.
    counts: Vec<(LostReason, usize)>,
    /// The token and the id of the one that was granted first.
    oldest: Option<(Seq, PermitId)>,
}

impl LostPermits {
    pub(super) fn note(&mut self, hold: &Hold, reason: LostReason) {
        self.count(reason, 1);
        self.note_oldest((hold.token, hold.id));
    }

    /// Adds those of another semaphore. Returns whether the oldest is one of them.
    pub(crate) fn add(&mut self, other: Self) -> bool {
        for (reason, count) in other.counts {
            self.count(reason, count);
        }
        other.oldest.is_some_and(|oldest| self.note_oldest(oldest))
    }

    fn count(&mut self, reason: LostReason, more: usize) {
        match self.counts.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += more,
            None => self.counts.push((reason, more)),
        }
    }

    fn note_oldest(&mut self, one: (Seq, PermitId)) -> bool {
        let is_older = self.oldest.is_none_or(|(token, _)| one.0 < token);
        if is_older {
            self.oldest = Some(one);
        }
        is_older
    }

    pub(crate) fn len(&self) -> usize {
        self.counts.iter().map(|(_, count)| count).sum()
    }

    pub(crate) fn oldest(&self) -> Option<(Seq, PermitId)> {
        self.oldest
    }
}

impl fmt::Display for LostPermits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (reason, count)) in self.counts.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{count}: {reason}")?;
        }
        Ok(())
    }
}
