//! Many at the same time.

use std::fs;

use test_support::redis_server::RedisServer;

use crate::program::{Program, semaphore, until};

const LIMIT: usize = 8;
const CROWD: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_at_once_never_pass_the_limit_and_all_are_served() {
    let server = RedisServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (inside, seen) = (folder.path().join("inside"), folder.path().join("seen"));
    fs::create_dir(&inside).unwrap();
    // Each sees those that are inside with it, itself among them.
    let script = format!(
        "touch {inside}/$ZSEM_TOKEN; ls {inside} | wc -l >> {seen}; sleep 0.02; rm {inside}/$ZSEM_TOKEN",
        inside = inside.display(),
        seen = seen.display(),
    );
    let line = format!("-n {LIMIT} s");
    let crowd: Vec<_> = (0..CROWD).map(|_| Program::run(&server.url(), &line, &script)).collect();
    for program in crowd {
        let end = program.end().await;
        assert_eq!((end.status, end.stderr.as_str()), (0, ""));
    }
    let seen = fs::read_to_string(seen).unwrap();
    let counts: Vec<usize> = seen.lines().map(|line| line.trim().parse().unwrap()).collect();
    assert_eq!(counts.len(), CROWD);
    assert!(counts.iter().all(|count| (1..=LIMIT).contains(count)), "{counts:?}");
    let left = semaphore(&server, "s", 8).await;
    until(&left, "nothing is left", |seen| seen.in_use == 0 && seen.waiters_total == 0).await;
}
