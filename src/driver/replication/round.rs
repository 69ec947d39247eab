//! A round: the callers of a line who share one question. Pure.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::{StoreError, StoreErrorKind};
use crate::hold::Hold;
use crate::id::PermitId;
use crate::numbers::Replicas;
use crate::store::{Acknowledged, Grants};

/// How many callers share a question at the most. The server runs nothing else while it looks their grants up.
pub(super) const MOST: usize = 1_024;

/// The answer to a caller. An error that is not final says that the caller has to ask again.
pub(super) type Answer = Result<(), StoreError>;

/// A caller who waits until replicas have its grant.
#[derive(Debug)]
pub(super) struct Asker {
    pub(super) name: Arc<str>,
    pub(super) hold: Arc<Hold>,
    /// Dropped without an answer when the semaphore is closed.
    pub(super) done: oneshot::Sender<Answer>,
}

/// How far the replicas are behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lag {
    /// Since when fewer replicas than wanted have acknowledged the grants.
    pub(crate) since: Instant,
    /// How many had when the server last counted.
    pub(crate) acknowledged: u32,
}

/// The callers of a round, by the counters of their permits.
#[derive(Debug, Default)]
pub(super) struct Round {
    askers: FxHashMap<u64, Asker>,
}

impl Round {
    pub(super) fn new(askers: impl IntoIterator<Item = Asker>) -> Self {
        let by_counter = askers.into_iter().map(|asker| (asker.hold.id.counter(), asker));
        Self { askers: by_counter.collect() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.askers.is_empty()
    }

    /// Forgets the callers whose futures were dropped.
    pub(super) fn forget_gone(&mut self) {
        self.askers.retain(|_, asker| !asker.done.is_closed());
    }

    /// Returns the grants that the server is asked about.
    pub(super) fn grants(&self) -> Grants {
        let mut by_name = FxHashMap::<&Arc<str>, Vec<PermitId>>::default();
        for asker in self.askers.values() {
            by_name.entry(&asker.name).or_default().push(asker.hold.id);
        }
        by_name.into_iter().map(|(name, ids)| (Arc::clone(name), ids)).collect()
    }

    /// Takes out the callers who have an answer now: all whose grants the server does not have, and the others
    /// once enough replicas have acknowledged them.
    pub(super) fn take_answered(
        &mut self,
        grants: &Grants,
        acknowledged: Acknowledged,
        wanted: Replicas,
    ) -> Vec<(Asker, Answer)> {
        let Acknowledged { replicas, held } = acknowledged;
        let mut answered = Vec::new();
        for ((name, ids), held) in grants.iter().zip(held) {
            let (held, error) = match held {
                Ok(held) => (held, not_held(name)),
                Err(error) => (Vec::new(), error),
            };
            let held = held.into_iter().chain(std::iter::repeat(false));
            for (id, held) in ids.iter().zip(held) {
                let answer = match held {
                    true if !wanted.are_reached_by(replicas) => continue,
                    true => Ok(()),
                    false => Err(error.clone()),
                };
                answered.extend(self.askers.remove(&id.counter()).map(|asker| (asker, answer)));
            }
        }
        answered
    }

    /// Takes out everybody.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Asker> + use<> {
        std::mem::take(&mut self.askers).into_values()
    }

    /// Takes out the callers of a name.
    pub(super) fn take_of(&mut self, name: &str) -> impl Iterator<Item = Asker> {
        self.askers.extract_if(move |_, asker| *asker.name == *name).map(|(_, asker)| asker)
    }
}

fn not_held(name: &str) -> StoreError {
    let what = format!("the server that was asked about replicas has no such grant of {name:?}");
    StoreError::new(StoreErrorKind::NotReady, what)
}
