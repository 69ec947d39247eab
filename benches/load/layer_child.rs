//! A server with and without the layer: the child of [`layer`](super::layer).

use std::time::Instant;

use axum::Router;
use axum::routing::get;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use zset_semaphore::Client;
use zset_semaphore::tower::ZSetSemaphoreLayer;

use crate::script::BareScript;
use test_support::child_role::{FromParent, say, setting};

pub(crate) const ROLE: &str = "layer";

/// Room for all.
const LIMIT: u32 = 64;

/// Serves until the parent is gone.
pub(crate) async fn play(_from_parent: FromParent) {
    let client = Client::connect(setting("URL")).await.expect("connecting");
    let semaphore = client.semaphore("layer", LIMIT).build().expect("a valid name");
    let bare = BareScript::at(&setting("URL")).await;
    let answer = get(async || "token");
    let app = Router::new()
        .route("/layer", answer.clone())
        .route_layer(ZSetSemaphoreLayer::new(semaphore).answer())
        .route("/plain", answer)
        .route("/bare", get(async move || timed(&bare).await));

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    say(format!("ready {}", listener.local_addr().expect("it is bound")));
    let listener = listener.tap_io(|socket| {
        socket.set_nodelay(true).expect("a fresh socket");
    });
    axum::serve(listener, app).await.expect("it serves");
}

/// How many nanoseconds one call took, in place of the layer's.
async fn timed(bare: &BareScript) -> String {
    let start = Instant::now();
    bare.run().await;
    start.elapsed().as_nanos().to_string()
}
