//! An axum service that streams at most 2 answers at once, over all its processes.
//!
//! ```sh
//! cargo run --example axum                          # needs a Redis; REDIS_URL tells where
//! curl -N http://127.0.0.1:3000/chat                # three times, side by side: the third waits
//! ```
//!
//! ```toml
//! [dependencies]
//! zset-semaphore = "0.1"
//! axum = "0.8"
//! futures-util = "0.3"
//! tokio = { version = "1", features = ["full"] }
//! ```

use std::convert::Infallible;
use std::time::Duration;

use axum::{Router, body::Body, routing::get};
use futures_util::stream::{self, StreamExt};
use zset_semaphore::{Client, tower::ZSetSemaphoreLayer};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned());
    let client = Client::connect(url).await?;
    let chats = client.semaphore("axum-chats", 2).build()?;

    // A request waits for its permit, and holds it until its answer has ended. After 10 s in the
    // queue it is answered with 503 and Retry-After.
    let limit = ZSetSemaphoreLayer::new(chats).timeout(Duration::from_secs(10)).answer();
    let app = Router::new()
        .route("/chat", get(chat).layer(limit))
        .route("/health", get(|| async { "fine\n" })); // not limited

    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(addr).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let ctrl_c = async { drop(tokio::signal::ctrl_c().await) };
    axum::serve(listener, app).with_graceful_shutdown(ctrl_c).await?;
    client.shutdown().await?; // Waits until Redis knows of the last permits.
    Ok(())
}

/// One word every half a second.
async fn chat() -> Body {
    let words = stream::iter(["first ", "come, ", "first ", "served\n"]).then(async |word| {
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok::<_, Infallible>(word)
    });
    Body::from_stream(words)
}
