//! What a failover does to permits, where the replica has all of them.

use test_support::sentinel::{FAILOVER, SentinelDeployment};
use test_support::wait::{PATIENCE, ms, within};
use tokio::time::Instant;
use zset_semaphore::{Client, LostReason, TryAcquireError};

// Behaviour 75
#[tokio::test]
async fn permits_outlive_a_failover_unless_their_lease_ends_before_it() {
    let mut deployment = SentinelDeployment::start().await;
    let client = within(PATIENCE, Client::connect(deployment.url())).await.unwrap();
    let jobs = client.semaphore("jobs", 4).build().unwrap();
    let short = client.semaphore("jobs", 4).lease(ms(900)).build().unwrap();
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(jobs.acquire(1).await.unwrap());
    }
    let brief = short.acquire(1).await.unwrap();
    let highest = brief.fencing_token().max(held[2].fencing_token());
    deployment.servers[0].has_replicas(2).await;

    deployment.servers[0].kill();
    let waiter = tokio::spawn({
        let jobs = jobs.clone();
        async move { (jobs.acquire(1).await.unwrap(), Instant::now()) }
    });
    let reason = within(PATIENCE, brief.lost()).await;
    let lost = Instant::now();
    assert_eq!(reason, LostReason::RenewalTimeout);
    let (next, granted) = within(FAILOVER, waiter).await.unwrap();
    println!("lost {:?} before the next grant", granted - lost);
    assert!(lost <= granted);
    assert!(next.fencing_token() > highest, "{} is no higher than {highest}", next.fencing_token());

    // The new primary counts the other three.
    assert!(held.iter().all(|permit| !permit.is_lost()));
    match within(PATIENCE, jobs.try_acquire(1)).await {
        Err(TryAcquireError::Full { .. }) => {}
        other => panic!("expected Full, got {other:?}"),
    }
    let books = jobs.inspect().await.unwrap();
    assert_eq!(books.in_use, 4);
    for permit in held {
        permit.release().await.unwrap();
    }
    next.release().await.unwrap();
    drop(brief);
    let all = within(PATIENCE, jobs.acquire(4)).await.unwrap();
    all.release().await.unwrap();
}
