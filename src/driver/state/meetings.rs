//! What the first turn on a connection tells the store, because another server may have taken over. Pure.

use std::collections::BTreeMap;

use crate::numbers::{Incarnation, Millis};
use crate::store::Meeting;

#[derive(Debug, Default)]
pub(super) struct Meetings {
    /// The graces that the living handles want, with how many want each.
    graces: BTreeMap<Millis, usize>,
    /// What an answered turn has told on this connection.
    confirmed: Option<Confirmed>,
}

#[derive(Debug)]
struct Confirmed {
    grace: Millis,
    /// The incarnation of the reply.
    incarnation: Incarnation,
}

impl Meetings {
    pub(super) fn add_grace(&mut self, grace: Millis) {
        *self.graces.entry(grace).or_insert(0) += 1;
    }

    pub(super) fn remove_grace(&mut self, grace: Millis) {
        if let Some(count) = self.graces.get_mut(&grace) {
            *count -= 1;
            if *count == 0 {
                self.graces.remove(&grace);
            }
        }
    }

    /// Returns what the next turn has to tell. `known` is the incarnation of the last reply.
    pub(super) fn due(&self, known: Option<Incarnation>) -> Option<Meeting> {
        let grace = self.graces.keys().next_back().copied().unwrap_or(Millis::new(0));
        let told = self.confirmed.as_ref().is_some_and(|confirmed| {
            Some(confirmed.incarnation) == known && grace <= confirmed.grace
        });
        (!told).then_some(Meeting { known, grace, server: None })
    }

    /// A turn that told this was answered.
    pub(super) fn confirm(&mut self, told: Meeting, incarnation: Incarnation) {
        self.confirmed = Some(Confirmed { grace: told.grace, incarnation });
    }

    /// The next turn goes out on a new connection.
    pub(super) fn reconnected(&mut self) {
        self.confirmed = None;
    }
}
