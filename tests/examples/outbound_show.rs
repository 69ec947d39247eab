//! The show of the capped clients.

use serde_json::json;
use test_support::redis_server::RedisServer;

use crate::process::{Example, held_and_queued};
use crate::upstream::stats;

#[tokio::test]
async fn capped_clients_are_never_refused_by_a_provider_that_allows_so_many() {
    let (code, out, err) = Example::start("outbound_show", "", None).end().await;
    assert_eq!((code, &*err), (Some(0), ""), "{out}");
    let mut lines = out.lines();
    assert_eq!(lines.next(), Some("12 callers make 60 calls, with each client"));
    let mut rows = lines.skip(2).map(|row| row.split_whitespace().collect::<Vec<_>>());
    let uncapped = rows.next().unwrap();
    assert!(matches!(uncapped[..], ["no", "cap", _, refused, ..] if refused != "0"), "{out}");
    for client in ["hyper-util", "reqwest"] {
        let row = rows.next().unwrap();
        assert_eq!(row, [client, "60", "0", "4,", "where", "4", "may", "be"], "{out}");
    }
    assert_eq!(rows.next(), None);
}

#[tokio::test]
async fn outbound_fails_when_the_provider_allows_less_than_the_limit() {
    let args = "--limit 6 --allowed 2 --callers 6 --calls 12";
    let (code, out, err) = Example::start("outbound_show", args, None).end().await;
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(err.starts_with("outbound_show: hyper-util: ") && err.lines().count() == 1, "{err}");
    assert!(err.ends_with(" at once where 2 may be\n"), "{err}");
}

#[tokio::test]
async fn capped_clients_of_two_processes_share_the_limit_by_redis() {
    let redis = RedisServer::start().await;
    let provider = Example::start("outbound_show", "--provider-only 127.0.0.1:0 --allowed 3", None);
    let url = provider.says("listening on ").await;
    let args = format!("--provider {url} --limit 3 --callers 6 --calls 30");
    let callers = [(); 2].map(|()| Example::start("outbound_show", &args, Some(redis.url())));
    for caller in callers {
        let (code, out, err) = caller.end().await;
        assert_eq!((code, &*err), (Some(0), ""), "{out}");
        assert!(out.contains("\nhyper-util         30         0   3, where 3 may be\n"), "{out}");
        assert!(!out.contains("no cap"), "{out}");
    }
    assert_eq!(stats(&url).await, json!({ "allowed": 3, "now": 0, "peak": 3 }));
    assert_eq!(held_and_queued(&redis, "provider-calls").await, (0, 0));
}
