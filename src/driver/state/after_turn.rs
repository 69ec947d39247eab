//! The order between an id and the turns in flight that may name it. Pure.
//!
//! # Implementation
//!
//! Turns are sent in the order of their numbers, but the store may run two in flight in either
//! order. So an id that a turn in flight may name is named again only after that turn has landed.

use crate::numbers::TurnNumber;

/// The last turn that may name an id, if there is one. The id is not named again before that turn has
/// landed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct AfterTurn(Option<TurnNumber>);

impl AfterTurn {
    /// No turn names the id.
    pub(super) const NONE: Self = Self(None);

    pub(super) fn is(self, turn: TurnNumber) -> bool {
        self.0 == Some(turn)
    }
}

impl From<TurnNumber> for AfterTurn {
    fn from(turn: TurnNumber) -> Self {
        Self(Some(turn))
    }
}

/// The oldest turn in flight, if there is one.
#[derive(Debug, Clone, Copy)]
pub(super) struct OldestInFlight(Option<TurnNumber>);

impl OldestInFlight {
    pub(super) fn new(turn: Option<TurnNumber>) -> Self {
        Self(turn)
    }

    /// Returns whether all turns up to `turn` have landed.
    pub(super) fn is_past(self, after: AfterTurn) -> bool {
        self.0.is_none_or(|oldest| after < oldest.into())
    }
}
