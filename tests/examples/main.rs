//! The examples, run as their users run them: real processes, real sockets, a real Redis.

#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream;
use serde_json::{Value, json};
use tempfile::TempDir;
use test_support::child_role::{self, say, setting};
use test_support::fault_proxy::FaultProxy;
use test_support::owned_process::OwnedProcess;
use test_support::processes::{Child, example};
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually, within};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc;
use zset_semaphore::{Client, KickOutcome};

/// For what takes some seconds by itself, on a machine that has other things to do.
const LONG: Duration = Duration::from_secs(60);

/// A question that the stand-in upstream never ends to answer.
const ENDLESS: &str = r#"{"max_tokens": 1000000000}"#;

#[test]
fn child_process() {
    child_role::play(|role, _| match role {
        "chat client" => chat_client(),
        _ => panic!("no role {role}"),
    });
}

// ---- llm_gateway without arguments -------------------------------------------------------------

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
    assert_eq!(books(&redis, "chat-streams").await, (0, 0));
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
    assert_eq!(books(&redis, "chat-streams").await, (0, 0));
}

#[tokio::test]
async fn the_gateway_does_not_mind_when_nobody_reads_what_it_says() {
    let mut command = Example::command("llm_gateway", "--clients 4 --streams 8", None);
    let mut gateway = OwnedProcess::spawn(command.stdout(Stdio::piped())).unwrap();
    drop(gateway.child_mut().stdout.take());
    assert!(gateway.wait_for_exit(LONG).await.success());
}

// ---- llm_gateway --serve -----------------------------------------------------------------------

#[tokio::test]
async fn tokens_arrive_one_by_one_through_the_gateway() {
    let mut upstream = Upstream::start().await;
    let args = format!("--serve 127.0.0.1:0 --upstream {}", upstream.url);
    let gateway = Example::start("llm_gateway", &args, None);
    let mut client = curl(&gateway.says("listening on http://").await, "");

    let stream = upstream.next_stream().await;
    assert_eq!(client.expect_line("@head ", PATIENCE).await, "HTTP/1.1 200 OK");
    for number in 0..20 {
        // Each is awaited before the upstream says the next: nothing on the way can wait for more.
        stream.send(Ok(Bytes::from(format!("data: {number}\n\n")))).unwrap();
        assert_eq!(client.expect_line("@data: ", PATIENCE).await, number.to_string());
    }
    drop(stream);
    client.expect_line("@end", PATIENCE).await;
    assert!(client.wait_for_exit(PATIENCE).await.success());
}

#[tokio::test]
async fn an_upstream_that_breaks_off_breaks_off_the_answer_and_frees_the_slot() {
    let mut upstream = Upstream::start().await;
    let args = format!("--serve 127.0.0.1:0 --limit 1 --upstream {}", upstream.url);
    let gateway = Example::start("llm_gateway", &args, None);
    let addr = gateway.says("listening on http://").await;
    let mut first = curl(&addr, "");
    let stream = upstream.next_stream().await;
    stream.send(Ok(Bytes::from_static(b"data: half\n\n"))).unwrap();
    first.expect_line("@data: half", PATIENCE).await;
    stream.send(Err("broken off")).unwrap();
    first.expect_line("@cut", PATIENCE).await;

    let _second = curl(&addr, "");
    upstream.next_stream().await;
}

