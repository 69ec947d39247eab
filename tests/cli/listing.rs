//! `ls` and `show`.

use serde_json::Value;
use test_support::fault_proxy::FaultProxy;
use test_support::redis_server::RedisServer;
use zset_semaphore::{Client, Inspection};

use crate::program::{End, Program, semaphore, until, zsem};

async fn told(server: &RedisServer, line: &str) -> End {
    let end = Program::start(server, line).end().await;
    assert_eq!(end.stderr, "", "{line}");
    end
}

async fn json(server: &RedisServer, line: &str) -> Value {
    serde_json::from_str(&told(server, line).await.stdout).unwrap()
}

#[tokio::test]
async fn a_list_has_what_is_in_use_the_limit_and_the_queue_of_each_name() {
    let server = RedisServer::start().await;
    let chats = semaphore(&server, "chats/eu", 4).await;
    let _held = [chats.acquire(3).await.unwrap(), chats.acquire(1).await.unwrap()];
    let _waiter = tokio::spawn(chats.acquire(2));
    until(&chats, "one waits", |seen| seen.waiters_total == 1).await;
    let jobs = semaphore(&server, "jobs", 2).await;
    let _job = jobs.acquire(1).await.unwrap();
    jobs.set_limit(0).await.unwrap();

    let text = told(&server, "ls").await.stdout;
    let lines: Vec<Vec<&str>> =
        text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0].join(" "), "NAME IN USE LIMIT HOLDERS WAITING OLDEST WAIT");
    assert_eq!(lines[1][..5], ["chats/eu", "4", "4", "2", "1"]);
    assert_eq!(lines[2], ["jobs", "1", "paused", "1", "0"]);
    assert!(!text.contains('\u{1b}'), "there is no terminal");

    let listing = json(&server, "ls --json c*").await;
    let chats = &listing["semaphores"][0];
    assert_eq!(
        (listing["semaphores"].as_array().unwrap().len(), &listing["complete"]),
        (1, &true.into())
    );
    assert_eq!(
        (&chats["in_use"], &chats["limit"], &chats["waiters"]),
        (&4.into(), &4.into(), &1.into())
    );
    assert!(chats["oldest_wait_ms"].as_u64().is_some());
}

#[tokio::test]
async fn one_semaphore_is_shown_with_holders_waiters_and_their_state() {
    let server = RedisServer::start().await;
    let client = Client::builder().url(server.url()).label("worker 7").connect().await.unwrap();
    let jobs = client.semaphore("jobs", 2).build().unwrap();
    let held = jobs.acquire(2).await.unwrap();
    let _waiter = tokio::spawn(jobs.acquire(1));
    until(&jobs, "one waits", |seen| seen.waiters_total == 1).await;

    let text = told(&server, "show jobs").await.stdout;
    assert!(text.starts_with("jobs: 2 in use, limit 2; 1 held, 1 waiting\n"), "{text}");
    let id = held.id().to_string();
    let line = text.lines().find(|line| line.starts_with(&id)).unwrap();
    assert!(line.contains("worker 7") && line.ends_with("live"), "{text}");

    let shown = json(&server, "show jobs --json").await;
    let holder = &shown["holders"][0];
    assert_eq!((&holder["id"], &holder["label"]), (&id.into(), &"worker 7".into()));
    assert_eq!((&holder["state"], &holder["lease_ms"]), (&"live".into(), &30_000.into()));
    assert_eq!(shown["waiters"][0]["units"], 1);

    jobs.kick(held.id()).await.unwrap();
    assert!(told(&server, "show jobs").await.stdout.contains("kicked"));
}

#[tokio::test]
async fn what_show_prints_as_json_reads_as_an_inspection_of_the_library() {
    let server = RedisServer::start().await;
    let jobs = semaphore(&server, "jobs", 2).await;
    let _held = jobs.acquire(2).await.unwrap();
    let _waiter = tokio::spawn(jobs.acquire(1));
    until(&jobs, "one waits", |seen| seen.waiters_total == 1).await;
    let text = told(&server, "show jobs --json").await.stdout;
    let read: Inspection = serde_json::from_str(&text).unwrap();
    let seen = jobs.inspect().await.unwrap();
    assert_eq!((read.limit, read.declared_limit, read.in_use), (2, Some(2), 2));
    assert_eq!(
        (read.holders[0].id, read.holders[0].lease),
        (seen.holders[0].id, seen.holders[0].lease)
    );
    assert_eq!(
        (read.waiters[0].id, read.waiters[0].ticket),
        (seen.waiters[0].id, seen.waiters[0].ticket)
    );
}

#[tokio::test]
async fn a_name_that_nobody_uses_is_shown_as_empty() {
    let server = RedisServer::start().await;
    let text = told(&server, "show nothing").await.stdout;
    assert_eq!(text, "nothing: 0 in use, limit not known; 0 held, 0 waiting\n");
}

#[tokio::test]
async fn a_holder_that_does_not_renew_is_shown_as_overdue_and_then_as_silent() {
    let server = RedisServer::start().await;
    let client = Client::connect(server.url()).await.unwrap();
    let lease = std::time::Duration::from_secs(6);
    let jobs = client.semaphore("jobs", 1).lease(lease);
    let jobs = jobs.renew(zset_semaphore::Renew::Manual).build().unwrap();
    let _held = jobs.acquire(1).await.unwrap();
    for (state, left) in [("renewal overdue", lease * 2 / 3), ("silent", lease / 3)] {
        until(&jobs, state, |seen| seen.holders.iter().all(|holder| holder.expires_in < left))
            .await;
        let text = told(&server, "show jobs").await.stdout;
        assert!(text.lines().any(|line| line.ends_with(state)), "{state}: {text}");
    }
}

