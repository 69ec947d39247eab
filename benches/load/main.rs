//! What a cluster-wide semaphore costs, measured on a real `redis-server` and real processes.
//!
//! ```sh
//! cargo bench --bench load               # all scenarios, about ten minutes, and once the time
//!                                        # to build `benches/peers`
//! cargo bench --bench load -- contention # one or some of them
//! cargo bench --bench load -- --save     # and keeps what it prints in benches/results
//! ```
//!
//! | scenario | what it measures |
//! |---|---|
//! | `pairs` | acquire and release in a closed loop, beside bare and plain script calls and the crates of others |
//! | `names` | the same, with each acquire at one of many names |
//! | `metrics` | what the feature `metrics` costs, without a recorder and with one |
//! | `syscalls` | the system calls of a caller alone |
//! | `layer` | what the layer adds to a request over HTTP |
//! | `handover` | how long a free permit is nobody's when it goes to another process |
//! | `contention` | many tasks, few permits, short holds, beside tokio's semaphore |
//! | `turn` | what one turn costs the server |
//! | `scale` | the same where very many hold and wait |
//! | `crash` | how long the units of a killed holder stay away after its lease |
//! | `held` | what very many held permits cost |
//! | `cluster` | pairs and hand-overs through a cluster, beside one server; and what a killed primary costs |
//!
//! `pairs` and `names` measure twice: with server and clients on cores of their own (pinned), and where the
//! scheduler places them (unpinned). `syscalls`, `layer` and `cluster` are unpinned. For the others the server alone is
//! pinned.
//!
//! It measures and prints; whatever the figures are, it ends with 0. Where a figure is asked for by
//! the design, a line at the end says whether it was met. Machines differ and have neighbours, so
//! what can be a ratio within one run is one, and rounds of what is compared take turns.

// A bench that cannot go on says why and ends.
#![allow(clippy::expect_used, clippy::panic)]

mod chart;
mod cluster;
mod cluster_failover;
mod cluster_names;
mod contenders;
mod contention;
mod contention_child;
mod contention_rounds;
mod cores;
mod crash;
mod crash_holder_child;
mod crash_waiter_child;
mod grants;
mod handover;
mod handover_baselines;
mod handover_child;
mod held;
mod held_child;
mod largest;
mod layer;
mod layer_child;
mod metrics;
mod monitor;
mod names;
mod pair_figures;
mod pairs;
mod pairs_child;
mod plain;
mod prefilled;
mod recorded;
mod report;
mod results;
mod scale;
mod script;
mod syscall_counter;
mod syscalls;
mod syscalls_child;
mod turn;

use std::process::ExitCode;

use cores::{Cores, Placement};
use report::{Must, print_musts, say};
use test_support::child_role::{self, FromParent};
use tokio::runtime::Runtime;

#[derive(Clone, Copy)]
enum Scenario {
    Pairs,
    Names,
    Metrics,
    Syscalls,
    Layer,
    Handover,
    Contention,
    Turn,
    Scale,
    Crash,
    Held,
    Cluster,
}

impl Scenario {
    const ALL: [Self; 12] = [
        Self::Pairs,
        Self::Names,
        Self::Metrics,
        Self::Syscalls,
        Self::Layer,
        Self::Handover,
        Self::Contention,
        Self::Turn,
        Self::Scale,
        Self::Crash,
        Self::Held,
        Self::Cluster,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Pairs => "pairs",
            Self::Names => "names",
            Self::Metrics => "metrics",
            Self::Syscalls => "syscalls",
            Self::Layer => "layer",
            Self::Handover => "handover",
            Self::Contention => "contention",
            Self::Turn => "turn",
            Self::Scale => "scale",
            Self::Crash => "crash",
            Self::Held => "held",
            Self::Cluster => "cluster",
        }
    }

    /// On servers of its own, so that none pays for what another has left.
    async fn run(self, cores: &Cores) -> Vec<Must> {
        let server = async || cores.server(Placement::Pinned).start().await;
        match self {
            Self::Pairs => pairs::run(cores).await,
            Self::Names => names::run(cores).await,
            Self::Metrics => metrics::run(cores).await,
            Self::Syscalls => syscalls::run(cores).await,
            Self::Layer => layer::run(cores).await,
            Self::Handover => handover::run(&server().await).await,
            Self::Contention => contention::run(&server().await).await,
            Self::Turn => turn::run(&server().await).await,
            Self::Scale => scale::run(&server().await).await,
            Self::Crash => crash::run(&server().await).await,
            Self::Held => held::run(&server().await).await,
            Self::Cluster => cluster::run().await,
        }
    }
}

fn main() -> ExitCode {
    child_role::play(play);
    // `cargo test --benches` runs this, too.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    match chosen(std::env::args().skip(1)) {
        Ok(Chosen { scenarios, save }) => {
            runtime().block_on(run(&scenarios));
            if save {
                results::save(report::transcript());
            }
            ExitCode::SUCCESS
        }
        Err(complaint) => {
            eprintln!("{complaint}");
            ExitCode::from(2)
        }
    }
}

async fn run(scenarios: &[Scenario]) {
    let cores = Cores::here();
    say(format_args!("\n  {}", cores.explain_default()));
    let mut musts = Vec::new();
    for scenario in scenarios {
        musts.extend(scenario.run(&cores).await);
    }
    print_musts(&musts);
}

struct Chosen {
    scenarios: Vec<Scenario>,
    save: bool,
}

/// All where none is named.
fn chosen(arguments: impl Iterator<Item = String>) -> Result<Chosen, String> {
    let (mut chosen, mut save) = (Vec::new(), false);
    // `cargo bench` adds `--bench`.
    for argument in arguments.filter(|argument| argument != "--bench") {
        if argument == "--save" {
            save = true;
            continue;
        }
        let found = Scenario::ALL.into_iter().find(|scenario| scenario.name() == argument);
        chosen.push(found.ok_or_else(|| {
            let names = Scenario::ALL.map(Scenario::name).join(", ");
            format!("load: there is no scenario {argument:?}; there are {names}, and --save")
        })?);
    }
    let scenarios = if chosen.is_empty() { Scenario::ALL.to_vec() } else { chosen };
    Ok(Chosen { scenarios, save })
}

/// A child process does not return from here.
fn play(role: &str, from_parent: FromParent) {
    if role == pairs_child::ROLE {
        closed_loop::pin();
    }
    let runtime = runtime();
    match role {
        pairs_child::ROLE => runtime.block_on(pairs_child::play(from_parent)),
        handover_child::ROLE => runtime.block_on(handover_child::play(from_parent)),
        contention_child::ROLE => runtime.block_on(contention_child::play(from_parent)),
        layer_child::ROLE => runtime.block_on(layer_child::play(from_parent)),
        syscalls_child::ROLE => runtime.block_on(syscalls_child::play(from_parent)),
        crash_holder_child::ROLE => runtime.block_on(crash_holder_child::play(from_parent)),
        crash_waiter_child::ROLE => runtime.block_on(crash_waiter_child::play(from_parent)),
        held_child::ROLE => runtime.block_on(held_child::play(from_parent)),
        _ => panic!("there is no role {role:?}"),
    }
    std::process::exit(0);
}

/// What `#[tokio::main]` would make.
fn runtime() -> Runtime {
    Runtime::new().expect("starting a tokio runtime")
}
