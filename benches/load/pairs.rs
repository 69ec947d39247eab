//! Acquire and release in a closed loop with room for all: what a permit costs where nobody waits.

use crate::chart::{Chart, Group};
use crate::contenders::{self, BARE, DISTRIBUTED_LOCK_REDIS, LIMIT, PEERS, PLAIN, TOKIO};
use crate::cores::{Cores, Placement};
use crate::pair_figures::{Figures, ROUNDS, WINDOW};
use crate::report::{self, Must, say, title};

const TASKS: [usize; 5] = [1, 16, 64, 256, 1024];
const ONE_NAME: usize = 1;

pub(crate) async fn run(cores: &Cores) -> Vec<Must> {
    title(
        "pairs",
        &format!(
            "Tasks that acquire and release in a closed loop, both awaited; limit {LIMIT}, so nobody waits.
             Each candidate is a process with tokio's default multi-thread runtime.
             {ROUNDS} rounds of {WINDOW:?} each, every candidate first in turn; medians of them (lowest..highest).
             Bare: EVALSHA of \"return 1\" twice. Plain: one script per acquire and one per release, on
             one connection. rslock has no semaphore: each task takes a lock of its own.
             distributed-lock-redis sends its scripts in full (EVAL) and renews each permit at once.
             All is measured twice, pinned to cores and unpinned; tokio's and the peers run pinned alone.",
        ),
    );
    let mut musts = Vec::new();
    for placement in Placement::BOTH {
        say(format_args!("  {}.\n", cores.explain(placement)));
        let figures = measure(cores, placement).await;
        for (tasks, figures) in TASKS.into_iter().zip(&figures) {
            figures.print(&format!("{}, {}", counted(tasks), placement.word()));
        }
        report::draw(chart_name(placement), chart(&figures, placement).to_svg());
        musts.extend(asked(placement).map(|asked| asked.of(&figures, placement)));
    }
    musts
}

async fn measure(cores: &Cores, placement: Placement) -> [Figures; TASKS.len()] {
    let server = cores.server(placement).start().await;
    let mut contenders = contenders::start(&server, cores, placement, ONE_NAME).await;
    let mut figures = TASKS.map(|_| Figures::of(&contenders));
    for round in 0..ROUNDS {
        for (tasks, figures) in TASKS.into_iter().zip(&mut figures) {
            figures.round(&mut contenders, tasks, round).await;
        }
    }
    figures
}

fn chart_name(placement: Placement) -> &'static str {
    match placement {
        Placement::Pinned => "pairs",
        Placement::Unpinned => "pairs-unpinned",
    }
}

/// Tokio's semaphore, which asks no server, is left out: it would dwarf the rest.
fn chart(figures: &[Figures], placement: Placement) -> Chart {
    let shown = |label: &&str| *label != TOKIO;
    let labels = &figures[0].labels;
    let group = |(tasks, figures): (usize, &Figures)| Group {
        label: counted(tasks),
        figures: (0..labels.len())
            .filter(|&index| shown(&labels[index]))
            .map(|index| figures.throughput[index].over(&figures.throughput[PLAIN]).median())
            .collect(),
    };
    Chart {
        title: format!("Acquire and release, both awaited: pairs per second, {}", placement.word()),
        unit: "as multiples of one script call for each (\"plain\"); medians of rounds in one run"
            .to_owned(),
        series: labels.iter().copied().filter(shown).collect(),
        groups: TASKS.into_iter().zip(figures).map(group).collect(),
    }
}

fn counted(tasks: usize) -> String {
    if tasks == 1 { "1 task".to_owned() } else { format!("{tasks} tasks") }
}

/// The least that our pairs per second must be over those of another candidate.
struct Asked {
    tasks: usize,
    other: usize,
    least: f64,
}

impl Asked {
    fn of(self, figures: &[Figures], placement: Placement) -> Must {
        let Self { tasks, other, least } = self;
        let found = TASKS.into_iter().zip(figures).find(|&(there, _)| there == tasks);
        let ratio = found.map_or(f64::NAN, |(_, figures)| figures.ours_over(other));
        let labels = found.map_or(&[][..], |(_, figures)| &figures.labels);
        // The first peer alone is asked for, and may not have been built.
        let label = labels.get(other).unwrap_or(&PEERS[0]);
        let where_ = placement.word();
        let what = format!("pairs, {}, {where_}: pairs/s over {label}", counted(tasks));
        Must::at_least(least, what, ratio, "")
    }
}

fn asked(placement: Placement) -> impl Iterator<Item = Asked> {
    let asked: &[(usize, usize, f64)] = match placement {
        Placement::Pinned => &[
            (1, BARE, 0.88),
            (16, BARE, 0.9),
            (256, BARE, 1.1),
            (1024, BARE, 1.3),
            (256, PLAIN, 2.0),
            (1024, PLAIN, 2.8),
            (256, DISTRIBUTED_LOCK_REDIS, 4.0),
            (1024, DISTRIBUTED_LOCK_REDIS, 4.0),
        ],
        Placement::Unpinned => {
            &[(1, BARE, 0.8), (16, BARE, 0.8), (64, BARE, 1.1), (256, BARE, 1.8), (1024, BARE, 1.8)]
        }
    };
    asked.iter().map(|&(tasks, other, least)| Asked { tasks, other, least })
}
