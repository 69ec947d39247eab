//! A gateway that streams chat answers and never runs more than N streams at once, cluster-wide,
//! nor more than M for any one API key.
//!
//! ```sh
//! cargo run --release --example llm_gateway     # shows the cap at work, needs nothing else
//! REDIS_URL=redis://127.0.0.1 cargo run --release --example llm_gateway    # shares it by Redis
//! cargo run --release --example llm_gateway -- --serve 127.0.0.1:8080 --limit 1
//! curl -N http://127.0.0.1:8080/chat -d '{"max_tokens": 200}'         # twice, side by side
//! ```
//!
//! With `--features metrics`, `GET /metrics` is for Prometheus; see `examples/prometheus`.
//!
//! `gateway.rs` is what to start from; the rest is the show. The shortest service of this kind is
//! the example `axum`.

#[path = "../common/mod.rs"]
mod common;
mod gateway;
mod metrics;
mod options;
mod show;
mod stand_in;

use std::process::ExitCode;

use tokio::task::JoinSet;

use crate::common::output::say;
use crate::common::{Result, cli, server, shutdown};
use crate::options::Options;

#[tokio::main]
async fn main() -> ExitCode {
    cli::run(run).await
}

async fn run(options: Options) -> Result<ExitCode> {
    if let Some(addr) = &options.upstream_only {
        let mut background = JoinSet::new();
        let url = server::start(addr, stand_in::routes(), &mut background).await?;
        say(format_args!("listening on {url}"));
        shutdown::terminated().await;
    } else if let Some(addr) = &options.serve {
        gateway::serve(addr, &options).await?;
    } else {
        return show::show(&options).await;
    }
    Ok(ExitCode::SUCCESS)
}
