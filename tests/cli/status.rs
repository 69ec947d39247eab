//! The table of exit statuses, each once.

use std::os::unix::process::ExitStatusExt;

use rustix::process::Signal;
use test_support::redis_server::RedisServer;
use test_support::reserved_port::ReservedPort;

use crate::program::{End, Program, semaphore, until, zsem};

async fn status_of(server: &RedisServer, line: &str) -> i32 {
    Program::start(server, line).status().await
}

#[tokio::test]
async fn the_status_is_that_of_the_command_whatever_it_is() {
    let server = RedisServer::start().await;
    assert_eq!(status_of(&server, "run s -- true").await, 0);
    for status in [1, 64, 69, 75, 76, 125, 255] {
        let program = Program::run(&server.url(), "s", &format!("exit {status}"));
        assert_eq!(program.status().await, status);
    }
}

#[tokio::test]
async fn a_command_that_a_signal_ends_has_128_and_its_number() {
    let server = RedisServer::start().await;
    for (name, number) in [("TERM", 15), ("KILL", 9), ("SEGV", 11)] {
        let program = Program::run(&server.url(), "s", &format!("kill -{name} $$"));
        assert_eq!(program.status().await, 128 + number, "{name}");
    }
}

#[tokio::test]
async fn zsem_ends_by_the_signal_that_has_ended_the_command_or_the_wait() {
    let server = RedisServer::start().await;
    for (name, number) in
        [("INT", 2), ("QUIT", 3), ("TERM", 15), ("KILL", 9), ("SEGV", 11), ("PIPE", 13)]
    {
        let program = Program::run(&server.url(), "s", &format!("ulimit -c 0; kill -{name} $$"));
        let exit = program.exit().await;
        assert_eq!((exit.signal(), exit.core_dumped()), (Some(number), false), "{name}");
    }
    // A trap that exits is no end by a signal.
    let script = "trap 'exit 130' INT; kill -INT $$; sleep 1";
    assert_eq!(Program::run(&server.url(), "s", script).exit().await.code(), Some(130));
    let full = semaphore(&server, "full", 1).await;
    let _held = full.acquire(1).await.unwrap();
    let program = Program::run(&server.url(), "full", "echo ran");
    until(&full, "it waits", |seen| seen.waiters_total == 1).await;
    program.send(Signal::TERM);
    assert_eq!(program.exit().await.signal(), Some(15));
}

#[tokio::test]
async fn a_wrong_command_line_has_64() {
    let server = RedisServer::start().await;
    for line in [
        "",
        "run",
        "run s",
        "run s --",
        "walk s",
        "run --units x s -- true",
        "run --units 0 s -- true",
    ] {
        let end = Program::start(&server, line).end().await;
        assert_eq!((end.status, end.stdout.as_str()), (64, ""), "{line}: {end:?}");
        assert!(!end.stderr.is_empty(), "{line}");
    }
    for line in ["--help", "run --help", "--version"] {
        let end = Program::start(&server, line).end().await;
        assert_eq!((end.status, end.stderr.as_str()), (0, ""), "{line}");
        assert!(end.stdout.contains("zsem"), "{line}: {end:?}");
    }
}

#[tokio::test]
async fn without_redis_it_has_69_and_says_where_it_looked() {
    let port = ReservedPort::any();
    let url = format!("redis://{}", port.addr());
    for line in ["run s -- true", "ls", "show s", "limit s 3", "hold s"] {
        let end = Program::of(&mut zsem(&url, line.split_whitespace())).end().await;
        assert_eq!(end.status, 69, "{line}: {end:?}");
        assert!(end.stderr.starts_with("zsem: ") && end.stderr.contains("127.0.0.1"), "{end:?}");
        assert_eq!(end.stderr.lines().count(), 1, "{end:?}");
    }
}

#[tokio::test]
async fn without_a_permit_it_has_75_or_what_was_chosen_and_runs_nothing() {
    let server = RedisServer::start().await;
    let held = semaphore(&server, "s", 1).await.acquire(1).await.unwrap();
    for (line, status) in
        [("--try s", 75), ("-w 50ms s", 75), ("-E 0 --try s", 0), ("-E 0 --try --units 2 s", 78)]
    {
        let end = Program::run(&server.url(), line, "echo ran").end().await;
        assert_eq!((end.status, end.stdout.as_str()), (status, ""), "{line}: {end:?}");
        assert!(end.stderr.starts_with("zsem: "), "{end:?}");
    }
    let end = Program::run(&server.url(), "-w 320ms s", "echo ran").end().await;
    let told = "zsem: no permit within 320ms, 0 ahead in the queue when last heard\n";
    assert_eq!(end.stderr, told, "what was set is told");
    drop(held);
}

