//! Outgoing calls, never more than N at once, cluster-wide: for a provider that allows no more.
//!
//! ```sh
//! cargo run --features reqwest --example outbound_show    # a stand-in provider; needs no Redis
//! REDIS_URL=redis://127.0.0.1 cargo run --features reqwest --example outbound_show    # shares the limit by Redis
//! ```
//!
//! `capped.rs` is what to start from; the rest is the show. The shortest caller of this kind is the
//! example `outbound`.

mod capped;
#[path = "../common/mod.rs"]
mod common;
mod options;
mod provider;
mod show;

use std::process::ExitCode;

use tokio::task::JoinSet;

use crate::common::output::say;
use crate::common::{Result, cli, server, shutdown, store};
use crate::options::Options;

#[tokio::main]
async fn main() -> ExitCode {
    cli::run(run).await
}

async fn run(options: Options) -> Result<ExitCode> {
    if let Some(addr) = &options.provider_only {
        let mut background = JoinSet::new();
        let routes = provider::routes(options.allowed);
        say(format_args!("listening on {}", server::start(addr, routes, &mut background).await?));
        shutdown::terminated().await;
        return Ok(ExitCode::SUCCESS);
    }
    let client = store::connect(store::client()).await?;
    shutdown::show_until_terminated(show::show(&client, &options), &client).await
}
