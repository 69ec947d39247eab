//! Calls to a provider that allows at most 4 at once for the whole cluster.
//!
//! ```sh
//! cargo run --features reqwest --example outbound -- http://example.com/   # needs a Redis; REDIS_URL tells where
//! ```
//!
//! ```toml
//! [dependencies]
//! zset-semaphore = { version = "0.1", features = ["reqwest"] }
//! reqwest = "0.13"
//! tokio = { version = "1", features = ["full"] }
//! tower = { version = "0.5", features = ["util"] }
//! ```

use reqwest::{Method, Request};
use tokio::task::JoinSet;
use tower::{ServiceBuilder, ServiceExt};
use zset_semaphore::{Client, tower::ZSetSemaphoreLayer};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let target: reqwest::Url = std::env::args().nth(1).ok_or("usage: outbound URL")?.parse()?;
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned());
    let client = Client::connect(url).await?;
    let calls = client.semaphore("provider-calls", 4).build()?;

    // A call waits here, and not at the provider. It holds its permit until its answer was read to
    // the end, or dropped. A clone shares the limit.
    let provider =
        ServiceBuilder::new().layer(ZSetSemaphoreLayer::new(calls)).service(reqwest::Client::new());

    let mut tasks = JoinSet::new();
    for number in 1..=12 {
        let answer = provider.clone().oneshot(Request::new(Method::GET, target.clone()));
        tasks.spawn(async move {
            let answer = answer.await?;
            let (status, body) = (answer.status(), answer.bytes().await?); // Here the permit goes back.
            Ok::<_, BoxError>(format!("call {number}: {status}, {} bytes", body.len()))
        });
    }
    while let Some(ended) = tasks.join_next().await {
        match ended? {
            Ok(line) => println!("{line}"),
            Err(error) => eprintln!("a call failed: {error}"),
        }
    }
    client.shutdown().await?; // Waits until Redis knows of the last permits.
    Ok(())
}
