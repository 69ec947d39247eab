//! Grants that are handed out once replicas have them.

use std::time::Duration;

use futures_util::future::join_all;
use test_support::redis_pair::RedisPair;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, ms, within};
use tokio::time::{Instant, timeout};
use zset_semaphore::{
    AcquireError, Client, StoreError, StoreErrorKind, TryAcquireError, ZSetSemaphore,
};

use crate::common::connect::connect;
use crate::common::inspect::{emptied, found};

fn replicated(client: &Client, limit: u32, replicas: u32) -> ZSetSemaphore {
    client.semaphore("s", limit).replicated(replicas).build().unwrap()
}

/// What `StoreErrorKind::TooFewReplicas` tells: the number that is wanted, and the number that has acknowledged.
fn counts(error: &StoreError) -> (u32, u32) {
    match error.kind() {
        StoreErrorKind::TooFewReplicas { wanted, acknowledged } => (wanted, acknowledged),
        kind => panic!("{kind:?}: {error}"),
    }
}

// Behaviour 86
#[tokio::test]
async fn a_grant_waits_for_a_frozen_replica_and_comes_when_it_is_thawed() {
    let mut pair = RedisPair::start().await;
    let semaphore = replicated(&connect(pair.primary.url()).await, 2, 1);
    let begun = Instant::now();
    let first = within(PATIENCE, semaphore.acquire(1)).await.unwrap();
    println!("replicated after {:?}", begun.elapsed());
    assert!(
        pair.replica
            .query::<Option<u64>>(&["ZSCORE", "zsem:{s}:permits", &first.id().to_string()])
            .await
            .is_some()
    );
    pair.replica.freeze();
    let mut second = std::pin::pin!(semaphore.acquire(1));
    assert!(timeout(ms(600), &mut second).await.is_err(), "no replica has it");
    found(&semaphore, 2, 0).await;
    assert_eq!(second.place(), None);
    pair.replica.thaw();
    let second = within(PATIENCE, second).await.unwrap();
    drop((first, second));
    emptied(&semaphore).await;
}

// Behaviour 86
#[tokio::test]
async fn callers_at_the_same_time_share_the_question_about_replicas() {
    let pair = RedisPair::start().await;
    let semaphore = replicated(&connect(pair.primary.url()).await, 200, 1);
    pair.primary.reset_stats().await;
    let permits = within(PATIENCE, join_all((0..200).map(|_| semaphore.acquire(1)))).await;
    assert!(permits.iter().all(Result::is_ok));
    let waits = pair.primary.calls("wait").await;
    println!("200 permits took {waits} calls of WAIT");
    assert!((1..=20).contains(&waits), "{waits}");
    drop(permits);
    emptied(&semaphore).await;
}

// Behaviour 87
#[tokio::test]
async fn too_few_replicas_end_an_acquire_by_its_timeout_with_the_numbers() {
    let pair = RedisPair::start().await;
    let semaphore = replicated(&connect(pair.primary.url()).await, 1, 2);
    let outcome = within(PATIENCE, semaphore.acquire(1).timeout(ms(700))).await;
    let AcquireError::Timeout { waited, place: None, outage: Some(error) } = outcome.unwrap_err()
    else {
        panic!("expected a timeout")
    };
    println!("{error}");
    assert_eq!(counts(&error), (2, 1));
    assert!(error.is_transient() && waited >= ms(700) && waited < ms(2_000), "{waited:?}");
    emptied(&semaphore).await;
    // Another server would be needed, so a second try is told the same.
    for outcome in [semaphore.try_acquire(1).await, semaphore.try_acquire(1).await] {
        match outcome.unwrap_err() {
            TryAcquireError::Unavailable(error) => assert_eq!(counts(&error), (2, 1)),
            other => panic!("{other:?}"),
        }
        emptied(&semaphore).await;
    }
    let zero = within(PATIENCE, semaphore.acquire(1).timeout(Duration::ZERO)).await;
    let Err(AcquireError::Timeout { outage: Some(error), .. }) = zero else { panic!("{zero:?}") };
    assert_eq!(counts(&error), (2, 1));
    emptied(&semaphore).await;
}

// Behaviour 86
#[tokio::test]
async fn a_caller_who_gives_up_while_replicas_are_asked_leaves_nothing() {
    let mut pair = RedisPair::start().await;
    let semaphore = replicated(&connect(pair.primary.url()).await, 1, 1);
    drop(within(PATIENCE, semaphore.acquire(1)).await.unwrap());
    pair.replica.freeze();
    for _ in 0..3 {
        let acquire = semaphore.acquire(1);
        let waiting = tokio::spawn(acquire);
        found(&semaphore, 1, 0).await;
        waiting.abort();
        emptied(&semaphore).await;
    }
    pair.replica.thaw();
    drop(within(PATIENCE, semaphore.acquire(1)).await.unwrap());
}

// Behaviour 86
#[tokio::test]
async fn a_number_that_cannot_be_reached_holds_up_no_smaller_one() {
    let pair = RedisPair::start().await;
    let client = connect(pair.primary.url()).await;
    let (one, two) = (replicated(&client, 100, 1), replicated(&client, 100, 2));
    let waiting: Vec<_> = (0..5).map(|_| tokio::spawn(two.acquire(1))).collect();
    found(&one, 5, 0).await;
    let begun = Instant::now();
    for _ in 0..20 {
        drop(within(PATIENCE, one.acquire(1)).await.unwrap());
    }
    println!("20 permits beside: {:?}", begun.elapsed());
    assert!(begun.elapsed() < ms(1_000), "{:?}", begun.elapsed());
    assert!(!waiting.iter().any(tokio::task::JoinHandle::is_finished));
    let third = RedisServer::start().await;
    third.cmd(&["REPLICAOF", "127.0.0.1", &pair.primary.port().to_string()]).await;
    for waiting in waiting {
        drop(within(PATIENCE, waiting).await.unwrap().unwrap());
    }
    emptied(&one).await;
}
