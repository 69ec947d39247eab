//! What is known of a semaphore from answered turns. Pure.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::numbers::{Incarnation, Seq};
use crate::store::TurnReply;

/// The number of recent turns that are remembered, so that a claim counts from the latest possible one.
const ANSWERED: usize = 8;

/// An answered turn: when it was sent, and the last number that the store had given out after it.
#[derive(Debug, Clone, Copy)]
pub(super) struct AnsweredTurn {
    pub(super) sent: Instant,
    pub(super) last: Option<Seq>,
}

impl AnsweredTurn {
    /// Returns whether the turn ran before the grant with this token. The numbers that the store gives out
    /// rise, so a grant whose token is above `last` came later.
    fn ran_before(&self, token: Seq) -> bool {
        self.last < Some(token)
    }
}

/// What a reply shows about the store's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Data {
    /// The store has data. This is the first reply.
    New,
    Kept,
    /// It was lost since the last answer.
    Lost,
}

#[derive(Debug, Default)]
pub(super) struct Known {
    incarnation: Option<Incarnation>,
    last_seen: Option<Seq>,
    limit_override: Option<u32>,
    /// Units in use and the limit.
    counts: Option<(u64, u32)>,
    answered: VecDeque<AnsweredTurn>,
}

impl Known {
    /// Notes the part that each reply has.
    pub(super) fn note(&mut self, reply: &TurnReply, sent: Instant) -> Data {
        let before = self.incarnation.replace(reply.incarnation);
        self.last_seen = self.last_seen.max(reply.last);
        self.limit_override = reply.overridden.then_some(reply.limit);
        self.counts = Some((reply.in_use, reply.limit));
        if self.answered.len() == ANSWERED {
            self.answered.pop_front();
        }
        self.answered.push_back(AnsweredTurn { sent, last: reply.last });
        match before {
            None => Data::New,
            Some(before) if before == reply.incarnation => Data::Kept,
            Some(_) => Data::Lost,
        }
    }

    /// Returns from when the claim of a waiter counts, if its wake-up has this token. Returns `None` if the
    /// wake-up is older than `queued`, the last turn that answered "queued" for the waiter.
    ///
    /// **Lemma: any turn answered with `last < token` ran before the grant.** The lease cannot have begun
    /// before such a turn was sent. The latest such turn gives the longest local lease.
    pub(super) fn counted_from(&self, token: Seq, queued: AnsweredTurn) -> Option<Instant> {
        let before = self.answered.iter().filter(|turn| turn.ran_before(token));
        let latest = before.map(|turn| turn.sent).fold(queued.sent, Instant::max);
        queued.ran_before(token).then_some(latest)
    }

    pub(super) fn incarnation(&self) -> Option<Incarnation> {
        self.incarnation
    }

    pub(super) fn last_seen(&self) -> Option<Seq> {
        self.last_seen
    }

    pub(super) fn limit_override(&self) -> Option<u32> {
        self.limit_override
    }

    #[cfg(feature = "tower")]
    pub(super) fn counts(&self) -> Option<(u64, u32)> {
        self.counts
    }
}
