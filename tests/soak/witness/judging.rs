//! What the witness finds.

use std::collections::BTreeMap;

use test_support::ledger::monotonic_nanos;

use super::{REPORTED, State};
use crate::book::nanos;
use crate::names::PASSING;

impl State {
    /// Judges all that has been reported for certain.
    pub fn judge(&mut self) {
        self.judge_up_to(monotonic_nanos().saturating_sub(REPORTED));
    }

    /// Once all processes have ended.
    pub fn judge_all(&mut self) {
        self.judge_up_to(monotonic_nanos());
    }

    fn judge_up_to(&mut self, to: u64) {
        let (from, mut found) = (self.judged, Vec::new());
        if to <= from {
            return;
        }
        for (name, book) in &mut self.books {
            book.judge(from, to, &mut found);
            let name = if name.starts_with(PASSING) { PASSING } else { name };
            let most = self.most_units.entry(name.to_owned()).or_default();
            *most = (*most).max(book.most_units);
            for (kind, excess) in book.take_excess() {
                self.excess.entry(kind).or_default().add(excess);
            }
        }
        self.judged = to;
        self.dead.retain(|_, at| *at + 10 * REPORTED > to);
        let (now, longest) = (monotonic_nanos(), self.longest_wait_allowed);
        for ((process, task), asking) in &mut self.asking {
            if now.saturating_sub(asking.since) > nanos(longest) && !asking.told {
                asking.told = true;
                found.push(format!(
                    "{}: task {task} of process {process} has waited for {} units for more than {longest:?}",
                    asking.name, asking.units
                ));
            }
        }
        for finding in found {
            self.find(finding);
        }
    }

    /// By name: who of these processes was not let in since then, and who still waits since before.
    pub fn stuck_since(&self, processes: &[u32], since: u64) -> BTreeMap<String, Vec<String>> {
        let mut stuck: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for &process in processes {
            // Who comes only now and then is among those who wait.
            for name in self.names.iter().filter(|name| !name.kind.is_called()) {
                let last = self.last_entered.get(&(process, name.name.to_owned()));
                if last.is_none_or(|&last| last <= since) {
                    let who = format!("process {process} was not let in");
                    stuck.entry(name.name.to_owned()).or_default().push(who);
                }
            }
        }
        let now = monotonic_nanos();
        for ((process, task), asking) in &self.asking {
            if asking.since <= since && processes.contains(process) {
                let (units, waited) = (asking.units, now.saturating_sub(asking.since) as f64 / 1e9);
                let who = format!(
                    "task {task} of process {process} waits for {units} units since {waited:.1} s"
                );
                stuck.entry(asking.name.clone()).or_default().push(who);
            }
        }
        stuck
    }

    /// A name that nobody will use again, and when it was last heard of.
    pub fn passed(&self) -> Vec<(String, u64)> {
        let passing = self.books.iter().filter(|(name, _)| name.starts_with(PASSING));
        passing.map(|(name, book)| (name.clone(), book.last_heard)).collect()
    }

    pub fn forget_name(&mut self, name: &str) {
        self.books.remove(name);
    }
}
