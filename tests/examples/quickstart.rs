//! The quickstart.

use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually};
use zset_semaphore::Client;

use crate::process::{Example, held_and_queued};

#[tokio::test]
async fn the_quickstart_waits_while_all_is_held_and_then_runs_its_jobs() {
    let redis = RedisServer::start().await;
    let client = Client::connect(redis.url()).await.unwrap();
    let all = client.semaphore("quickstart", 3).build().unwrap().acquire(3).await.unwrap();
    let quickstart = Example::start("quickstart", "", Some(redis.url()));
    eventually("it waits", PATIENCE, async || {
        held_and_queued(&redis, "quickstart").await == (1, 1)
    })
    .await;
    assert_eq!(quickstart.stdout(), "");
    all.release().await.unwrap();

    let (code, out, err) = quickstart.end().await;
    assert_eq!((code, &*err), (Some(0), ""), "{out}");
    let expected = (1..=5).map(|number| format!("job {number} runs, 1 of 3 in use"));
    assert_eq!(out.lines().collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    assert_eq!(held_and_queued(&redis, "quickstart").await, (0, 0));
}
