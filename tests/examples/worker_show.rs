//! The show of the workers.

use std::collections::BTreeSet;

use test_support::fault_proxy::FaultProxy;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually, within};
use zset_semaphore::{Client, KickOutcome};

use crate::process::{Example, LONG, held_and_queued};

#[tokio::test]
async fn the_worker_does_every_job_once_within_the_limit() {
    let (code, out, err) = Example::start("worker_show", "", None).end().await;
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
    let workers = [(); 2].map(|()| Example::start("worker_show", args, Some(redis.url())));
    eventually("all wait", PATIENCE, async || {
        workers.iter().for_each(Example::complains_not);
        held_and_queued(&redis, "jobs").await == (0, 8)
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
    assert_eq!(held_and_queued(&redis, "jobs").await, (0, 0));
}

#[tokio::test]
async fn sigterm_lets_jobs_end_and_leaves_nothing_behind() {
    let redis = RedisServer::start().await;
    let mut worker = Example::start("worker_show", "--jobs 1000 --job-ms 300", Some(redis.url()));
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
    assert_eq!(held_and_queued(&redis, "jobs").await, (0, 0));
}

#[tokio::test]
async fn a_worker_stops_a_job_whose_permit_was_kicked_and_does_it_again() {
    let redis = RedisServer::start().await;
    let args = "--jobs 1 --workers 1 --job-ms 600000 --lease-ms 1000";
    let worker = Example::start("worker_show", args, Some(redis.url()));
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
    let worker = Example::start("worker_show", args, Some(proxy.url()));
    let token = worker.says("worker 1 starts job 1 (weight 1), token ").await;
    proxy.black_hole();
    worker.says("worker 1 stopped job 1 (weight 1): no renewal was confirmed in time").await;
    proxy.pass();
    eventually("it starts again", PATIENCE, async || Work::of(&worker.stdout()).tokens.len() == 2)
        .await;
    let tokens = Work::of(&worker.stdout()).tokens;
    assert_eq!(tokens.first(), Some(&token.parse().unwrap()), "tokens rise");
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
