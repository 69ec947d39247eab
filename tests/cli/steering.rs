//! `limit`, `pause`, `resume`, `kick`, `hash`, `completions`, `man`.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use test_support::fault_proxy::FaultProxy;
use test_support::redis_server::RedisServer;
use test_support::wait::within;
use zset_semaphore::{Client, LostReason};

use crate::program::{End, LONG, Program, semaphore, until, zsem};

async fn said(server: &RedisServer, line: &str) -> String {
    let end = Program::start(server, line).end().await;
    assert_eq!((end.status, end.stderr.as_str()), (0, ""), "{line}");
    end.stdout
}

#[tokio::test]
async fn a_limit_is_shown_set_and_cleared_with_what_it_was_before() {
    let server = RedisServer::start().await;
    let jobs = semaphore(&server, "jobs", 4).await;
    let _held = jobs.acquire(1).await.unwrap();
    assert_eq!(said(&server, "limit jobs").await, "4\n");
    assert_eq!(
        said(&server, "limit jobs 9").await,
        "jobs: the limit was 4; it is 9, an override of 4\n"
    );
    assert_eq!(jobs.inspect().await.unwrap().limit_override, Some(9));
    assert_eq!(
        said(&server, "pause jobs").await,
        "jobs: the limit was 9, an override of 4; it is paused\n"
    );
    assert!(jobs.try_acquire(1).await.is_err());
    assert_eq!(said(&server, "resume jobs").await, "jobs: the limit was paused; it is 4\n");
    assert_eq!(jobs.inspect().await.unwrap().limit_override, None);
    let change: Value = serde_json::from_str(&said(&server, "limit jobs 5 --json").await).unwrap();
    assert_eq!((&change["before"]["limit"], &change["after"]["limit"]), (&4.into(), &5.into()));
    said(&server, "limit jobs --clear").await;
    assert_eq!(said(&server, "limit jobs").await, "4\n");
}

#[tokio::test]
async fn where_nothing_may_be_changed_nothing_is() {
    let server = RedisServer::start().await;
    let jobs = semaphore(&server, "jobs", 4).await;
    let held = jobs.acquire(1).await.unwrap();
    let kick = format!("kick jobs {} --yes", held.id());
    for line in [
        "limit jobs 9",
        "limit jobs --clear",
        "pause jobs",
        "resume jobs",
        &kick,
        "run jobs -- true",
        "hold jobs",
    ] {
        let end = Program::start(&server, &format!("--read-only {line}")).end().await;
        assert_eq!((end.status, end.stdout.as_str()), (1, ""), "{line}: {end:?}");
    }
    assert_eq!(jobs.inspect().await.unwrap().limit_override, None);
    assert!(!held.is_lost());
    assert_eq!(said(&server, "--read-only limit jobs").await, "4\n");
}

#[tokio::test]
async fn permits_are_kicked_by_id_by_client_and_by_label() {
    let server = RedisServer::start().await;
    for by in ["id", "client", "label"] {
        let client = Client::builder().url(server.url()).label("worker").connect().await.unwrap();
        let lease = Duration::from_secs(3);
        let jobs = client.semaphore("jobs", 9).lease(lease).build().unwrap();
        let (one, other) = (jobs.acquire(2).await.unwrap(), semaphore(&server, "jobs", 9).await);
        let other = other.acquire(1).await.unwrap();
        let whom = match by {
            "id" => one.id().to_string(),
            "client" => format!("--client {}", client.id()),
            _ => "--label worker".to_owned(),
        };
        let said = said(&server, &format!("kick jobs {whom} --yes")).await;
        assert_eq!(said, format!("{}: kicked\nin use: 3 before, 3 after\n", one.id()));
        assert_eq!(within(LONG, one.lost()).await, LostReason::Kicked);
        assert!(!other.is_lost());
        one.release().await.unwrap();
        other.release().await.unwrap();
    }
}

#[tokio::test]
async fn a_kick_tells_programs_what_was_in_use_before_and_after() {
    let server = RedisServer::start().await;
    let jobs = semaphore(&server, "jobs", 3).await;
    let (one, other) = (jobs.acquire(2).await.unwrap(), jobs.acquire(1).await.unwrap());
    let line = format!("kick jobs {} --now --yes --json", one.id());
    let told: Value = serde_json::from_str(&said(&server, &line).await).unwrap();
    let kicked = json!([{ "id": one.id().to_string(), "outcome": "removed" }]);
    assert_eq!(
        told,
        json!({ "kicked": kicked, "before": { "in_use": 3 }, "after": { "in_use": 1 } })
    );
    drop(other);
}

#[tokio::test]
async fn who_waits_is_not_kicked_and_that_is_said() {
    let server = RedisServer::start().await;
    let jobs = semaphore(&server, "jobs", 1).await;
    let held = jobs.acquire(1).await.unwrap();
    let waiter = tokio::spawn(jobs.acquire(1));
    until(&jobs, "one waits", |seen| seen.waiters_total == 1).await;
    let id = jobs.inspect().await.unwrap().waiters[0].id;
    let end = Program::start(&server, &format!("kick jobs {id} --yes")).end().await;
    let told = format!("{id}: it waits; only permits are kicked\nin use: 1 before, 1 after\n");
    assert_eq!((end.status, end.stdout), (1, told));
    held.release().await.unwrap();
    drop(within(LONG, waiter).await.unwrap().unwrap());
}