#[tokio::test]
async fn a_quiet_one_tells_errors_and_nothing_of_a_permit_that_it_did_not_get() {
    let server = RedisServer::start().await;
    let full = semaphore(&server, "s", 1).await;
    let held = full.acquire(1).await.unwrap();
    let _waiter = tokio::spawn(full.acquire(1));
    until(&full, "one waits", |seen| seen.waiters_total == 1).await;
    for (line, status) in [
        ("run --try -q s -- true", 75),
        ("run -w 50ms --quiet s -- true", 75),
        ("run --max-queue 1 -q s -- true", 75),
        ("run --try -E 0 -q s -- true", 0),
        ("hold --try -q s", 75),
    ] {
        let end = Program::start(&server, line).end().await;
        assert_eq!(end, End { status, stdout: String::new(), stderr: String::new() }, "{line}");
    }
    drop(held);
    for (line, status, told) in [
        ("run -q --units 2 s -- true", 78, "of a limit of 1"),
        ("run -q other -- /nowhere", 127, "/nowhere"),
        ("run -q --max-hold 200ms other -- sleep 60", 76, "the permit was lost"),
        ("run -q --url unix:///nowhere s -- true", 69, "/nowhere"),
    ] {
        let end = Program::start(&server, line).end().await;
        assert_eq!(end.status, status, "{line}: {end:?}");
        assert!(end.stderr.contains(told), "{line}: {end:?}");
    }
}

#[tokio::test]
async fn a_permit_that_was_lost_has_76() {
    let server = RedisServer::start().await;
    let program = Program::run(&server.url(), "--max-hold 200ms s", "sleep 60");
    let end = program.end().await;
    assert_eq!(end.status, 76, "{end:?}");
    assert!(end.stderr.contains("the permit was lost"), "{end:?}");
}

#[tokio::test]
async fn a_refusal_of_redis_has_77() {
    let server = RedisServer::builder().password("secret").start().await;
    let url = format!("redis://:wrong@{}", server.addr());
    let end = Program::run(&url, "s", "echo ran").end().await;
    assert_eq!((end.status, end.stdout.as_str()), (77, ""), "{end:?}");
    assert!(!end.stderr.contains("wrong"), "the password is shown: {end:?}");
}

#[tokio::test]
async fn a_wrong_setting_has_78() {
    let server = RedisServer::start().await;
    for line in ["--url http://localhost", "--lease 1ms", "--grace 20s", "--url-file /nowhere"] {
        let end = Program::run(&server.url(), &format!("{line} s"), "echo ran").end().await;
        assert_eq!((end.status, end.stdout.as_str()), (78, ""), "{line}: {end:?}");
    }
}

#[tokio::test]
async fn a_command_that_cannot_be_run_has_126_one_that_is_not_there_127() {
    let server = RedisServer::start().await;
    for (command, status) in
        [("/etc/passwd", 126), ("/", 126), ("/nowhere", 127), ("no-such-command", 127)]
    {
        let end = Program::start(&server, &format!("run s -- {command}")).end().await;
        assert_eq!(end.status, status, "{command}: {end:?}");
        assert!(end.stderr.starts_with(&format!("zsem: {command}: ")), "{end:?}");
    }
    // Nothing is held then.
    until(&semaphore(&server, "s", 1).await, "it is given back", |seen| seen.in_use == 0).await;
}

#[tokio::test]
async fn a_signal_during_the_wait_has_128_and_its_number_and_leaves_no_place_in_the_queue() {
    let server = RedisServer::start().await;
    let full = semaphore(&server, "s", 1).await;
    let _held = full.acquire(1).await.unwrap();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT] {
        let program = Program::run(&server.url(), "s", "echo ran");
        until(&full, "it waits", |seen| seen.waiters_total == 1).await;
        program.send(Signal::USR1); // for a command, so it ends no wait
        program.send(signal);
        let end = program.end().await;
        assert_eq!((end.status, end.stdout.as_str()), (128 + signal.as_raw(), ""), "{end:?}");
        assert_eq!(full.inspect().await.unwrap().waiters_total, 0);
    }
}

#[tokio::test]
async fn a_no_has_1() {
    let server = RedisServer::start().await;
    assert_eq!(status_of(&server, "ls").await, 1, "there is no semaphore");
    let released = semaphore(&server, "s", 1).await.acquire(1).await.unwrap().id();
    assert_eq!(status_of(&server, &format!("kick s {released} --yes")).await, 1);
    assert_eq!(status_of(&server, "--read-only limit s 3").await, 1);
}
