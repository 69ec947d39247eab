//! Epochs: which turns without an answer can still count. Pure.
//!
//! # Implementation
//!
//! A turn without an answer may have run, may run later, or never. The epoch of the next turn is one higher,
//! and the store ignores turns of a lower epoch than it has seen. So once a turn is answered, no turn before
//! it can count any more.

use crate::numbers::Epoch;

#[derive(Debug, Default)]
pub(super) struct Epochs {
    /// The epoch of the next turn.
    current: Epoch,
    /// No turn with a lower epoch can still run and count.
    settled: Epoch,
}

impl Epochs {
    pub(super) fn current(&self) -> Epoch {
        self.current
    }

    /// Returns whether no turn without an answer can count any more.
    pub(super) fn is_settled(&self) -> bool {
        self.current == self.settled
    }

    /// A turn of this epoch was answered.
    pub(super) fn answered(&mut self, epoch: Epoch) {
        self.settled = self.settled.max(epoch);
    }

    /// A turn had no answer.
    pub(super) fn unanswered(&mut self) {
        self.current = self.current.next();
    }

    /// A turn was refused: it may have begun, but it will not run late.
    pub(super) fn refused(&mut self) {
        let settled = self.is_settled();
        self.current = self.current.next();
        if settled {
            self.settled = self.current;
        }
    }

    /// The store knows of a higher epoch.
    pub(super) fn overtaken(&mut self, epoch: Epoch) {
        self.current = self.current.max(epoch);
        self.settled = self.settled.max(epoch);
    }
}
