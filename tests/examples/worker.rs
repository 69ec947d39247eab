//! The short worker.

use test_support::redis_server::RedisServer;

use crate::process::{Example, held_and_queued};

#[tokio::test]
async fn the_worker_runs_all_jobs_under_rising_tokens() {
    let redis = RedisServer::start().await;
    let (code, out, err) = Example::start("worker", "", Some(redis.url())).end().await;
    assert_eq!((code, &*err), (Some(0), ""), "{out}");
    let tokens = out.lines().filter_map(|line| line.split_once(", token ")?.1.parse().ok());
    let tokens: Vec<u64> = tokens.collect();
    assert!(tokens.len() == 10 && tokens.is_sorted_by(|one, next| one < next), "{out}");
    for number in 1..=10 {
        assert!(out.contains(&format!("job {number} is done\n")), "{out}");
    }
    assert_eq!(held_and_queued(&redis, "worker-units").await, (0, 0));
}

#[tokio::test]
async fn a_worker_that_is_interrupted_ends_its_job_and_starts_no_other() {
    let redis = RedisServer::start().await;
    let worker = Example::start("worker", "", Some(redis.url()));
    worker.says("job 2 runs").await;
    worker.interrupt();
    let (code, out, err) = worker.end().await;
    assert_eq!((code, &*err), (Some(0), ""), "{out}");
    assert!(out.ends_with("job 2 is done\n") && !out.contains("job 3"), "{out}");
    assert_eq!(held_and_queued(&redis, "worker-units").await, (0, 0));
}
