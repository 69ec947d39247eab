//! Permit ids by score, as a sorted set of Redis keeps them.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};

use crate::id::PermitId;
use crate::shrink::Shrink;

/// A set of ids in the order of their scores, and of their texts where scores are equal.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct SortedSet {
    order: BTreeSet<(u64, Lexicographic)>,
    scores: HashMap<PermitId, u64>,
}

impl SortedSet {
    pub(super) fn len(&self) -> u64 {
        self.scores.len() as u64
    }

    pub(super) fn is_empty(&self) -> bool {
        self.scores.is_empty()
    }

    pub(super) fn score(&self, id: &PermitId) -> Option<u64> {
        self.scores.get(id).copied()
    }

    /// Adds an id, or moves it to another score.
    pub(super) fn insert(&mut self, id: PermitId, score: u64) {
        if let Some(before) = self.scores.insert(id, score) {
            self.order.remove(&(before, Lexicographic(id)));
        }
        self.order.insert((score, Lexicographic(id)));
    }

    /// Removes an id. Returns whether it was there.
    pub(super) fn remove(&mut self, id: &PermitId) -> bool {
        let Some(score) = self.scores.remove(id) else { return false };
        self.order.remove(&(score, Lexicographic(*id)));
        self.scores.shrink_in_use();
        true
    }

    pub(super) fn first(&self) -> Option<(u64, PermitId)> {
        self.order.first().map(|&(score, Lexicographic(id))| (score, id))
    }

    pub(super) fn last(&self) -> Option<(u64, PermitId)> {
        self.order.last().map(|&(score, Lexicographic(id))| (score, id))
    }

    /// Returns the number of ids before this one. It walks over them.
    pub(super) fn rank(&self, id: &PermitId) -> u64 {
        match self.score(id) {
            Some(score) => self.order.range(..(score, Lexicographic(*id))).count() as u64,
            None => 0,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, PermitId)> {
        self.order.iter().map(|&(score, Lexicographic(id))| (score, id))
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// An id that is ordered as its text would be, but the text is not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lexicographic(PermitId);

impl Ord for Lexicographic {
    fn cmp(&self, other: &Self) -> Ordering {
        // The client part has a fixed width. What follows the counter sorts before any digit.
        let digits = |id: &PermitId| {
            let mut text = [0u8; 20];
            let (mut at, mut rest) = (text.len(), id.counter());
            loop {
                at -= 1;
                text[at] = b'0' + (rest % 10) as u8;
                rest /= 10;
                if rest == 0 {
                    return (text, at);
                }
            }
        };
        self.0.client().cmp(&other.0.client()).then_with(|| {
            let ((a, from_a), (b, from_b)) = (digits(&self.0), digits(&other.0));
            a[from_a..].cmp(&b[from_b..]).then_with(|| self.0.cmp(&other.0))
        })
    }
}

impl PartialOrd for Lexicographic {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
