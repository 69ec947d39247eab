//! What each sentinel has said last of the primary, and what a promoted replica says. Pure.

use crate::store::redis::url::Address;

use super::answer::Known;
use super::refusal::Refusal;

/// The last word of each sentinel that has spoken.
#[derive(Default)]
pub(super) struct Opinions {
    each: Vec<Opinion>,
    /// The replica that a sentinel has chosen in a failover, and that says that it is a primary now.
    promoted: Option<Known>,
}

struct Opinion {
    sentinel: Address,
    latest: Result<Known, Refusal>,
    /// The highest epoch that this sentinel has told.
    highest: u64,
}

impl Opinion {
    /// Returns whether the sentinel has told a higher epoch before. Epochs fall only if an operator has reset the
    /// sentinel. One that was cut off never knew the higher epoch.
    fn begins_again(&self) -> bool {
        self.latest.as_ref().is_ok_and(|known| known.epoch < self.highest)
    }
}

impl Opinions {
    /// Makes the opinions of sentinels that have not spoken yet.
    pub(super) fn with_promoted(promoted: Option<Known>) -> Self {
        Self { promoted, ..Self::default() }
    }

    pub(super) fn take_in(&mut self, sentinel: Address, latest: Result<Known, Refusal>) {
        let before = self.each.iter().position(|opinion| opinion.sentinel == sentinel);
        let before = before.map_or(0, |at| self.each.swap_remove(at).highest);
        let highest = latest.as_ref().map_or(before, |known| known.epoch.max(before));
        self.each.push(Opinion { sentinel, latest, highest });
    }

    /// Notes that a replica was promoted. It has at least this epoch.
    pub(super) fn note_promoted(&mut self, replica: Known) {
        self.promoted = Some(replica);
    }

    /// Returns what the sentinels name that answer, and the replica that was promoted.
    pub(super) fn known(&self) -> impl Iterator<Item = &Known> {
        self.answers().chain(&self.promoted)
    }

    /// Returns those of the highest epoch among them.
    pub(super) fn newest(&self) -> impl Iterator<Item = &Known> {
        let epoch = self.known().map(|known| known.epoch).max();
        self.known().filter(move |known| Some(known.epoch) == epoch)
    }

    /// Returns what the sentinels name that answer.
    pub(super) fn answers(&self) -> impl Iterator<Item = &Known> {
        self.each.iter().filter_map(|opinion| opinion.latest.as_ref().ok())
    }

    /// Returns why the others do not answer.
    pub(super) fn refusals(&self) -> Vec<(&Address, &Refusal)> {
        let refusals = self.each.iter();
        refusals
            .filter_map(|opinion| Some((&opinion.sentinel, opinion.latest.as_ref().err()?)))
            .collect()
    }

    /// Returns whether the primary is other than a promoted replica that no sentinel has named yet.
    pub(super) fn confirm(&self, primary: &Known) -> bool {
        let is_named = || self.answers().any(|known| known.address == primary.address);
        self.promoted.as_ref() != Some(primary) || is_named()
    }

    /// Returns whether the sentinels, `all` of them together, say that the primary is no longer at `present`.
    ///
    /// One sentinel that names another server in a higher epoch is enough. A lower epoch counts only where the
    /// sentinels were reset: more than half of all name another server, none names this one, and one of them has told
    /// a higher epoch before.
    pub(super) fn deny(&self, present: &Known, all: usize) -> bool {
        if self.known().any(|known| known.follows(present)) {
            return true;
        }
        let (mut others, mut vouchers) = (0, 0);
        for known in self.answers() {
            match known.address == present.address {
                true => vouchers += 1,
                false => others += 1,
            }
        }
        vouchers == 0 && others * 2 > all && self.each.iter().any(Opinion::begins_again)
    }
}
