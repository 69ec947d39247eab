//! Acquire and release in a closed loop, at many names: what a permit costs where turns carry little.

use crate::contenders::{self, PLAIN};
use crate::cores::{Cores, Placement};
use crate::pair_figures::{Figures, ROUNDS, WINDOW};
use crate::report::{Must, say, title};

const NAMES: [usize; 2] = [1_000, 10_000];
const TASKS: usize = 256;

pub(crate) async fn run(cores: &Cores) -> Vec<Must> {
    title(
        "names",
        &format!(
            "As `pairs` with {TASKS} tasks, each acquire at one of this number of names, at random
             (bare has none, rslock keeps its lock per task). {ROUNDS} rounds of {WINDOW:?} each."
        ),
    );
    let mut musts = Vec::new();
    for placement in Placement::BOTH {
        say(format_args!("  {}.\n", cores.explain(placement)));
        let server = cores.server(placement).start().await;
        for names in NAMES {
            let mut contenders = contenders::start(&server, cores, placement, names).await;
            let mut figures = Figures::of(&contenders);
            for round in 0..ROUNDS {
                figures.round(&mut contenders, TASKS, round).await;
            }
            let where_ = placement.word();
            figures.print(&format!("{names} names, {where_}"));
            let what = format!("names, {names}, {where_}: pairs/s over plain");
            musts.push(Must::at_least(0.65, what, figures.ours_over(PLAIN), ""));
        }
    }
    musts
}
