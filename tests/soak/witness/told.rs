//! What those tell the witness who let faults come and go.

use std::collections::BTreeSet;

use test_support::ledger::monotonic_nanos;

use super::State;
use crate::book::{Hold, Kick, Loss};
use crate::excess::Cause;
use crate::names::limit_of;
use crate::unbooked::Absence;

impl State {
    /// Ends all holds of a process that was killed at that instant.
    pub fn killed(&mut self, process: u32, at: u64) {
        self.dead.insert(process, at);
        self.struck.remove(&process);
        self.asking.retain(|&(asking, _), _| asking != process);
        self.last_entered.retain(|(entered, _), _| *entered != process);
        for hold in self.books.values_mut().flat_map(|book| book.holds.values_mut()) {
            if hold.process == process && hold.until.is_none() {
                hold.until = Some(at.min(hold.sure_until).min(hold.unsure_from).max(hold.from));
                hold.how = "killed".to_owned();
            }
        }
    }

    /// A fault of one process, or of all, has ended.
    pub fn struck(&mut self, process: Option<u32>, kind: &'static str) {
        let ended = monotonic_nanos();
        let all: BTreeSet<u32> = match process {
            Some(process) => [process].into(),
            None => self.last_entered.keys().map(|(process, _)| *process).collect(),
        };
        for process in all {
            self.struck.entry(process).or_default().push((kind, ended));
        }
    }

    /// The process has ended by itself.
    pub fn ended(&mut self, process: u32) {
        self.killed(process, monotonic_nanos());
    }

    /// An operator kicks a permit.
    pub fn kicked(&mut self, name: &str, id: &str, kick: Kick) {
        let book = self.book(name);
        if let Some(hold) = book.holds.values_mut().find(|hold| hold.id == id) {
            kick.mark(hold);
        }
        book.kicks.insert(id.to_owned(), kick);
    }

    /// From now on the limit may be up to `most`.
    pub fn limit(&mut self, name: &str, most: u32) {
        self.book(name).limit(monotonic_nanos(), most);
    }

    /// Redis forgot the `meta` of a name, or is about to: the handles' limit may be in force.
    pub fn lost_meta(&mut self, name: &str) {
        let at = monotonic_nanos();
        let book = self.book(name);
        book.limit(at, book.limit_now().max(limit_of(name)));
        book.lose_meta(at);
    }

    pub fn limit_now(&mut self, name: &str) -> u32 {
        self.book(name).limit_now()
    }

    /// Redis forgot the permits of a name.
    pub fn lost(&mut self, name: &str, loss: Loss) {
        self.book(name).lose(loss);
    }

    /// From now on, acknowledged writes about a name may have been lost.
    pub fn may_have_lost_writes(&mut self, name: &str, cause: Cause) {
        self.book(name).excuse(monotonic_nanos(), cause);
    }

    /// From `at` on, holders know of all writes about a name that were lost. From `tokens_at` on, tokens rise again.
    pub fn knows_of_lost_writes(&mut self, name: &str, at: u64, tokens_at: u64) {
        self.book(name).end_of_excuse(at, tokens_at);
    }

    /// A new primary lacks the last word about a permit.
    pub fn is_unbooked(&mut self, name: &str, id: &str, absence: Absence) {
        self.book(name).unbooked.add(id, absence);
    }

    /// The new primary has that permit again.
    pub fn is_booked(&mut self, name: &str, id: &str) {
        self.book(name).unbooked.booked(id, monotonic_nanos());
    }

    /// What is known of the holder of a permit, if one has told that it holds it.
    pub fn hold_of(&self, name: &str, id: &str) -> Option<&Hold> {
        self.books.get(name)?.holds.values().find(|hold| hold.id == id)
    }

    pub fn names(&self) -> Vec<String> {
        self.books.keys().cloned().collect()
    }
}
