//! A stand-in for the upstream, which counts what it serves at once.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use axum::extract::State;
use axum::response::sse::{Event, Sse};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream::{Stream, StreamExt};
use serde_json::{Value, json};

use crate::common::in_flight::InFlight;
use crate::common::words::words;

#[derive(Clone, Default)]
struct Load {
    all: InFlight,
    users: Arc<Mutex<HashMap<String, InFlight>>>,
    served: Arc<Mutex<usize>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn routes() -> Router {
    Router::new()
        .route("/chat", post(answer))
        .route("/stats", get(stats))
        .with_state(Load::default())
}

async fn answer(
    State(load): State<Load>,
    question: Bytes,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let question: Value = serde_json::from_slice(&question).unwrap_or_default();
    let tokens = question["max_tokens"].as_u64().and_then(|tokens| tokens.try_into().ok());
    let tokens = tokens.unwrap_or(20);
    let user = question["user"].as_str().map(str::to_owned);
    // The answer counts until its last token is out or nobody listens: the stream owns these.
    let in_flight = load.all.enter(1);
    let of_user = user.map(|user| lock(&load.users).entry(user).or_default().enter(1));
    Sse::new(words(tokens).enumerate().map(move |(index, word)| {
        let _counted = (&in_flight, &of_user);
        let last = index + 1 == tokens;
        if last {
            *lock(&load.served) += 1;
        }
        Ok(Event::default().data(json!({ "delta": word, "last": last }).to_string()))
    }))
}

async fn stats(State(load): State<Load>) -> Json<Value> {
    let peak_of_user = lock(&load.users).values().map(InFlight::peak).max().unwrap_or_default();
    Json(json!({
        "now": load.all.now(),
        "peak": load.all.peak(),
        "served": *lock(&load.served),
        "peak_of_user": peak_of_user,
    }))
}