#[tokio::test]
async fn a_second_client_waits_and_is_let_in_at_once_when_the_first_is_killed() {
    let redis = RedisServer::start().await;
    let upstream = Example::start("llm_gateway", "--upstream-only 127.0.0.1:0", None);
    let url = upstream.says("listening on ").await;
    let args = format!("--serve 127.0.0.1:0 --limit 1 --upstream {url}");
    let gateway = Example::start("llm_gateway", &args, Some(redis.url()));
    let addr = gateway.says("listening on http://").await;

    let mut first = curl(&addr, ENDLESS);
    first.expect_line("@data: ", PATIENCE).await;
    let mut second = curl(&addr, r#"{"max_tokens": 3}"#);
    eventually("one streams, one waits", PATIENCE, async || {
        books(&redis, "chat-streams").await == (1, 1)
    })
    .await;
    // The first goes on meanwhile, alone.
    for _ in 0..3 {
        first.expect_line("@data: ", PATIENCE).await;
    }
    let expected = json!({ "now": 1, "peak": 1, "served": 0, "peak_of_user": 0 });
    assert_eq!(stats(&url).await, expected);
    assert_eq!(books(&redis, "chat-streams").await, (1, 1));

    let killed = Instant::now();
    first.kill();
    let head = second.expect_line("@head ", PATIENCE).await;
    let took = killed.elapsed();
    assert_eq!(head, "HTTP/1.1 200 OK");
    // It takes milliseconds. A lease is 10 s, and who waits asks every second by itself.
    assert!(took < Duration::from_millis(900), "let in after {took:?}");
    for _ in 0..3 {
        second.expect_line("@data: ", PATIENCE).await;
    }
    second.expect_line("@end", PATIENCE).await;
    eventually("the upstream serves nobody", PATIENCE, async || {
        stats(&url).await["now"] == json!(0)
    })
    .await;
    assert_eq!(stats(&url).await["served"], json!(1), "the first answer was dropped");
    eventually("nothing is held", PATIENCE, async || books(&redis, "chat-streams").await == (0, 0))
        .await;
}

#[tokio::test]
async fn a_client_that_is_killed_while_it_queues_leaves_the_queue() {
    let redis = RedisServer::start().await;
    let mut upstream = Upstream::start().await;
    let args = format!("--serve 127.0.0.1:0 --limit 1 --upstream {}", upstream.url);
    let gateway = Example::start("llm_gateway", &args, Some(redis.url()));
    let addr = gateway.says("listening on http://").await;

    let mut first = curl(&addr, "");
    let stream = upstream.next_stream().await;
    let mut second = curl(&addr, "a question of some length");
    eventually("the second waits", PATIENCE, async || {
        books(&redis, "chat-streams").await == (1, 1)
    })
    .await;
    second.kill();
    eventually("the second has left", PATIENCE, async || {
        books(&redis, "chat-streams").await == (1, 0)
    })
    .await;
    stream.send(Ok(Bytes::from_static(b"data: here still\n\n"))).unwrap();
    first.expect_line("@data: here still", PATIENCE).await;
}

#[tokio::test]
async fn who_waits_too_long_is_answered_503_and_told_when_to_retry() {
    let mut upstream = Upstream::start().await;
    let args = format!("--serve 127.0.0.1:0 --limit 1 --max-wait 1 --upstream {}", upstream.url);
    let gateway = Example::start("llm_gateway", &args, None);
    let url = gateway.says("listening on ").await;
    let _first = curl(url.strip_prefix("http://").unwrap(), "");
    let _stream = upstream.next_stream().await;

    let asked = Instant::now();
    let answer = http().post(format!("{url}/chat")).send().await.unwrap();
    assert!(asked.elapsed() >= Duration::from_secs(1));
    assert_eq!(answer.status(), 503);
    let seconds = answer.headers()["retry-after"].to_str().unwrap().to_owned();
    assert_eq!(answer.headers()["content-type"], "application/json");
    let body = answer.text().await.unwrap();
    let expected = r#"{"error":"too many requests at once","limit_name":"chat-streams","limit":1,"in_use":1,"place":0,"retry_after":"#;
    assert_eq!(body, format!("{expected}{seconds}}}"));
}

#[tokio::test]
async fn a_greedy_key_waits_for_itself_while_another_is_served() {
    let redis = RedisServer::start().await;
    let mut upstream = Upstream::start().await;
    let args = format!("--serve 127.0.0.1:0 --per-key 1 --max-wait 4 --upstream {}", upstream.url);
    let gateway = Example::start("llm_gateway", &args, Some(redis.url()));
    let url = gateway.says("listening on ").await;
    let ask = |key: &str| http().post(format!("{url}/chat")).header("x-api-key", key).send();

    let (first, stream) = tokio::join!(ask("greedy"), upstream.next_stream());
    let (second, third) = (tokio::spawn(ask("greedy")), tokio::spawn(ask("greedy")));
    let mut names: Vec<String> = Vec::new();
    eventually("they wait behind their own key", PATIENCE, async || {
        names = redis.query(&["KEYS", "zsem:{chat-streams-of-key/#*}:queue"]).await;
        let [name] = &names[..] else { return false };
        redis.query::<u64>(&["ZCARD", name]).await == 2
    })
    .await;
    assert!(!names[0].contains("greedy"), "a key is a secret: {names:?}");
    assert_eq!(books(&redis, "chat-streams").await, (1, 0), "not in the queue of all");

    let (modest, _modest_stream) = tokio::join!(ask("modest"), upstream.next_stream());
    assert_eq!(modest.unwrap().status(), 200);

    // Its first answer ends: one of the two gets in, and the other is turned away in the end.
    drop((first, stream));
    let _next = upstream.next_stream().await;
    let answers = [second.await.unwrap().unwrap(), third.await.unwrap().unwrap()];
    let [mut served, mut turned_away] = answers;
    if served.status() != 200 {
        std::mem::swap(&mut served, &mut turned_away);
    }
    assert_eq!((served.status().as_u16(), turned_away.status().as_u16()), (200, 429));
    assert!(turned_away.headers().contains_key("retry-after"));
    let body: Value = serde_json::from_str(&turned_away.text().await.unwrap()).unwrap();
    assert_eq!(body["limit_name"], "chat-streams-of-key", "{body}");
    assert_eq!((&body["limit"], &body["in_use"]), (&json!(1), &json!(1)), "{body}");
}

#[tokio::test]
async fn requests_without_a_key_share_one() {
    let mut upstream = Upstream::start().await;
    let args = format!("--serve 127.0.0.1:0 --per-key 1 --max-wait 1 --upstream {}", upstream.url);
    let gateway = Example::start("llm_gateway", &args, None);
    let url = gateway.says("listening on ").await;
    let _first = curl(url.strip_prefix("http://").unwrap(), "");
    let _stream = upstream.next_stream().await;
    let answer = http().post(format!("{url}/chat")).send().await.unwrap();
    assert_eq!(answer.status(), 429);
}

#[tokio::test]
async fn a_gateway_starts_and_serves_by_its_policy_while_redis_is_away() {
    let (_socket, nobody) = refusing_addr();
    // The policy, and how many of two streams at once it lets in.
    let cases = [
        ("open", "Open", [200, 200]),
        ("local:1", "Local(1)", [200, 503]),
        ("closed", "Closed", [503, 503]),
    ];
    for (policy, shown, expected) in cases {
        let args = format!("--serve 127.0.0.1:0 --limit 1 --max-wait 2 --outage {policy}");
        let redis_url = format!("redis://:hush-hush@{nobody}");
        let mut gateway = Example::start("llm_gateway", &args, Some(redis_url));
        let said = format!("no Redis yet, the policy meanwhile is {shown}: ");
        let error = gateway.says(&said).await;
        assert!(error.contains("Connection refused") && !error.contains("hush"), "{error}");
        let url = gateway.says("listening on ").await;
        let ask = || http().post(format!("{url}/chat")).body(ENDLESS).send();
        let (first, second) = (ask().await.unwrap(), ask().await.unwrap());
        let statuses = [first.status().as_u16(), second.status().as_u16()];
        assert_eq!(statuses, expected, "{policy}");
        if statuses[1] == 503 {
            let body: Value = serde_json::from_str(&second.text().await.unwrap()).unwrap();
            assert_eq!(body["error"], "the service is not available just now", "{policy}: {body}");
        }
        drop(first);
        gateway.process.terminate();
        let (code, out, err) = gateway.end().await;
        assert_eq!((code, &*err), (Some(0), ""), "{policy}: {out}");
    }
}

#[tokio::test]
async fn requests_that_queue_are_let_in_by_the_policy_when_redis_goes_away() {
    let redis = RedisServer::start().await;
    let proxy = FaultProxy::start(redis.addr()).await;
    let args = "--serve 127.0.0.1:0 --limit 1 --outage open";
    let gateway = Example::start("llm_gateway", args, Some(proxy.url()));
    let addr = gateway.says("listening on http://").await;
    let mut first = curl(&addr, ENDLESS);
    first.expect_line("@data: ", PATIENCE).await;
    let mut second = curl(&addr, ENDLESS);
    eventually("the second waits", PATIENCE, async || {
        books(&redis, "chat-streams").await == (1, 1)
    })
    .await;
    proxy.black_hole();
    assert_eq!(second.expect_line("@head ", PATIENCE).await, "HTTP/1.1 200 OK");
    // And what runs goes on.
    first.expect_line("@data: ", PATIENCE).await;
    first.expect_line("@data: ", PATIENCE).await;
}

#[tokio::test]
async fn a_gateway_that_started_without_redis_counts_there_once_it_is_back() {
    let redis = RedisServer::start().await;
    let proxy = FaultProxy::start(redis.addr()).await;
    proxy.black_hole();
    let args = "--serve 127.0.0.1:0 --outage open";
    let gateway = Example::start("llm_gateway", args, Some(proxy.url()));
    let url = gateway.says("listening on ").await;
    let ask = || http().post(format!("{url}/chat")).body(ENDLESS).send();
    assert_eq!(ask().await.unwrap().status(), 200);
    assert_eq!(books(&redis, "chat-streams").await, (0, 0));

    proxy.pass();
    eventually("streams are counted", PATIENCE, async || {
        let _answer = ask().await.unwrap();
        books(&redis, "chat-streams").await.0 > 0
    })
    .await;
}

#[tokio::test]
async fn an_upstream_that_is_down_is_answered_502_and_holds_nothing() {
    let redis = RedisServer::start().await;
    let (_socket, nobody) = refusing_addr();
    let args = format!("--serve 127.0.0.1:0 --limit 1 --upstream http://{nobody}");
    let gateway = Example::start("llm_gateway", &args, Some(redis.url()));
    let url = gateway.says("listening on ").await;
    for _ in 0..3 {
        let answer = http().post(format!("{url}/chat")).send().await.unwrap();
        assert_eq!(answer.status(), 502);
        let body = answer.text().await.unwrap();
        assert_eq!(body, r#"{"error":"the upstream does not answer"}"#);
    }
    eventually("nothing is held", PATIENCE, async || books(&redis, "chat-streams").await == (0, 0))
        .await;
}

#[tokio::test]
async fn sigterm_lets_streams_end_turns_the_queue_away_and_leaves_nothing_behind() {
    let redis = RedisServer::start().await;
    let mut upstream = Upstream::start().await;
    let args = format!("--serve 127.0.0.1:0 --limit 1 --upstream {}", upstream.url);
    let mut gateway = Example::start("llm_gateway", &args, Some(redis.url()));
    let addr = gateway.says("listening on http://").await;

    let mut first = curl(&addr, "");
    let stream = upstream.next_stream().await;
    let mut second = curl(&addr, "");
    eventually("the second waits", PATIENCE, async || {
        books(&redis, "chat-streams").await == (1, 1)
    })
    .await;

    gateway.process.terminate();
    let turned_away = second.expect_line("@head ", PATIENCE).await;
    assert_eq!(turned_away, "HTTP/1.1 503 Service Unavailable");
    eventually("nobody is let in", PATIENCE, async || TcpStream::connect(&addr).is_err()).await;
    stream.send(Ok(Bytes::from_static(b"data: the last word\n\n"))).unwrap();
    first.expect_line("@data: the last word", PATIENCE).await;
    assert!(gateway.process.exited().is_none());
    drop(stream);
    first.expect_line("@end", PATIENCE).await;

    let (code, out, err) = gateway.end().await;
    assert_eq!((code, &*err), (Some(0), ""), "{out}");
    assert_eq!(books(&redis, "chat-streams").await, (0, 0));
}

#[tokio::test]
async fn sigterm_cuts_off_streams_that_do_not_end_and_leaves_nothing_behind() {
    let redis = RedisServer::start().await;
    let mut gateway = Example::start("llm_gateway", "--serve 127.0.0.1:0", Some(redis.url()));
    let mut client = curl(&gateway.says("listening on http://").await, ENDLESS);
    client.expect_line("@data: ", PATIENCE).await;
    let asked = Instant::now();
    gateway.process.terminate();
    let (code, out, err) = gateway.end().await;
    assert_eq!((code, &*err), (Some(0), ""), "{out}");
    assert!(asked.elapsed() >= Duration::from_secs(10), "the stream had its grace");
    client.expect_line("@cut", PATIENCE).await;
    assert_eq!(books(&redis, "chat-streams").await, (0, 0));
}

// ---- worker ------------------------------------------------------------------------------------

#[tokio::test]
async fn the_worker_does_every_job_once_within_the_limit() {
    let (code, out, err) = Example::start("worker", "", None).end().await;
    assert_eq!((code, &*err), (Some(0), ""), "{out}");
    assert_eq!(out.lines().last(), Some("40 jobs done, 0 left; at most 6 units at once"));
    let work = Work::of(&out);
    assert_eq!(work.started, (1..=40).collect::<Vec<_>>().into_iter().collect());
    assert_eq!(work.ended, work.started);
    assert_eq!(work.tokens.len(), 40, "a token of its own for each");
    assert_eq!(out.lines().count(), 40 + 40 + 1, "{out}");
}

#[tokio::test]
async fn worker_processes_share_the_limit_by_redis() {
    let redis = RedisServer::start().await;
    // Nobody gets in for now, so that both are there before the first job starts.
    let client = Client::connect(redis.url()).await.unwrap();
    let semaphore = client.semaphore("jobs", 2).build().unwrap();
    semaphore.set_limit(0).await.unwrap();
    let args = "--jobs 8 --workers 4 --limit 2 --job-ms 100";
    let workers = [(); 2].map(|()| Example::start("worker", args, Some(redis.url())));
    eventually("all wait", PATIENCE, async || {
        workers.iter().for_each(Example::complains_not);
        books(&redis, "jobs").await == (0, 8)
    })
    .await;

    let watching = async {
        let mut most = 0;
        loop {
            most = most.max(semaphore.inspect().await.unwrap().in_use);
            if workers.iter().all(|worker| worker.stdout().contains("jobs done")) {
                return most;
            }
        }
    };
    semaphore.set_limit(2).await.unwrap();
    assert_eq!(within(LONG, watching).await, 2);
    for worker in workers {
        let (code, out, err) = worker.end().await;
        assert_eq!((code, &*err), (Some(0), ""), "{out}");
        assert!(out.contains("8 jobs done, 0 left; at most "), "{out}");
    }
    assert_eq!(books(&redis, "jobs").await, (0, 0));
}

#[tokio::test]
async fn sigterm_lets_jobs_end_and_leaves_nothing_behind() {
    let redis = RedisServer::start().await;
    let mut worker = Example::start("worker", "--jobs 1000 --job-ms 300", Some(redis.url()));
    worker.says("worker 1 ended ").await;
    worker.process.terminate();
    let (code, out, err) = worker.end().await;
    assert_eq!((code, &*err), (Some(0), ""), "{out}");
    assert!(out.contains("\nstopping: what runs comes to its end, nothing new starts\n"), "{out}");
    let work = Work::of(&out);
    assert_eq!(work.ended, work.started);
    let done = work.ended.len();
    let summary = format!("\n{done} jobs done, {} left; at most ", 1000 - done);
    assert!(done > 0 && out.contains(&summary), "{out}");
    assert_eq!(books(&redis, "jobs").await, (0, 0));
}

#[tokio::test]
async fn a_worker_stops_a_job_whose_permit_was_kicked_and_does_it_again() {
    let redis = RedisServer::start().await;
    let args = "--jobs 1 --workers 1 --job-ms 600000 --lease-ms 1000";
    let worker = Example::start("worker", args, Some(redis.url()));
    let token = worker.says("worker 1 starts job 1 (weight 1), token ").await;

    let client = Client::connect(redis.url()).await.unwrap();
    let semaphore = client.semaphore("jobs", 6).build().unwrap();
    let held = semaphore.inspect().await.unwrap().holders.remove(0);
    assert_eq!(held.label.as_deref(), Some("worker 1"));
    assert_eq!(semaphore.kick(held.id).await.unwrap(), KickOutcome::Marked);

    worker.says("worker 1 stopped job 1 (weight 1): it was kicked").await;
    eventually("it starts again", PATIENCE, async || Work::of(&worker.stdout()).tokens.len() == 2)
        .await;
    let tokens = Work::of(&worker.stdout()).tokens;
    assert_eq!(tokens.first(), Some(&token.parse().unwrap()), "tokens rise");
}

#[tokio::test]
async fn a_worker_that_is_cut_off_stops_its_job_and_does_it_again() {
    let redis = RedisServer::start().await;
    let proxy = FaultProxy::start(redis.addr()).await;
    let args = "--jobs 1 --workers 1 --limit 1 --job-ms 600000 --lease-ms 1000";
    let worker = Example::start("worker", args, Some(proxy.url()));
    let token = worker.says("worker 1 starts job 1 (weight 1), token ").await;
    proxy.black_hole();
    worker.says("worker 1 stopped job 1 (weight 1): no renewal was confirmed in time").await;
    proxy.pass();
    eventually("it starts again", PATIENCE, async || Work::of(&worker.stdout()).tokens.len() == 2)
        .await;
    let tokens = Work::of(&worker.stdout()).tokens;
    assert_eq!(tokens.first(), Some(&token.parse().unwrap()), "tokens rise");
}

// ---- tonic_service -----------------------------------------------------------------------------

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
    eventually("nothing is held", PATIENCE, async || books(&redis, "grpc-chats").await == (0, 0))
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
    eventually("the second waits", PATIENCE, async || books(&redis, "grpc-chats").await == (1, 1))
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
    assert_eq!(books(&redis, "grpc-chats").await, (0, 0));
}

// ---- outbound ----------------------------------------------------------------------------------

#[tokio::test]
async fn capped_clients_are_never_refused_by_a_provider_that_allows_so_many() {
    let (code, out, err) = Example::start("outbound", "", None).end().await;
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
    let (code, out, err) = Example::start("outbound", args, None).end().await;
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(err.starts_with("outbound: hyper-util: ") && err.lines().count() == 1, "{err}");
    assert!(err.ends_with(" at once where 2 may be\n"), "{err}");
}

#[tokio::test]
async fn capped_clients_of_two_processes_share_the_limit_by_redis() {
    let redis = RedisServer::start().await;
    let provider = Example::start("outbound", "--provider-only 127.0.0.1:0 --allowed 3", None);
    let url = provider.says("listening on ").await;
    let args = format!("--provider {url} --limit 3 --callers 6 --calls 30");
    let callers = [(); 2].map(|()| Example::start("outbound", &args, Some(redis.url())));
    for caller in callers {
        let (code, out, err) = caller.end().await;
        assert_eq!((code, &*err), (Some(0), ""), "{out}");
        assert!(out.contains("\nhyper-util         30         0   3, where 3 may be\n"), "{out}");
        assert!(!out.contains("no cap"), "{out}");
    }
    assert_eq!(stats(&url).await, json!({ "allowed": 3, "now": 0, "peak": 3 }));
    assert_eq!(books(&redis, "provider-calls").await, (0, 0));
}

// ---- What may be wrong on the command line and in the environment ------------------------------

#[tokio::test]
async fn what_is_wrong_with_the_arguments_is_said_in_one_sentence() {
    let (_socket, nobody) = refusing_addr();
    let no_upstream = format!("--upstream http://{nobody}");
    let not_asked =
        format!("cannot ask the upstream: error sending request for url (http://{nobody}/stats)");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let serve_taken = format!("--serve {taken}");
    let in_use = format!("cannot listen on `{taken}`: Address already in use (os error 98)");
    let no_provider = format!("--provider http://{nobody}");
    let provider_not_asked = not_asked.replace("upstream", "provider");
    let no_service = format!("--call http://{nobody}");
    let not_reached = format!("cannot reach http://{nobody}: Connection refused (os error 111)");
    let name = "semaphore name is \"a{b}\"; allowed: 1 to 512 bytes without control characters and without { or }";
    let cases = [
        ("llm_gateway", "--frobnicate", "unknown argument `--frobnicate`; try --help"),
        ("llm_gateway", "serve", "unknown argument `serve`; try --help"),
        ("llm_gateway", "--limit", "--limit needs a value"),
        ("llm_gateway", "--limit 0", "--limit is `0`; it must be a whole number above 0"),
        ("llm_gateway", "--limit -1", "--limit is `-1`; it must be a whole number above 0"),
        (
            "llm_gateway",
            "--limit 5000000000",
            "--limit is `5000000000`; it must be a whole number above 0",
        ),
        ("llm_gateway", "--clients many", "--clients is `many`; it must be a whole number above 0"),
        ("llm_gateway", "--streams 0", "--streams is `0`; it must be a whole number above 0"),
        ("llm_gateway", "--max-wait 0.5", "--max-wait is `0.5`; it must be a whole number above 0"),
        ("llm_gateway", "--per-key 0", "--per-key is `0`; it must be a whole number above 0"),
        ("llm_gateway", "--keys x", "--keys is `x`; it must be a whole number above 0"),
        (
            "llm_gateway",
            "--outage maybe",
            "--outage is `maybe`; it must be closed, open or local:N",
        ),
        (
            "llm_gateway",
            "--outage local:0",
            "--outage local is `0`; it must be a whole number above 0",
        ),
        ("llm_gateway", "--name a{b}", name),
        ("llm_gateway", "--serve nonsense", "cannot listen on `nonsense`: invalid socket address"),
        (
            "llm_gateway",
            "--upstream-only 127.0.0.1",
            "cannot listen on `127.0.0.1`: invalid socket address",
        ),
        ("llm_gateway", &serve_taken, &in_use),
        ("llm_gateway", "--upstream foo", "--upstream is `foo`; it must be like http://host:port"),
        (
            "llm_gateway",
            "--upstream ftp://foo",
            "--upstream is `ftp://foo`; it must be like http://host:port",
        ),
        ("llm_gateway", &no_upstream, &not_asked),
        ("outbound", "--frobnicate", "unknown argument `--frobnicate`; try --help"),
        ("outbound", "--calls", "--calls needs a value"),
        ("outbound", "--callers 0", "--callers is `0`; it must be a whole number above 0"),
        ("outbound", "--provider foo", "--provider is `foo`; it must be like http://host:port"),
        ("outbound", &no_provider, &provider_not_asked),
        ("tonic_service", "--frobnicate", "unknown argument `--frobnicate`; try --help"),
        ("tonic_service", "--name", "--name needs a value"),
        ("tonic_service", "--tokens 0", "--tokens is `0`; it must be a whole number above 0"),
        ("tonic_service", "--mount me", "--mount is `me`; it must be server or service"),
        (
            "tonic_service",
            "--serve nonsense",
            "cannot listen on `nonsense`: invalid socket address syntax",
        ),
        ("tonic_service", &serve_taken, &in_use),
        ("tonic_service", &no_service, &not_reached),
        ("worker", "--frobnicate", "unknown argument `--frobnicate`; try --help"),
        ("worker", "--jobs", "--jobs needs a value"),
        ("worker", "--workers 0", "--workers is `0`; it must be a whole number above 0"),
        ("worker", "--limit none", "--limit is `none`; it must be a whole number above 0"),
    ];
    for (name, args, sentence) in cases {
        let (code, out, err) = Example::start(name, args, None).end().await;
        assert_eq!((code, &*out, err), (Some(2), "", format!("{name}: {sentence}\n")), "{args}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_redis_is_said_in_one_sentence() {
    let redis = RedisServer::builder().password("the password").start().await;
    let (_socket, nobody) = refusing_addr();
    let cases = [
        ("nonsense".to_owned(), "url is \"nonsense\"; allowed: redis://"),
        (String::new(), "url is \"\"; allowed: redis://"),
        (format!("http://{nobody}"), "allowed: redis://"),
        (format!("redis://:hush-hush@{nobody}"), "Connection refused"),
        (format!("redis://:hush-hush@{}", redis.addr()), "password"),
        (format!("redis://{}", redis.addr()), "password"),
    ];
    for (name, args) in [
        ("llm_gateway", ""),
        ("llm_gateway", "--serve 127.0.0.1:0"),
        ("outbound", ""),
        ("tonic_service", ""),
        ("tonic_service", "--serve 127.0.0.1:0"),
        ("worker", ""),
    ] {
        for (url, sentence) in &cases {
            if name == "llm_gateway"
                && args.contains("--serve")
                && *sentence == "Connection refused"
            {
                continue; // That may pass: it serves meanwhile.
            }
            let (code, out, err) = Example::start(name, args, Some(url.clone())).end().await;
            assert_eq!((code, &*out), (Some(2), ""), "{name} {args} with {url:?}: {err}");
            assert!(err.starts_with(&format!("{name}: REDIS_URL: ")), "{url:?}: {err}");
            assert!(err.contains(sentence), "{url:?}: {err}");
            assert_eq!(err.lines().count(), 1, "{url:?}: {err}");
            assert!(!err.contains("hush-hush") && !err.contains("panicked"), "{url:?}: {err}");
        }
    }
}

#[tokio::test]
async fn help_lists_every_option() {
    let gateway = "--serve --upstream --upstream-only --limit --per-key --name --max-wait \
        --outage --clients --keys --streams";
    let worker = "--jobs --workers --limit --name --job-ms --lease-ms";
    let service = "--serve --call --mount --limit --name --max-wait --clients --chats --tokens";
    let outbound = "--provider --provider-only --allowed --limit --name --callers --calls";
    let all = [
        ("llm_gateway", gateway),
        ("outbound", outbound),
        ("tonic_service", service),
        ("worker", worker),
    ];
    for (name, options) in all {
        let (code, out, err) = Example::start(name, "--help", None).end().await;
        assert_eq!((code, &*err), (Some(0), ""));
        assert!(out.starts_with(&format!("Usage: {name} [OPTION]...\n\n")), "{out}");
        let listed: BTreeSet<_> = out
            .lines()
            .filter_map(|line| line.strip_prefix("  --"))
            .map(|line| line.split(' ').next().unwrap().to_owned())
            .collect();
        let expected = options.split(' ').chain(["--help"]).map(|it| it[2..].to_owned()).collect();
        assert_eq!(listed, expected);
    }
}

// ---- An example as a process -------------------------------------------------------------------

/// A running example; what it says goes to files. Dropping it kills it.
struct Example {
    process: OwnedProcess,
    directory: TempDir,
    what: String,
}

impl Example {
    fn start(name: &str, args: &str, redis_url: Option<String>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Self::command(name, args, redis_url);
        command
            .stdout(File::create(directory.path().join("stdout")).unwrap())
            .stderr(File::create(directory.path().join("stderr")).unwrap());
        let process = OwnedProcess::spawn(&mut command).unwrap();
        Self { process, directory, what: format!("{name} {args}") }
    }

    fn command(name: &str, args: &str, redis_url: Option<String>) -> Command {
        let binary = example(name);
        let source = format!("{}/examples/{name}.rs", env!("CARGO_MANIFEST_DIR"));
        let [built, written] = [&*binary, source.as_ref()]
            .map(|path: &Path| path.metadata().and_then(|it| it.modified()).unwrap());
        // `cargo test` builds the examples, `cargo test --test examples` does not.
        assert!(written <= built, "the example is out of date: run `cargo build --examples`");
        let mut command = Command::new(binary);
        // Not that of whoever runs the tests.
        command.env_remove("REDIS_URL").args(args.split_whitespace()).stdin(Stdio::null());
        if let Some(url) = redis_url {
            command.env("REDIS_URL", url);
        }
        command
    }

    fn stdout(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("stdout")).unwrap()
    }

    fn stderr(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("stderr")).unwrap()
    }

    fn complains_not(&self) {
        assert_eq!(self.stderr(), "", "`{}` complains", self.what);
    }

    /// Waits for a whole line that begins so; returns the rest of it.
    async fn says(&self, prefix: &str) -> String {
        let find = || {
            let said = self.stdout();
            let mut whole_lines = said.split_inclusive('\n').filter_map(|it| it.strip_suffix('\n'));
            whole_lines.find_map(|line| line.strip_prefix(prefix).map(str::to_owned))
        };
        let mut found = None;
        eventually(&format!("`{}` says {prefix:?}", self.what), PATIENCE, async || {
            self.complains_not();
            found = find();
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    /// Waits for its end; returns its exit code and all it has said.
    async fn end(mut self) -> (Option<i32>, String, String) {
        let status = self.process.wait_for_exit(LONG).await;
        (status.code(), self.stdout(), self.stderr())
    }
}

/// The table at the end of what an example says.
struct Table(Vec<(String, String)>);

impl Table {
    fn of(out: &str) -> Self {
        let (_, table) = out.split_once("\n\n").unwrap_or_else(|| panic!("no table in {out}"));
        let rows = table.lines().map(|line| {
            let (name, value) = line.split_once("  ").unwrap_or_else(|| panic!("a row: {line:?}"));
            (name.to_owned(), value.trim().to_owned())
        });
        Self(rows.collect())
    }

    fn value(&self, name: &str) -> &str {
        let row = self.0.iter().find(|row| row.0 == name);
        row.map_or_else(|| panic!("no {name:?} in {:?}", self.0), |row| &row.1)
    }
}

/// What the workers say that they did.
#[derive(Default)]
struct Work {
    started: BTreeSet<u32>,
    ended: BTreeSet<u32>,
    tokens: BTreeSet<u64>,
}

impl Work {
    fn of(out: &str) -> Self {
        let mut work = Self::default();
        for line in out.lines().filter(|line| line.starts_with("worker ")) {
            let words: Vec<_> = line.split(' ').collect();
            let job = words[4].parse().unwrap();
            match words[2] {
                "starts" => {
                    assert!(work.tokens.insert(words[8].parse().unwrap()), "token twice: {out}");
                    work.started.insert(job);
                }
                "ended" => assert!(work.ended.insert(job), "job {job} done twice: {out}"),
                _ => {}
            }
        }
        work
    }
}

/// How many hold and how many wait, as Redis has it.
async fn books(redis: &RedisServer, name: &str) -> (u64, u64) {
    let held = redis.query(&["ZCARD", &format!("zsem:{{{name}}}:permits")]).await;
    (held, redis.query(&["ZCARD", &format!("zsem:{{{name}}}:queue")]).await)
}

// ---- The two ends of the gateway ---------------------------------------------------------------

/// A client in a process of its own that sends what `curl -N http://ADDR/chat -d BODY` does.
fn curl(addr: &str, body: &str) -> Child {
    Child::spawn("chat client", &[("ADDR", addr.to_owned()), ("BODY", body.to_owned())])
}

/// Tells each line of the answer when it comes, and at last whether the answer was whole.
fn chat_client() {
    let (addr, body) = (setting("ADDR"), setting("BODY"));
    let mut socket = TcpStream::connect(&addr).unwrap();
    let head = [
        "POST /chat HTTP/1.1",
        &format!("Host: {addr}"),
        "User-Agent: curl/8.5.0",
        "Accept: */*",
        &format!("Content-Length: {}", body.len()),
        "Content-Type: application/x-www-form-urlencoded",
        "",
        &body,
    ];
    socket.write_all(head.join("\r\n").as_bytes()).unwrap();
    let mut lines = BufReader::new(socket).lines().map_while(Result::ok);
    say(format_args!("head {}", lines.next().unwrap_or_default()));
    for line in lines {
        // Of the chunked encoding, only the last chunk, which is empty, matters here.
        if line == "0" {
            return say("end");
        }
        say(line);
    }
    say("cut");
}

type Stream = mpsc::UnboundedSender<Result<Bytes, &'static str>>;

/// An upstream that says what the test says, when the test says it.
struct Upstream {
    url: String,
    streams: mpsc::UnboundedReceiver<Stream>,
}

impl Upstream {
    async fn start() -> Self {
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

    async fn next_stream(&mut self) -> Stream {
        within(PATIENCE, self.streams.recv()).await.unwrap()
    }

    /// One that always says the same; returns its url.
    async fn that_answers(answer: &'static str, stats: Value) -> String {
        let stats = async move || Json(stats.clone());
        let answer = async move || Ok::<_, Infallible>(answer);
        serve(Router::new().route("/chat", post(answer)).route("/stats", get(stats))).await
    }
}

async fn serve(app: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, app).await });
    url
}

async fn stats(url: &str) -> Value {
    let answer = http().get(format!("{url}/stats")).send().await.unwrap();
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}

fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// An address that refuses connections, ours for as long as the socket lives.
fn refusing_addr() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let addr = socket.local_addr().unwrap();
    (socket, addr)
}
