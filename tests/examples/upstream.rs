//! An upstream that says what the test says.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream;
use serde_json::Value;
use test_support::wait::{PATIENCE, within};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

pub(crate) type Stream = mpsc::UnboundedSender<Result<Bytes, &'static str>>;

/// An upstream that says what the test says, when the test says it.
pub(crate) struct Upstream {
    pub(crate) url: String,
    streams: mpsc::UnboundedReceiver<Stream>,
}

impl Upstream {
    pub(crate) async fn start() -> Self {
        let (asked, streams) = mpsc::unbounded_channel();
        let answer = async move || {
            let (stream, said) = mpsc::unbounded_channel();
            asked.send(stream).unwrap();
            let next =
                async |mut said: mpsc::UnboundedReceiver<_>| Some((said.recv().await?, said));
            Body::from_stream(stream::unfold(said, next))
        };
        let url = serve(Router::new().route("/chat", post(answer))).await;
        Self { url, streams }
    }

    pub(crate) async fn next_stream(&mut self) -> Stream {
        within(PATIENCE, self.streams.recv()).await.unwrap()
    }

    /// One that always says the same; returns its url.
    pub(crate) async fn that_answers(answer: &'static str, stats: Value) -> String {
        let stats = async move || Json(stats.clone());
        let answer = async move || Ok::<_, Infallible>(answer);
        serve(Router::new().route("/chat", post(answer)).route("/stats", get(stats))).await
    }
}

pub(crate) async fn serve(app: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, app).await });
    url
}

pub(crate) async fn stats(url: &str) -> Value {
    let answer = http().get(format!("{url}/stats")).send().await.unwrap();
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}

pub(crate) fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}
