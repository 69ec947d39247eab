//! What the store was told of this client: the highest limit of its handles, and its label. Pure.

use tokio::time::Instant;

use crate::numbers::Incarnation;
use crate::store::FORGET_AFTER;

/// The last declaration that an answered turn has confirmed.
#[derive(Debug, Default)]
pub(super) struct Declaration {
    confirmed: Option<Confirmed>,
}

#[derive(Debug)]
struct Confirmed {
    limit: u32,
    /// Data of another incarnation does not have the declaration.
    incarnation: Incarnation,
    sent: Instant,
}

impl Declaration {
    /// Returns whether the next turn has to declare. A busy client declares again after a third of the time
    /// after which the store would forget it.
    pub(super) fn is_due(
        &self,
        limit: u32,
        incarnation: Option<Incarnation>,
        now: Instant,
    ) -> bool {
        !self.confirmed.as_ref().is_some_and(|confirmed| {
            let age = now.saturating_duration_since(confirmed.sent);
            confirmed.limit == limit
                && Some(confirmed.incarnation) == incarnation
                && age < FORGET_AFTER.duration() / 3
        })
    }

    /// A turn that declared this limit was answered.
    pub(super) fn confirm(&mut self, limit: u32, incarnation: Incarnation, sent: Instant) {
        self.confirmed = Some(Confirmed { limit, incarnation, sent });
    }

    /// The label has changed.
    pub(super) fn retract(&mut self) {
        self.confirmed = None;
    }
}
