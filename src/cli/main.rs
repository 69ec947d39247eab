//! `zsem`: semaphores from the command line.

#[cfg(not(unix))]
compile_error!(
    "zsem starts commands and passes signals on as Unix does; the feature `cli` is for Unix alone"
);

mod args;
mod check;
mod client;
mod failure;
mod hash;
mod hold;
mod kick;
mod limit;
mod ls;
mod manual;
mod nested;
mod output;
mod pattern;
mod printable;
mod run;
mod show;
mod signals;
mod status;
mod table;
mod times;
mod waiting;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Verb};
use failure::Failure;
use status::Status;

fn main() -> ExitCode {
    let end = match run::step(std::env::args_os()) {
        Some(end) => end,
        None => match Cli::try_parse() {
            Ok(cli) => start(cli),
            Err(told) => failure::by_clap(&told),
        },
    };
    end.unwrap_or_else(Failure::print).end()
}

fn start(cli: Cli) -> Result<Status, Failure> {
    // Only one who has installed a provider before could make this fail.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // One thread: the parent-death signal of the guard counts for the thread that has started it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::of_system("no runtime", &error))?;
    let end = runtime.block_on(perform(cli));
    runtime.shutdown_background(); // a look-up of a name may still be under way
    end
}

async fn perform(Cli { global, verb }: Cli) -> Result<Status, Failure> {
    global.check()?;
    global.trace();
    match verb {
        Verb::Run(args) => run::run(&global, args).await,
        Verb::Hold(args) => hold::hold(&global, &args).await,
        Verb::Ls { pattern } => ls::ls(&global, pattern.as_deref()).await,
        Verb::Show { name } => show::show(&global, &name).await,
        Verb::Limit { name, limit, clear } => limit::limit(&global, &name, limit, clear).await,
        Verb::Pause { name } => limit::pause(&global, &name).await,
        Verb::Resume { name } => limit::resume(&global, &name).await,
        Verb::Kick(args) => kick::kick(&global, &args).await,
        Verb::Check { name } => check::check(&global, name.as_deref()).await,
        Verb::Hash { secret_file } => hash::hash(&global, secret_file.as_deref()),
        Verb::Completions { shell } => manual::completions(shell),
        Verb::Man => manual::man(),
    }
}
