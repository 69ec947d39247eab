//! A gRPC service that streams chat answers, never more than N at once, cluster-wide.
//!
//! ```sh
//! cargo run --example tonic_service                                # a crowd chats; needs no Redis
//! REDIS_URL=redis://127.0.0.1 cargo run --example tonic_service    # shares the limit by Redis
//! cargo run --example tonic_service -- --serve 127.0.0.1:50051 --limit 1
//! cargo run --example tonic_service -- --call http://127.0.0.1:50051 --tokens 200  # twice
//! ```
//!
//! `service.rs` is what to start from; the rest is the show. The shortest service of this kind is
//! the example `tonic`.

mod chat;
mod client;
#[path = "../common/mod.rs"]
mod common;
mod options;
mod retry;
mod service;
mod show;

use std::process::ExitCode;

use crate::common::{Result, cli, store};
use crate::options::Options;

#[tokio::main]
async fn main() -> ExitCode {
    cli::run(run).await
}

async fn run(options: Options) -> Result<ExitCode> {
    if let Some(url) = &options.call {
        return client::call(url, options.tokens).await;
    }
    let client = store::connect(store::client()).await?;
    let chats = service::limit(&client, &options)?;
    match &options.serve {
        Some(addr) => service::serve(addr, &client, chats, &options).await,
        None => show::show(&client, chats, &options).await,
    }
}
