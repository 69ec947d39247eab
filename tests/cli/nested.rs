//! A run inside a run of the same name.

use test_support::redis_server::RedisServer;

use crate::program::{End, Program, bash, semaphore, until};

async fn end(server: &RedisServer, line: &str) -> End {
    Program::of(&mut bash(server, line)).end().await
}

#[tokio::test]
async fn a_run_that_waits_for_the_one_around_it_says_so() {
    let server = RedisServer::start().await;
    let _declared = semaphore(&server, "s", 9).await.acquire(1).await.unwrap().release().await;
    let line = "\"$0\" run -n 3 --units 2 s -- \"$0\" run -w 100ms -n 3 --units 2 s -- echo ran";
    let end = end(&server, line).await;
    assert_eq!((end.status, end.stdout.as_str()), (75, ""), "{end:?}");
    let warning = end.stderr.lines().next().unwrap();
    assert_eq!(
        warning,
        "zsem: warning: this runs inside a permit of s; that holds 2 of 3 units, so this waits for its own end"
    );
    assert_eq!(end.stderr.lines().count(), 2, "{end:?}");
}

#[tokio::test]
async fn a_run_that_may_wait_for_the_one_around_it_says_so() {
    let server = RedisServer::start().await;
    let full = semaphore(&server, "s", 2).await;
    let _other = full.acquire(1).await.unwrap();
    let end = end(&server, "\"$0\" run -n 2 s -- \"$0\" run -w 100ms -n 2 s -- echo ran").await;
    assert_eq!((end.status, end.stdout.as_str()), (75, ""), "{end:?}");
    let warning = end.stderr.lines().next().unwrap();
    assert!(warning.ends_with("of s; if all who hold wait like this, nobody is ever let in"));
}

#[tokio::test]
async fn a_run_that_waits_behind_one_that_waits_for_the_run_around_it_says_so() {
    let server = RedisServer::start().await;
    let all = semaphore(&server, "s", 3).await;
    let outer = all.acquire(1).await.unwrap();
    let _large = tokio::spawn(all.acquire(3));
    until(&all, "the large one waits", |seen| seen.waiters_total == 1).await;
    let line = format!("ZSEM_NAME=s ZSEM_ID={} \"$0\" run -w 100ms -n 3 s -- echo ran", outer.id());
    let end = end(&server, &line).await;
    assert_eq!((end.status, end.stdout.as_str()), (75, ""), "{end:?}");
    assert!(end.stderr.starts_with("zsem: warning: this runs inside"), "units are free: {end:?}");
}

#[tokio::test]
async fn nothing_is_said_where_a_run_does_not_wait_for_the_one_around_it() {
    let server = RedisServer::start().await;
    let full = semaphore(&server, "full", 1).await;
    let _held = full.acquire(1).await.unwrap();
    for (line, status) in [
        ("\"$0\" run -n 2 s -- \"$0\" run -n 2 s -- true", 0), // there is room
        ("\"$0\" run -n 1 s -- \"$0\" run -n 1 other -- true", 0),
        ("\"$0\" run -n 1 s -- \"$0\" run -q -n 1 -w 50ms full -- true", 75),
        ("\"$0\" run -n 1 s -- \"$0\" run -q -n 1 --try s -- true", 75), // no wait
        // A permit of another name or of before, as what a command has left behind has it.
        ("ZSEM_NAME=s ZSEM_ID=00c0ffee00c0ffee:7 \"$0\" run -q -n 1 -w 50ms s -- true", 0),
        ("ZSEM_NAME=full ZSEM_ID=00c0ffee00c0ffee:7 \"$0\" run -q -w 50ms full -- true", 75),
        ("ZSEM_NAME=full ZSEM_ID=x \"$0\" run -q -n 1 -w 50ms full -- true", 75),
    ] {
        let end = end(&server, line).await;
        assert_eq!((end.status, end.stderr.as_str()), (status, ""), "{line}");
    }
}
