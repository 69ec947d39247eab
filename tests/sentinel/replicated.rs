//! Grants that are handed out once the replicas behind Sentinel have them.

use test_support::sentinel::{FAILOVER, SentinelDeployment};
use test_support::wait::{PATIENCE, within};
use zset_semaphore::Client;

// Behaviour 89
#[tokio::test]
async fn permits_on_all_replicas_outlive_the_primary_that_is_killed_at_once() {
    let mut deployment = SentinelDeployment::start().await;
    let client = within(PATIENCE, Client::connect(deployment.url())).await.unwrap();
    let replicas = u32::try_from(deployment.servers.len() - 1).unwrap();
    let jobs = client.semaphore("jobs", 8).replicated(replicas).build().unwrap();
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(within(PATIENCE, jobs.acquire(1)).await.unwrap());
    }
    deployment.servers[0].kill();
    for permit in &held {
        within(FAILOVER, permit.extend(FAILOVER)).await.unwrap();
    }
    // The primary that is gone was one of them, so one replica less is left.
    let fewer = client.semaphore("jobs", 8).replicated(replicas - 1).build().unwrap();
    held.push(within(FAILOVER, fewer.acquire(1)).await.unwrap());
    assert_eq!(jobs.inspect().await.unwrap().in_use, 5);
    for permit in held {
        permit.release().await.unwrap();
    }
}