#[tokio::test]
async fn a_holder_whose_lease_has_ended_is_shown_as_ended() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let client = Client::connect(proxy.url()).await.unwrap();
    let jobs = client.semaphore("jobs", 2).lease(std::time::Duration::from_secs(3));
    let jobs = jobs.build().unwrap();
    let (_held, kicked) = (jobs.acquire(1).await.unwrap(), jobs.acquire(1).await.unwrap());
    proxy.black_hole();
    let seen = semaphore(&server, "jobs", 2).await;
    seen.kick(kicked.id()).await.unwrap();
    let is_over = |holder: &zset_semaphore::Holder| holder.expires_in.is_zero();
    until(&seen, "the leases have ended", |seen| seen.holders.iter().all(is_over)).await;
    let text = told(&server, "show jobs").await.stdout;
    assert_eq!(text.lines().filter(|line| line.ends_with("ended")).count(), 2, "{text}");
    let shown = json(&server, "show jobs --json").await;
    assert_eq!((&shown["in_use"], &shown["holders"][0]["state"]), (&2.into(), &"ended".into()));
}

#[tokio::test]
async fn a_list_tells_a_few_of_many_failures_and_how_many_there_are() {
    let server = RedisServer::start().await;
    for name in ["a", "b", "c", "d", "e", "f", "g"] {
        semaphore(&server, name, 1).await.set_limit(1).await.unwrap();
    }
    server.cmd(&["ACL", "SETUSER", "default", "-evalsha"]).await;
    let end = Program::start(&server, "ls").end().await;
    assert_eq!((end.status, end.stderr.lines().count()), (77, 6), "{end:?}");
    assert!(end.stderr.ends_with("zsem: 2 more names failed\n"), "{end:?}");
}

#[tokio::test]
async fn what_comes_from_redis_is_safe_to_print() {
    let server = RedisServer::start().await;
    let jobs = semaphore(&server, "jobs", 1).await;
    let held = jobs.acquire(1).await.unwrap();
    let field = format!("l:{}", held.id().client());
    let huge = "x".repeat(10 << 20);
    for (label, shown) in [
        ("\u{1b}]0;owned\u{7}\u{1b}[2J", "\u{fffd}]0;owned\u{fffd}\u{fffd}[2J"),
        ("\u{202e}txt.exe", "\u{fffd}txt.exe"),
        (huge.as_str(), "xxxx"),
    ] {
        server.cmd(&["HSET", "zsem:{jobs}:meta", &field, &format!("1 {label}")]).await;
        let text = told(&server, "show jobs").await.stdout;
        assert!(text.contains(shown), "{text}");
        assert!(!text.contains(['\u{1b}', '\u{7}', '\u{202e}']) && text.len() < 2_000, "{text}");
    }
    // Not even text.
    let mut raw = redis::cmd("HSET");
    raw.arg("zsem:{jobs}:meta").arg(&field).arg(b"1 \xff\xfe");
    let mut connection = server.connection().await;
    raw.query_async::<()>(&mut connection).await.unwrap();
    assert!(told(&server, "show jobs").await.stdout.contains("\u{fffd}\u{fffd}"));
}

#[tokio::test]
async fn json_is_safe_to_print_and_loses_nothing() {
    let server = RedisServer::start().await;
    let name = "a\u{202e}b\u{e0041}\u{e9}";
    let jobs = semaphore(&server, name, 1).await;
    let _held = jobs.acquire(1).await.unwrap();
    let text = told(&server, "ls --json").await.stdout;
    assert!(text.contains("a\\u202eb\\udb40\\udc41\u{e9}"), "{text}");
    let listing: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(listing["semaphores"][0]["name"], name);
}

#[tokio::test]
async fn a_pattern_takes_brackets_as_they_are() {
    let server = RedisServer::start().await;
    let mut held = Vec::new();
    for name in ["a[b]c", "abc", "a/b/c"] {
        held.push(semaphore(&server, name, 1).await.acquire(1).await.unwrap());
    }
    for (pattern, names) in
        [("a[b]*", &["a[b]c"][..]), ("a?c", &["abc"]), ("a/*", &["a/b/c"]), ("[", &[])]
    {
        let end = Program::start(&server, &format!("ls --json {pattern}")).end().await;
        let listing: Value = serde_json::from_str(&end.stdout).unwrap();
        let found: Vec<_> = listing["semaphores"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["name"].as_str().unwrap())
            .collect();
        assert_eq!(found, names, "{pattern}");
    }
}

#[tokio::test]
async fn colours_are_only_where_they_are_wanted() {
    let server = RedisServer::start().await;
    let _held = semaphore(&server, "jobs", 1).await.acquire(1).await.unwrap();
    for (line, colored) in [("ls", false), ("ls --color always", true), ("ls --color never", false)]
    {
        assert_eq!(told(&server, line).await.stdout.contains('\u{1b}'), colored, "{line}");
    }
}

#[tokio::test]
async fn a_list_goes_on_where_nobody_reads_it_any_more() {
    let server = RedisServer::start().await;
    let _held = semaphore(&server, "jobs", 1).await.acquire(1).await.unwrap();
    let mut command = zsem(&server.url(), ["ls"]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_key_that_is_damaged_hides_no_other_semaphore() {
    let server = RedisServer::start().await;
    let _held = semaphore(&server, "jobs", 1).await.acquire(1).await.unwrap();
    server.cmd(&["SET", "zsem:{bad}:meta", "1"]).await;
    let end = Program::start(&server, "ls").end().await;
    assert_eq!(end.status, 77);
    assert!(end.stdout.contains("jobs") && end.stderr.contains("bad"), "{end:?}");
}
