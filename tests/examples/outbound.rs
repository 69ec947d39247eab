//! The short caller of a provider.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use test_support::redis_server::RedisServer;
use tokio::time::sleep;

use crate::process::{Example, held_and_queued};
use crate::upstream::serve;

#[tokio::test]
async fn the_provider_is_never_called_by_more_at_once_than_the_limit() {
    let redis = RedisServer::start().await;
    let counts = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let counted = Arc::clone(&counts);
    let answer = async move || {
        let (now, peak) = &*counted;
        peak.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
        sleep(Duration::from_millis(100)).await;
        now.fetch_sub(1, SeqCst);
        "done"
    };
    let url = serve(Router::new().route("/", get(answer))).await;
    let (code, out, err) = Example::start("outbound", &url, Some(redis.url())).end().await;
    assert_eq!((code, &*err), (Some(0), ""), "{out}");
    let expected = (1..=12).map(|number| format!("call {number}: 200 OK, 4 bytes"));
    assert_eq!(out.lines().map(str::to_owned).collect::<BTreeSet<_>>(), expected.collect());
    assert_eq!(counts.1.load(SeqCst), 4);
    assert_eq!(held_and_queued(&redis, "provider-calls").await, (0, 0));
}
