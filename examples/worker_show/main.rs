//! Workers that run jobs of different weights, never more than N units of them at once.
//!
//! ```sh
//! cargo run --example worker_show                                  # four workers, one process
//! REDIS_URL=redis://127.0.0.1 cargo run --example worker_show      # and as many processes as you like
//! ```
//!
//! `work.rs` is what to start from; the rest is the show. The shortest worker of this kind is the
//! example `worker`.

#[path = "../common/mod.rs"]
mod common;
mod jobs;
mod options;
mod work;

use std::process::ExitCode;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::common::output::say;
use crate::common::{Result, cli, shutdown, store};
use crate::jobs::Jobs;
use crate::options::Options;

#[tokio::main]
async fn main() -> ExitCode {
    cli::run(run).await
}

async fn run(options: Options) -> Result<ExitCode> {
    let options = Arc::new(options);
    // Most workers are processes of their own. So each of those here has a client of its own.
    let mut clients = Vec::new();
    let client = store::client();
    for number in 1..=options.workers {
        clients.push(store::connect(client.clone().label(format!("worker {number}"))).await?);
    }

    let stopping = stop_at_signal();
    let jobs = Jobs::new(&options);
    let mut workers = JoinSet::new();
    for (number, client) in (1..).zip(clients) {
        let (options, jobs, stopping) = (Arc::clone(&options), jobs.clone(), stopping.clone());
        workers.spawn(async move {
            let worked = work::work(number, &client, &options, &jobs, stopping).await;
            // Waits until the store knows of the last release: otherwise its units would stay taken
            // until the lease ends.
            let ended = client.shutdown().await;
            worked.and(ended.map_err(Into::into))
        });
    }
    let outcomes = workers.join_all().await;
    say(jobs.summary());
    outcomes.into_iter().collect::<Result<()>>()?;
    Ok(ExitCode::SUCCESS)
}

/// Becomes true at ctrl-c or SIGTERM.
fn stop_at_signal() -> watch::Receiver<bool> {
    let (stop, stopping) = watch::channel(false);
    tokio::spawn(async move {
        shutdown::terminated().await;
        say("stopping: what runs comes to its end, nothing new starts");
        stop.send_replace(true);
    });
    stopping
}
