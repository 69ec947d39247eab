//! The writes that a fault may have lost though they were acknowledged, as the witness is to judge them, where nobody
//! can read which they are.

use std::time::Duration;

use test_support::ledger::monotonic_nanos;
use test_support::redis_cluster::slots::{Slot, slot_of};

use super::spread;
use crate::book::nanos;
use crate::excess::Cause;
use crate::names::{PASSING, longest_lease_of};
use crate::scene::Scene;

/// Every holder has said a word after a lease, and a busy machine hears of it a little later.
const TOLD_LATE: Duration = Duration::from_secs(1);
/// After another server has taken over, numbers are ahead of the clock by so much.
const NUMBERS_AHEAD: Duration = Duration::from_secs(10);

/// The names whose writes may be lost, from [`begin`](Self::begin) to [`end`](Self::end).
pub struct LostWrites<'a> {
    scene: &'a Scene,
    cause: Cause,
    is_lost: Box<dyn Fn(&str) -> bool + Send + Sync + 'a>,
}

impl<'a> LostWrites<'a> {
    /// From now on, a primary may have acknowledged writes that its replica lacks. This excuses only names without a
    /// grace, and those that may not have been used before.
    pub fn of_primary(
        scene: &'a Scene,
        kind: &'static str,
        grace: Duration,
        serves: impl Fn(Slot) -> bool + Send + Sync + 'a,
    ) -> Self {
        let is_new = |name: &str| name.starts_with(PASSING);
        let excused = move |name: &str| is_new(name) || !spread::has_grace(name, grace);
        let is_lost = move |name: &str| serves(slot_of(name)) && excused(name);
        Self::begin(scene, Cause { kind, forgets_numbers: false }, Box::new(is_lost))
    }

    /// From now on, an older copy of a key may take the place of a newer one, of the numbers of a name, too. No grace
    /// follows, because the server is the same.
    pub fn of_slot(scene: &'a Scene, kind: &'static str, slot: Slot) -> Self {
        let is_lost = move |name: &str| slot_of(name) == slot;
        Self::begin(scene, Cause { kind, forgets_numbers: true }, Box::new(is_lost))
    }

    fn begin(
        scene: &'a Scene,
        cause: Cause,
        is_lost: Box<dyn Fn(&str) -> bool + Send + Sync + 'a>,
    ) -> Self {
        let lost = Self { scene, cause, is_lost };
        lost.tell();
        lost
    }

    /// From now on, none is lost any more.
    pub fn end(self) {
        // Of names that were new meanwhile, too.
        self.tell();
        let late = monotonic_nanos() + nanos(TOLD_LATE);
        let rise = late + nanos(NUMBERS_AHEAD);
        for name in self.names() {
            let known = late + nanos(longest_lease_of(&name));
            self.scene.witness.state().knows_of_lost_writes(&name, known, rise);
        }
    }

    fn tell(&self) {
        for name in self.names() {
            self.scene.witness.state().may_have_lost_writes(&name, self.cause);
        }
    }

    fn names(&self) -> Vec<String> {
        let names = self.scene.witness.state().names();
        names.into_iter().filter(|name| (self.is_lost)(name)).collect()
    }
}
