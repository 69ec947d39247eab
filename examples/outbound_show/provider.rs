//! A stand-in for the provider, which refuses calls beyond what it allows at once.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::common::Result;
use crate::common::in_flight::InFlight;

/// How many pieces an answer comes in, and the pause before each.
const PIECES: usize = 4;
const PAUSE: Duration = Duration::from_millis(15);

#[derive(Clone)]
struct Provider {
    allowed: usize,
    /// Counts a call until its answer is out.
    load: InFlight,
}

pub(crate) fn routes(allowed: usize) -> Router {
    Router::new()
        .route("/complete", post(complete))
        .route("/stats", get(stats))
        .with_state(Provider { allowed, load: InFlight::default() })
}

async fn complete(State(provider): State<Provider>) -> Response {
    let call = provider.load.enter(1);
    if provider.load.now() > provider.allowed {
        return (StatusCode::TOO_MANY_REQUESTS, "too many calls at once").into_response();
    }
    let pieces = stream::iter(0..PIECES).then(async |piece| {
        sleep(PAUSE).await;
        piece
    });
    let pieces = pieces.map(move |piece| {
        let _counted = &call; // the stream owns it
        Ok::<_, Infallible>(format!("piece {piece}\n"))
    });
    Body::from_stream(pieces).into_response()
}

async fn stats(State(Provider { allowed, load }): State<Provider>) -> Json<Value> {
    Json(json!({ "allowed": allowed, "now": load.now(), "peak": load.peak() }))
}

/// How many calls the provider has had at once at the most, and how many it allows.
pub(crate) async fn ask_stats(provider: &str) -> Result<(u64, u64)> {
    let url = format!("{provider}/stats");
    let http = reqwest::Client::builder().no_proxy().build()?;
    let stats = async { http.get(&url).send().await?.bytes().await };
    let stats = stats.await.map_err(|error| format!("cannot ask the provider: {error}"))?;
    let stats: Value = serde_json::from_slice(&stats).unwrap_or_default();
    let numbers = stats["peak"].as_u64().zip(stats["allowed"].as_u64());
    Ok(numbers.ok_or_else(|| format!("{url} tells no peak"))?)
}
