//! The ids that turns have removed last. A server that takes over with older data may still have them. Pure.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::compact_instant::CompactInstant;
use crate::id::PermitId;

use super::after_turn::AfterTurn;
use super::removal::{Removal, RemovalKind};

/// How many ids are remembered. At 1000 releases per second they cover a replica that lags by an eighth of a
/// second.
const REMEMBERED: usize = 128;
/// How many are remembered while nobody holds or waits.
const REMEMBERED_IDLE: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Removed {
    last: VecDeque<RemovedId>,
}

#[derive(Debug)]
struct RemovedId {
    id: PermitId,
    /// By then any server has forgotten the id.
    forget_at: CompactInstant,
}

impl Removed {
    /// A turn that removed these ids was answered.
    pub(super) fn remember<'a>(&mut self, removals: impl Iterator<Item = &'a Removal>) {
        for removal in removals {
            if self.last.len() == REMEMBERED {
                self.last.pop_front();
            }
            let forget_at = removal.forget_at.into();
            self.last.push_back(RemovedId { id: removal.id, forget_at });
        }
    }

    /// Takes out what is to be removed again, because the next turn may meet older data.
    pub(super) fn take(&mut self, after: AfterTurn) -> impl Iterator<Item = Removal> {
        std::mem::take(&mut self.last).into_iter().map(move |RemovedId { id, forget_at }| Removal {
            id,
            kind: RemovalKind::Cancel,
            after,
            forget_at: Instant::from(forget_at),
            retried: false,
            done: None,
        })
    }

    /// Gives back the memory of a burst, while nobody holds or waits.
    pub(super) fn shrink_idle(&mut self) {
        let more = self.last.len().saturating_sub(REMEMBERED_IDLE);
        if more > 0 {
            self.last.drain(..more);
            self.last.shrink_to_fit();
        }
    }
}
