//! What the candidates of `pairs` and `names` came to.

use std::time::Duration;

use crate::contenders::{Contender, OURS};
use crate::report::{Table, say};
use closed_loop::Order;
use closed_loop::measure::Rounds;
use test_support::ledger::monotonic_nanos;

pub(crate) const ROUNDS: usize = 7;
pub(crate) const WINDOW: Duration = Duration::from_millis(300);
const WARM_UP: Duration = Duration::from_millis(150);

/// The figures of all candidates at one number of tasks and of names.
pub(crate) struct Figures {
    pub(crate) labels: Vec<&'static str>,
    pub(crate) throughput: Vec<Rounds>,
    p50: Vec<Rounds>,
    p99: Vec<Rounds>,
}

impl Figures {
    pub(crate) fn of(contenders: &[Contender]) -> Self {
        let none = || vec![Rounds::default(); contenders.len()];
        Self {
            labels: contenders.iter().map(|contender| contender.label).collect(),
            throughput: none(),
            p50: none(),
            p99: none(),
        }
    }

    /// A candidate may leave the machine warm or tired to the next: each goes first in turn.
    pub(crate) async fn round(&mut self, contenders: &mut [Contender], tasks: usize, round: usize) {
        for step in 0..contenders.len() {
            let index = (step + round) % contenders.len();
            let from = monotonic_nanos() + nanos(WARM_UP);
            let order = Order { tasks, from, until: from + nanos(WINDOW) };
            let round = contenders[index].round(order).await;
            self.throughput[index].push(round.pairs / WINDOW.as_secs_f64());
            self.p50[index].push(round.p50);
            self.p99[index].push(round.p99);
        }
    }

    /// The median of our pairs per second over those of another candidate; NaN where it did not run.
    pub(crate) fn ours_over(&self, other: usize) -> f64 {
        self.throughput
            .get(other)
            .map_or(f64::NAN, |other| self.throughput[OURS].over(other).median())
    }

    pub(crate) fn print(&self, what: &str) {
        let mut table =
            Table::new(&[what, "pairs/s", "", "ours is", "", "acquire p50 us", "p99 us"]);
        for (index, label) in self.labels.iter().enumerate() {
            let ratio = self.throughput[OURS].over(&self.throughput[index]);
            table.row(
                label,
                &[
                    format!("{:.0}", self.throughput[index].median()),
                    self.throughput[index].spread(0),
                    format!("{:.2} x", ratio.median()),
                    ratio.spread(2),
                    format!("{:.1}", self.p50[index].median()),
                    format!("{:.1}", self.p99[index].median()),
                ],
            );
        }
        table.print();
        say("");
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("seconds")
}
