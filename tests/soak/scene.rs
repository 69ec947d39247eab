//! What all faults share: the witness, the operator, a count, and how they are drawn from the seed.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use std::time::Duration;

use fastrand::Rng;

use crate::operator::Operator;
use crate::witness::Witness;

pub fn ms(random: &mut Rng, range: Range<u64>) -> Duration {
    Duration::from_millis(random.u64(range))
}

/// Kinds in a random order, all of them before one comes again.
pub struct Deck<K: 'static> {
    kinds: &'static [K],
    left: Vec<K>,
}

impl<K: Copy> Deck<K> {
    pub fn new(kinds: &'static [K]) -> Self {
        Self { kinds, left: Vec::new() }
    }

    pub fn draw(&mut self, random: &mut Rng) -> K {
        if self.left.is_empty() {
            self.left = self.kinds.to_vec();
            random.shuffle(&mut self.left);
        }
        self.left.pop().expect("a deck has cards")
    }
}

/// How many faults of each kind there were.
#[derive(Default)]
pub struct Tally(Mutex<BTreeMap<&'static str, u64>>);

impl Tally {
    pub fn count(&self, kind: &'static str) {
        *self.0.lock().expect("no panic while counting").entry(kind).or_default() += 1;
    }

    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().expect("no panic while counting").clone()
    }
}

/// What all lanes share.
pub struct Scene {
    pub witness: Witness,
    pub tally: Tally,
    pub operator: Operator,
}

impl Scene {
    /// A fault of one process, or of all, has come and gone.
    pub fn done(&self, kind: &'static str, process: Option<u32>) {
        self.tally.count(kind);
        self.witness.state().struck(process, kind);
    }
}
