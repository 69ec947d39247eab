//! The wait for a permit.

use std::time::Duration;

use test_support::redis_server::RedisServer;

use crate::program::{Program, semaphore, until};

#[tokio::test]
async fn commands_run_in_the_order_in_which_they_came() {
    let server = RedisServer::start().await;
    let full = semaphore(&server, "s", 1).await;
    let held = full.acquire(1).await.unwrap();
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut waiting = Vec::new();
    for number in 1..=5 {
        let script = format!("echo {number} >> {}", log.path().display());
        waiting.push(Program::run(&server.url(), "s", &script));
        until(&full, "it waits", |seen| seen.waiters_total == number).await;
    }
    held.release().await.unwrap();
    for program in waiting {
        assert_eq!(program.status().await, 0);
    }
    assert_eq!(std::fs::read_to_string(log.path()).unwrap(), "1\n2\n3\n4\n5\n");
}

#[tokio::test]
async fn a_queue_that_is_long_enough_turns_away() {
    let server = RedisServer::start().await;
    let full = semaphore(&server, "s", 1).await;
    let _held = full.acquire(1).await.unwrap();
    let first = Program::run(&server.url(), "--max-queue 1 s", "echo ran");
    until(&full, "it waits", |seen| seen.waiters_total == 1).await;
    let end = Program::run(&server.url(), "--max-queue 1 s", "echo ran").end().await;
    assert_eq!((end.status, end.stdout.as_str()), (75, ""), "{end:?}");
    drop(first);
}

#[tokio::test]
async fn a_wait_that_is_killed_is_forgotten_by_the_queue() {
    let server = RedisServer::start().await;
    let full = semaphore(&server, "s", 1).await;
    let held = full.acquire(1).await.unwrap();
    let mut killed = Program::run(&server.url(), "s", "echo ran");
    until(&full, "it waits", |seen| seen.waiters_total == 1).await;
    killed.process().kill();
    let next = Program::run(&server.url(), "s", "echo ran");
    until(&full, "both stand there", |seen| seen.waiters_total == 2).await;
    held.release().await.unwrap();
    let end = next.end().await;
    assert_eq!((end.status, end.stdout.as_str()), (0, "ran\n"));
}

#[tokio::test]
async fn nothing_is_said_of_a_wait_without_a_terminal() {
    let server = RedisServer::start().await;
    let full = semaphore(&server, "s", 1).await;
    let held = full.acquire(1).await.unwrap();
    let program = Program::run(&server.url(), "s", "echo ran");
    until(&full, "it waits for longer than a wait is not shown", |seen| {
        seen.waiters.first().is_some_and(|waiter| waiter.waited > Duration::from_millis(2_500))
    })
    .await;
    held.release().await.unwrap();
    let end = program.end().await;
    assert_eq!((end.status, end.stdout.as_str(), end.stderr.as_str()), (0, "ran\n", ""));
}

#[tokio::test]
async fn a_permit_is_held_until_input_ends_or_a_signal_comes() {
    let server = RedisServer::start().await;
    let seen = semaphore(&server, "s", 4).await;
    for by_signal in [true, false] {
        let mut command =
            crate::program::zsem(&server.url(), ["hold", "-n", "4", "--units", "3", "s"]);
        let mut program = Program::of(command.stdin(std::process::Stdio::piped()));
        let told = program.says("id=").await;
        assert!(told.contains(" token=") && told.ends_with(" units=3"), "{told}");
        assert_eq!(seen.inspect().await.unwrap().in_use, 3);
        match by_signal {
            true => program.send(rustix::process::Signal::TERM),
            false => drop(program.process().child_mut().stdin.take()),
        }
        let end = program.end().await;
        assert_eq!((end.status, end.stderr.as_str()), (0, ""));
        assert_eq!(seen.inspect().await.unwrap().in_use, 0, "it is given back before the end");
    }
}

#[tokio::test]
async fn a_wait_that_has_ended_leaves_no_place_in_the_queue() {
    let server = RedisServer::start().await;
    let full = semaphore(&server, "s", 1).await;
    let _held = full.acquire(1).await.unwrap();
    assert_eq!(Program::run(&server.url(), "-w 100ms s", "echo ran").status().await, 75);
    assert_eq!(full.inspect().await.unwrap().waiters_total, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permit_that_cannot_be_printed_is_given_back() {
    let server = RedisServer::start().await;
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = crate::program::zsem(&server.url(), ["hold", "s"]);
    let mut child = command.stdin(std::process::Stdio::piped()).stdout(full).spawn().unwrap();
    let _input = child.stdin.take(); // it stays open
    assert_eq!(child.wait().unwrap().code(), Some(71));
    assert_eq!(semaphore(&server, "s", 1).await.inspect().await.unwrap().in_use, 0);
}
