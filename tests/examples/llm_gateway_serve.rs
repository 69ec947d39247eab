//! The gateway as a server: `llm_gateway --serve`.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use serde_json::{Value, json};
use test_support::fault_proxy::FaultProxy;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually};

use crate::curl::curl;
use crate::process::{Example, held_and_queued, refusing_addr};
use crate::upstream::{Upstream, http, stats};

/// A question that the stand-in upstream never ends to answer.
const ENDLESS: &str = r#"{"max_tokens": 1000000000}"#;

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
        held_and_queued(&redis, "chat-streams").await == (1, 1)
    })
    .await;
    // The first goes on meanwhile, alone.
    for _ in 0..3 {
        first.expect_line("@data: ", PATIENCE).await;
    }
    let expected = json!({ "now": 1, "peak": 1, "served": 0, "peak_of_user": 0 });
    assert_eq!(stats(&url).await, expected);
    assert_eq!(held_and_queued(&redis, "chat-streams").await, (1, 1));

    let killed = Instant::now();
    first.kill();
    let head = second.expect_line("@head ", PATIENCE).await;
    let took = killed.elapsed();
    assert_eq!(head, "HTTP/1.1 200 OK");
    // It takes milliseconds. A lease is 10 s, and a waiter asks every second by itself.
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
    eventually("nothing is held", PATIENCE, async || {
        held_and_queued(&redis, "chat-streams").await == (0, 0)
    })
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
        held_and_queued(&redis, "chat-streams").await == (1, 1)
    })
    .await;
    second.kill();
    eventually("the second has left", PATIENCE, async || {
        held_and_queued(&redis, "chat-streams").await == (1, 0)
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
    assert_eq!(held_and_queued(&redis, "chat-streams").await, (1, 0), "not in the queue of all");

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
        ("open", "FailOpen", [200, 200]),
        ("local:1", "LocalCap(1)", [200, 503]),
        ("closed", "FailClosed", [503, 503]),
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
        held_and_queued(&redis, "chat-streams").await == (1, 1)
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
    assert_eq!(held_and_queued(&redis, "chat-streams").await, (0, 0));

    proxy.pass();
    eventually("streams are counted", PATIENCE, async || {
        let _answer = ask().await.unwrap();
        held_and_queued(&redis, "chat-streams").await.0 > 0
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
    eventually("nothing is held", PATIENCE, async || {
        held_and_queued(&redis, "chat-streams").await == (0, 0)
    })
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
        held_and_queued(&redis, "chat-streams").await == (1, 1)
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
    assert_eq!(held_and_queued(&redis, "chat-streams").await, (0, 0));
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
    assert_eq!(held_and_queued(&redis, "chat-streams").await, (0, 0));
}

#[cfg(feature = "metrics")]
#[tokio::test]
async fn the_gateway_exports_its_metrics_with_buckets() {
    let gateway = Example::start("llm_gateway", "--serve 127.0.0.1:0", None);
    let addr = gateway.says("listening on http://").await;
    let metrics = async || {
        let answer = http().get(format!("http://{addr}/metrics")).send().await.unwrap();
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        (kind, answer.text().await.unwrap())
    };
    let mut client = curl(&addr, r#"{"max_tokens": 100}"#);
    client.expect_line("@data: ", PATIENCE).await;
    let held = r#"zsem_held_units{semaphore="chat-streams"}"#;
    let (kind, text) = metrics().await;
    assert!(text.contains(&format!("{held} 1\n")), "{text}");
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");

    client.expect_line("@end", PATIENCE).await;
    eventually("the permit is given back", PATIENCE, async || {
        metrics().await.1.contains(&format!("{held} 0\n"))
    })
    .await;
    let (_, text) = metrics().await;
    let wait =
        r#"zsem_wait_seconds_bucket{semaphore="chat-streams",outcome="granted",le="+Inf"} 1"#;
    for wanted in ["# TYPE zsem_wait_seconds histogram", "# HELP zsem_wait_seconds ", wait] {
        assert!(text.contains(wanted), "no {wanted} in:\n{text}");
    }
    assert!(!text.contains(" summary\n"), "{text}");
}
