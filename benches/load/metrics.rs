//! What the metrics cost: pairs of the crate without the feature, with it and no recorder, and with a recorder.

use std::path::PathBuf;

use closed_loop::measure::Rounds;

use crate::contenders::{self, Contender, Ours};
use crate::cores::{Cores, Placement};
use crate::pair_figures::{Figures, WINDOW};
use crate::report::{Must, Table, say, title};

const TASKS: [usize; 3] = [1, 16, 256];
const ROUNDS: usize = 15;
/// Names this benchmark as it is built without the feature.
const WITHOUT: &str = "ZSET_SEMAPHORE_LOAD_WITHOUT_METRICS";

const LEFT_OUT: &str = "without the feature";
const UNHEARD: &str = "no recorder";
const RECORDED: &str = "recorder of Prometheus";

/// The least share of the pairs per second that has to be left.
const LEAST_UNHEARD: f64 = 0.97;
const LEAST_RECORDED: f64 = 0.9;

pub(crate) async fn run(cores: &Cores) -> Vec<Must> {
    title(
        "metrics",
        &format!(
            "Pairs as in `pairs`, pinned, of the same code in processes of its own: built without the feature
             `metrics`, built with it but without a recorder, and with the recorder of the exporter for Prometheus,
             which has the buckets and collects once a second.
             {ROUNDS} rounds of {WINDOW:?} each, every process first in turn. Neighbours only take away, so the best
             rounds are compared; the medians of the ratios stand beside them.
             A feature is in a binary or is not: `scripts/metrics-cost` builds both and sets {WITHOUT}."
        ),
    );
    if !cfg!(feature = "metrics") {
        say("  Left out: this binary is built without the feature metrics.\n");
        return Vec::new();
    }
    let server = cores.server(Placement::Pinned).start().await;
    let without = std::env::var_os(WITHOUT).map(PathBuf::from);
    let mut ours = vec![
        Ours { label: UNHEARD, candidate: "ours", program: None },
        Ours { label: RECORDED, candidate: "recorded", program: None },
    ];
    if let Some(program) = &without {
        ours.insert(0, Ours { label: LEFT_OUT, candidate: "ours", program: Some(program) });
    }
    let mut contenders = contenders::of_ours(&server, cores, Placement::Pinned, &ours).await;
    let mut musts = Vec::new();
    for tasks in TASKS {
        musts.extend(measure(&mut contenders, tasks).await);
    }
    musts
}

async fn measure(contenders: &mut [Contender], tasks: usize) -> Vec<Must> {
    let mut figures = Figures::of(contenders);
    for round in 0..ROUNDS {
        figures.round(contenders, tasks, round).await;
    }
    print(&figures, tasks);
    let of = |label| figures.labels.iter().position(|known| *known == label);
    // Where there is no binary without the feature, nothing is measured against it.
    let share = |label| match (of(label), of(LEFT_OUT)) {
        (Some(index), Some(base)) => best(&figures.throughput[index], &figures.throughput[base]),
        _ => f64::NAN,
    };
    let must = |least, label| {
        let what = format!("metrics, {tasks} tasks: pairs/s of {label} over {LEFT_OUT}");
        Must::at_least(least, what, share(label), "")
    };
    vec![must(LEAST_UNHEARD, UNHEARD), must(LEAST_RECORDED, RECORDED)]
}

fn best(one: &Rounds, base: &Rounds) -> f64 {
    one.highest() / base.highest()
}

fn print(figures: &Figures, tasks: usize) {
    let against = format!("best over {}", figures.labels[0]);
    let head = format!("{tasks} tasks");
    let heads = [&head, "best pairs/s", "median", &against, "median of ratios", ""];
    let mut table = Table::new(&heads);
    for (label, rounds) in figures.labels.iter().zip(&figures.throughput) {
        let ratios = rounds.over(&figures.throughput[0]);
        table.row(
            label,
            &[
                format!("{:.0}", rounds.highest()),
                format!("{:.0}", rounds.median()),
                format!("{:.3}", best(rounds, &figures.throughput[0])),
                format!("{:.3}", ratios.median()),
                ratios.spread(2),
            ],
        );
    }
    table.print();
    say("");
}
