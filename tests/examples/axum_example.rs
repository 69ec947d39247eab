//! The short axum service.

use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually};

use crate::process::{Example, held_and_queued};
use crate::upstream::http;

#[tokio::test]
async fn a_third_stream_of_the_axum_service_waits_for_one_of_two() {
    let redis = RedisServer::start().await;
    let service = Example::start("axum", "127.0.0.1:0", Some(redis.url()));
    let url = service.says("listening on ").await;
    let ask = |path: &str| http().get(format!("{url}{path}")).send();
    let (first, second) = (ask("/chat").await.unwrap(), ask("/chat").await.unwrap());
    let third = tokio::spawn(ask("/chat"));
    eventually("the third waits", PATIENCE, async || {
        held_and_queued(&redis, "axum-chats").await == (2, 1)
    })
    .await;
    assert!(!third.is_finished());
    assert_eq!(ask("/health").await.unwrap().text().await.unwrap(), "fine\n");
    for answer in [first, second, third.await.unwrap().unwrap()] {
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.text().await.unwrap(), "first come, first served\n");
    }

    service.interrupt();
    let (code, _, err) = service.end().await;
    assert_eq!((code, &*err), (Some(0), ""));
    assert_eq!(held_and_queued(&redis, "axum-chats").await, (0, 0));
}