/// Kicks three permits. The connection breaks after Redis has run the second kick, and before its answer has come.
/// Returns the ids, and how the kick has ended.
async fn kick_that_fails_in_the_middle(option: Option<&str>) -> (Vec<String>, End) {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let jobs = semaphore(&server, "jobs", 3).await;
    let mut permits = Vec::new();
    for _ in 0..3 {
        permits.push(jobs.acquire(1).await.unwrap());
    }
    let ids: Vec<_> = permits.iter().map(|permit| permit.id().to_string()).collect();
    proxy.delay_replies(Duration::from_millis(700));
    let words = ["kick", "jobs", "--yes", "--call-deadline", "8s"].into_iter().chain(option);
    let words = words.chain(ids.iter().map(String::as_str));
    let program = Program::of(&mut zsem(&proxy.url(), words));
    assert_eq!(within(LONG, permits[1].lost()).await, LostReason::Kicked);
    proxy.refuse(true);
    proxy.cut();
    let end = program.end().await;
    assert!(!permits[2].is_lost());
    assert_eq!(end.status, 69, "{end:?}");
    assert!(end.stderr.starts_with("zsem: ") && end.stderr.lines().count() == 1, "{end:?}");
    (ids, end)
}

#[tokio::test]
async fn a_kick_that_fails_in_the_middle_tells_what_was_done_and_what_was_not() {
    let (ids, end) = kick_that_fails_in_the_middle(None).await;
    let [done, unknown, not_tried] = &ids[..] else { panic!("{ids:?}") };
    let told = format!(
        "{done}: kicked\n{unknown}: not known, since Redis has not answered\n{not_tried}: not tried\n\
         in use: 3 before, not known after\n"
    );
    assert_eq!(end.stdout, told);
}

#[tokio::test]
async fn a_kick_that_fails_in_the_middle_tells_programs_the_same() {
    let (ids, end) = kick_that_fails_in_the_middle(Some("--json")).await;
    let outcomes = ["kicked", "unknown", "not_tried"];
    let kicked: Vec<_> = ids
        .iter()
        .zip(outcomes)
        .map(|(id, outcome)| json!({ "id": id, "outcome": outcome }))
        .collect();
    let told: Value = serde_json::from_str(&end.stdout).unwrap();
    assert_eq!(told, json!({ "kicked": kicked, "before": { "in_use": 3 }, "after": null }));
}

#[tokio::test]
async fn a_kick_now_frees_the_units_at_once_and_asks_first() {
    let server = RedisServer::start().await;
    let jobs = semaphore(&server, "jobs", 2).await;
    let held = jobs.acquire(2).await.unwrap();
    let line = format!("kick jobs {} --now", held.id());
    let end = Program::start(&server, &line).end().await;
    assert_eq!(end.status, 64, "without a terminal nobody can be asked: {end:?}");
    let said = said(&server, &format!("{line} --yes")).await;
    assert_eq!(said, format!("{}: removed\nin use: 2 before, 0 after\n", held.id()));
}

#[tokio::test]
async fn a_secret_is_hashed_as_the_keyed_limit_does_and_is_no_argument() {
    let server = RedisServer::start().await;
    let hash = |secret: &str| {
        let mut command = zsem(&server.url(), ["hash"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(secret.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    let key = zset_semaphore::tower::Key::secret(b"sk-123".to_vec()).name();
    assert_eq!(hash("sk-123"), (0, format!("{key}\n")));
    assert_eq!(hash("sk-123\r\n"), (0, format!("{key}\n")));
    assert_eq!(hash("\n"), (64, String::new()));
}

#[tokio::test]
async fn completions_and_the_manual_name_every_verb_and_none_that_is_hidden() {
    let server = RedisServer::start().await;
    for line in ["completions bash", "completions zsh", "completions fish", "man"] {
        let text = said(&server, line).await;
        for verb in ["run", "hold", "ls", "show", "limit", "pause", "resume", "kick", "hash"] {
            assert!(text.contains(verb), "{line} does not name {verb}");
        }
        assert!(!text.contains("__exec"), "{line}");
    }
    let manual = said(&server, "man").await;
    assert!(manual.contains("max\\-queue"), "{manual}");
    assert!(manual.contains(".SH \"EXIT STATUS\"\n.TP\n0\n") && manual.contains("\n.TP\n76\n"));
    assert!(manual.contains("zsem run [OPTIONS] NAME \\-\\- COMMAND"), "{manual}");
    assert_eq!(manual.matches("url\\-file").count(), 1, "options of all commands stand there once");
    assert!(!manual.contains("zsem\\-run(1)"), "it names a page that does not exist");
}
