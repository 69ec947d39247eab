//! What operators do, and shutdown, over all primaries at once.

use test_support::redis_cluster::RedisCluster;
use test_support::redis_cluster::slots::slot_of;
use test_support::wait::{PATIENCE, eventually, within};
use zset_semaphore::{KickOutcome, LostReason, ZSetSemaphore};

use crate::load::client;

/// Two names of each primary of three.
async fn six_names(cluster: &RedisCluster) -> Vec<String> {
    let mut names = Vec::new();
    for home in 0..3 {
        names.extend(cluster.names_at(home, "jobs", 2).await);
    }
    names
}

#[tokio::test]
async fn permits_are_inspected_kicked_and_limited_at_each_primary_and_where_their_slot_went() {
    let cluster = RedisCluster::start(3).await;
    let [mine, operator] = [client(cluster.url()).await, client(cluster.url()).await];
    for (number, name) in six_names(&cluster).await.into_iter().enumerate() {
        let semaphore = mine.semaphore(&name, 2).build().unwrap();
        let desk = operator.semaphore(&name, 2).build().unwrap();
        let permit = semaphore.acquire(2).await.unwrap();
        // The operator knows the old place of every second name.
        assert_eq!(desk.inspect().await.unwrap().in_use, 2);
        if number % 2 == 1 {
            let next = (cluster.owner_of(&name).await + 1) % 3;
            cluster.move_slot(slot_of(&name), next).await;
        }
        let seen = desk.inspect().await.unwrap();
        assert_eq!((seen.in_use, seen.limit, seen.holders.len()), (2, 2, 1));
        assert_eq!(seen.holders[0].id, permit.id());
        desk.set_limit(5).await.unwrap();
        let more = within(PATIENCE, semaphore.acquire(3)).await.unwrap();
        assert_eq!(desk.inspect().await.unwrap().in_use, 5);
        assert_eq!(desk.kick_now(permit.id()).await.unwrap(), KickOutcome::Removed);
        assert_eq!(within(PATIENCE, permit.lost()).await, LostReason::MissingInStore);
        assert!(!more.is_lost());
        desk.clear_limit().await.unwrap();
        assert_eq!(desk.inspect().await.unwrap().limit, 2);
    }
}

#[tokio::test]
async fn shutdown_gives_everything_back_at_all_primaries() {
    let cluster = RedisCluster::start(3).await;
    let [leaving, other] = [client(cluster.url()).await, client(cluster.url()).await];
    let names = six_names(&cluster).await;
    let handles = |client: &zset_semaphore::Client| -> Vec<ZSetSemaphore> {
        names.iter().map(|name| client.semaphore(name, 1).build().unwrap()).collect()
    };
    let mut held = Vec::new();
    for semaphore in handles(&leaving) {
        held.push(semaphore.acquire(1).await.unwrap());
    }
    // One who waits behind its own permit leaves the queue, and the next one moves up.
    let own: Vec<_> = handles(&leaving).iter().map(|one| tokio::spawn(one.acquire(1))).collect();
    let behind: Vec<_> = handles(&other).iter().map(|one| tokio::spawn(one.acquire(1))).collect();
    for semaphore in handles(&other) {
        eventually("both wait", PATIENCE, async || {
            semaphore.inspect().await.unwrap().waiters.len() == 2
        })
        .await;
    }
    within(PATIENCE, leaving.shutdown_now()).await.unwrap();
    for permit in &held {
        assert_eq!(within(PATIENCE, permit.lost()).await, LostReason::Shutdown);
    }
    for waiting in own {
        assert!(waiting.await.unwrap().is_err());
    }
    for waiting in behind {
        let permit = within(PATIENCE, waiting).await.unwrap().unwrap();
        permit.release().await.unwrap();
    }
    for semaphore in handles(&other) {
        let seen = semaphore.inspect().await.unwrap();
        assert_eq!((seen.in_use, seen.waiters.len()), (0, 0));
    }
}

#[tokio::test]
async fn the_names_of_all_primaries_are_listed_once_each_also_by_a_client_that_knows_no_slot_yet() {
    let cluster = RedisCluster::start(3).await;
    let busy = client(cluster.url()).await;
    let mut names = six_names(&cluster).await;
    let mut held = Vec::new();
    for name in &names {
        held.push(busy.semaphore(name, 1).build().unwrap().acquire(1).await.unwrap());
    }
    names.sort();
    let fresh = zset_semaphore::Client::open(cluster.url()).unwrap();
    for lister in [&fresh, &busy] {
        let found = within(PATIENCE, lister.names(|_| true)).await.unwrap();
        assert_eq!((&found.names, found.complete), (&names, true));
    }
}
