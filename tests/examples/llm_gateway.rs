//! The gateway without arguments: its show.

use std::process::Stdio;

use serde_json::json;
use test_support::owned_process::OwnedProcess;
use test_support::redis_server::RedisServer;

use crate::process::{Example, LONG, held_and_queued};
use crate::table::Table;
use crate::upstream::{Upstream, stats};

#[tokio::test]
async fn the_gateway_alone_fills_its_limit_and_never_exceeds_it() {
    let (code, out, err) = Example::start("llm_gateway", "", None).end().await;
    assert_eq!((code, &*err), (Some(0), ""), "{out}");

    let table = Table::of(&out);
    assert_eq!(table.value("streams served"), "240 of 240");
    assert_eq!(table.value("peak in parallel"), "16, as the upstream counted");
    assert_eq!(table.value("limit"), "16");
    let of_key = table.value("peak of one key").strip_suffix(", of 8 keys").unwrap();
    assert!((1..=4).contains(&of_key.parse::<u32>().unwrap()), "{out}");
    assert_eq!(table.value("limit per key"), "4");
    let waits: Vec<_> = table.value("wait p50, p99").split(", ").collect();
    assert!(matches!(waits[..], [p50, p99] if p50.ends_with('s') && p99.ends_with('s')), "{out}");
    let rate = table.value("throughput").strip_suffix(" streams/s").unwrap();
    assert!(rate.parse::<f64>().unwrap() > 1.0, "{out}");

    let mut lines = out.lines();
    let head = lines.next().unwrap();
    assert!(head.starts_with("64 clients want 240 answers through http://127.0.0.1:"), "{out}");
    let live: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
    assert!(live.iter().all(|line| line.starts_with("in use ")), "{out}");
    // The others wait for those of the same key: 8 keys have 4 units each.
    assert!(live.contains(&"in use   16 / limit   16   queue    16"), "{out}");
    assert!(!out.contains(['\r', '\x1b']), "no terminal, no control characters: {out:?}");
}

#[tokio::test]
async fn two_gateways_side_by_side_share_the_limit_by_redis() {
    let redis = RedisServer::start().await;
    let upstream = Example::start("llm_gateway", "--upstream-only 127.0.0.1:0", None);
    let url = upstream.says("listening on ").await;

    let args = format!("--upstream {url} --limit 8 --clients 24 --streams 40");
    let gateways = [(); 2].map(|()| Example::start("llm_gateway", &args, Some(redis.url())));
    for gateway in gateways {
        let (code, out, err) = gateway.end().await;
        assert_eq!((code, &*err), (Some(0), ""), "{out}");
        let table = Table::of(&out);
        assert_eq!(table.value("streams served"), "40 of 40");
        assert_eq!(table.value("peak in parallel"), "8, as the upstream counted");
        assert_eq!(table.value("limit"), "8");
    }
    let mut stats = stats(&url).await;
    let of_user = stats["peak_of_user"].take();
    assert!(of_user.as_u64().is_some_and(|peak| peak <= 4), "{of_user}");
    let expected = json!({ "now": 0, "peak": 8, "served": 80, "peak_of_user": null });
    assert_eq!(stats, expected);
    assert_eq!(held_and_queued(&redis, "chat-streams").await, (0, 0));
}

#[tokio::test]
async fn the_gateway_fails_when_more_ran_than_the_limit_allows() {
    let answer = "data: {\"delta\":\"all\",\"last\":true}\n\n";
    let url = Upstream::that_answers(answer, json!({ "peak": 99 })).await;
    let args = format!("--upstream {url} --limit 2 --clients 2 --streams 4");
    let (code, out, err) = Example::start("llm_gateway", &args, None).end().await;
    let sentence = "llm_gateway: 99 streams ran at once, more than the limit of 2\n";
    assert_eq!((code, &*err), (Some(1), sentence), "{out}");
}

#[tokio::test]
async fn the_gateway_fails_when_more_of_one_key_ran_than_its_limit_allows() {
    let answer = "data: {\"delta\":\"all\",\"last\":true}\n\n";
    let url = Upstream::that_answers(answer, json!({ "peak": 2, "peak_of_user": 2 })).await;
    let args = format!("--upstream {url} --limit 2 --per-key 1 --clients 2 --streams 4");
    let (code, out, err) = Example::start("llm_gateway", &args, None).end().await;
    let sentence = "llm_gateway: 2 streams of one key ran at once, not 1\n";
    assert_eq!((code, &*err), (Some(1), sentence), "{out}");
}

#[tokio::test]
async fn the_gateway_fails_when_streams_were_cut() {
    let answer = "data: {\"delta\":\"half of\"}\n\n";
    let url = Upstream::that_answers(answer, json!({ "peak": 1 })).await;
    let args = format!("--upstream {url} --limit 2 --clients 2 --streams 4");
    let (code, out, err) = Example::start("llm_gateway", &args, None).end().await;
    let sentence = format!("llm_gateway: 4 streams failed; one of them: 200 OK: {answer}\n");
    assert_eq!((code, &*err), (Some(1), &*sentence), "{out}");
    assert_eq!(Table::of(&out).value("streams served"), "0 of 4");
}

#[tokio::test]
async fn the_gateway_says_so_when_it_is_stopped_before_the_end() {
    let redis = RedisServer::start().await;
    let args = "--streams 100000";
    let mut gateway = Example::start("llm_gateway", args, Some(redis.url()));
    gateway.says("in use   16 / limit   16").await;
    gateway.process.terminate();
    let (code, out, err) = gateway.end().await;
    assert_eq!((code, &*err), (Some(2), "llm_gateway: stopped before the end\n"), "{out}");
    assert_eq!(held_and_queued(&redis, "chat-streams").await, (0, 0));
}

#[tokio::test]
async fn the_gateway_does_not_mind_when_nobody_reads_what_it_says() {
    let mut command = Example::command("llm_gateway", "--clients 4 --streams 8", None);
    let mut gateway = OwnedProcess::spawn(command.stdout(Stdio::piped())).unwrap();
    drop(gateway.child_mut().stdout.take());
    assert!(gateway.wait_for_exit(LONG).await.success());
}
