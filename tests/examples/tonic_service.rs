//! The gRPC service.

use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually};

use crate::process::{Example, held_and_queued};
use crate::table::Table;

#[tokio::test]
async fn the_grpc_service_keeps_its_limit_wherever_the_layer_is_mounted() {
    for mount in ["server", "service"] {
        let args = format!("--mount {mount}");
        let (code, out, err) = Example::start("tonic_service", &args, None).end().await;
        assert_eq!((code, &*err), (Some(0), ""), "{out}");
        assert!(out.starts_with("16 clients want 48 answers from http://127.0.0.1:"), "{out}");
        let table = Table::of(&out);
        assert_eq!(table.value("answers served"), "48 of 48");
        assert_eq!(table.value("peak in parallel"), "4, as the server counted");
        assert_eq!(table.value("limit"), "4");
        let expected = "ResourceExhausted: grpc-chats: too many requests at once";
        assert_eq!(table.value("when it is full"), expected);
        assert_told_seconds(table.value("retry header"));
        assert_told_seconds(table.value("retry details"));
    }
}

/// At least the floor of a second, and not the same for all.
#[track_caller]
fn assert_told_seconds(told: &str) {
    let seconds = told.strip_suffix('s').and_then(|seconds| seconds.parse::<f64>().ok());
    assert!(seconds.is_some_and(|seconds| (1.0..=120.0).contains(&seconds)), "told {told:?}");
}

#[tokio::test]
async fn clients_of_the_grpc_service_come_back_when_they_are_told_to() {
    // An answer takes longer than anybody may queue.
    let args = "--limit 1 --max-wait 1 --clients 4 --chats 4 --tokens 60";
    let (code, out, err) = Example::start("tonic_service", args, None).end().await;
    assert_eq!((code, &*err), (Some(0), ""), "{out}");
    let table = Table::of(&out);
    assert_eq!(table.value("answers served"), "4 of 4");
    assert_eq!(table.value("peak in parallel"), "1, as the server counted");
    assert_ne!(table.value("came back later"), "0 times");
}

#[tokio::test]
async fn grpc_services_share_the_limit_by_redis() {
    let redis = RedisServer::start().await;
    let args = "--serve 127.0.0.1:0 --limit 1 --max-wait 1";
    let servers = [(); 2].map(|()| Example::start("tonic_service", args, Some(redis.url())));
    let [here, there] = &servers;
    let (here, there) = (here.says("listening on ").await, there.says("listening on ").await);
    let call = |url: &str, tokens: u32| {
        Example::start("tonic_service", &format!("--call {url} --tokens {tokens}"), None)
    };
    let endless = call(&here, u32::MAX);
    endless.says("first").await;

    let (code, out, err) = call(&there, 1).end().await;
    assert_eq!((code, &*out), (Some(1), ""));
    let sentence =
        "tonic_service: ResourceExhausted: grpc-chats: too many requests at once; come back in ";
    assert_told_seconds(err.strip_prefix(sentence).unwrap_or(&err).trim_end());
    drop(endless);
    eventually("nothing is held", PATIENCE, async || {
        held_and_queued(&redis, "grpc-chats").await == (0, 0)
    })
    .await;
    let (code, out, err) = call(&there, 3).end().await;
    assert_eq!((code, &*out, &*err), (Some(0), "first\ncome,\nfirst\n", ""));
}

#[tokio::test]
async fn sigterm_lets_grpc_streams_end_and_turns_the_queue_away() {
    let redis = RedisServer::start().await;
    let args = "--serve 127.0.0.1:0 --limit 1 --max-wait 60";
    let mut server = Example::start("tonic_service", args, Some(redis.url()));
    let url = server.says("listening on ").await;
    let args = format!("--call {url} --tokens 150"); // 3 s
    let first = Example::start("tonic_service", &args, None);
    first.says("first").await;
    let second = Example::start("tonic_service", &args, None);
    eventually("the second waits", PATIENCE, async || {
        held_and_queued(&redis, "grpc-chats").await == (1, 1)
    })
    .await;
    server.process.terminate();
    let (code, out, err) = second.end().await;
    assert_eq!((code, &*out), (Some(1), ""));
    let sentence = "tonic_service: Unavailable: grpc-chats: not available just now; come back in ";
    assert_told_seconds(err.strip_prefix(sentence).unwrap_or(&err).trim_end());
    let (code, out, err) = first.end().await;
    assert_eq!((code, out.lines().count(), &*err), (Some(0), 150, ""));
    let (code, out, err) = server.end().await;
    assert_eq!((code, &*err), (Some(0), ""), "{out}");
    assert_eq!(held_and_queued(&redis, "grpc-chats").await, (0, 0));
}
