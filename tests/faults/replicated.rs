//! Grants that are handed out once replicas have them.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use test_support::fault_proxy::FaultProxy;
use test_support::redis_pair::RedisPair;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually, ms, within};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use zset_semaphore::{
    AcquireError, Client, Permit, Renew, StoreError, StoreErrorKind, TryAcquireError, ZSetSemaphore,
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
    let told = zero.as_ref().unwrap_err().to_string();
    assert!(told.contains("; too few replicas: 1 of the 2 replicas"), "{told}");
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
    assert!(!waiting.iter().any(JoinHandle::is_finished));
    let third = RedisServer::start().await;
    third.cmd(&["REPLICAOF", "127.0.0.1", &pair.primary.port().to_string()]).await;
    for waiting in waiting {
        drop(within(PATIENCE, waiting).await.unwrap().unwrap());
    }
    emptied(&one).await;
}

/// Holders of ten units, and who of them is lost in a failover to a replica that lacks the last six grants, where others
/// come before the holders. Returns how many were handed out, and how many of those were lost.
async fn lost_in_a_failover(replicas: u32) -> (usize, usize) {
    let mut pair = RedisPair::start().await;
    let far_proxy = FaultProxy::start(pair.primary.addr()).await;
    let far = replicated(&connect(far_proxy.url()).await, 10, replicas);
    let near = replicated(&connect(pair.proxy.url()).await, 10, 0);
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(within(PATIENCE, far.acquire(1)).await.unwrap());
    }
    pair.lag().await;
    let waiting: Vec<_> = (0..6).map(|_| tokio::spawn(far.acquire(1))).collect();
    found(&near, 10, 0).await;
    if replicas == 0 {
        let handed_out = async || waiting.iter().all(JoinHandle::is_finished);
        eventually("all grants are handed out", PATIENCE, handed_out).await;
    }
    far_proxy.refuse(true);
    pair.fail_over().await;
    far_proxy.cut();
    let newcomers = join_all((0..6).map(|_| near.acquire(1)));
    let newcomers = within(PATIENCE, newcomers).await.into_iter().map(Result::unwrap);
    let newcomers: Vec<Permit> = newcomers.collect();
    far_proxy.lead_to(pair.replica.addr());
    far_proxy.refuse(false);
    let mut rest = Vec::new();
    for waiting in waiting {
        match waiting.is_finished() {
            true => held.push(waiting.await.unwrap().unwrap()),
            false => rest.push(waiting),
        }
    }
    // Who is extended is held by the new primary. The others are told that they are lost.
    let extended = join_all(held.iter().map(|permit| permit.extend(Duration::from_secs(60)))).await;
    let lost = extended.iter().filter(|outcome| outcome.is_err()).count();
    // Those that were not handed out stand in the queue again.
    found(&near, 10, rest.len() as u64).await;
    rest.iter().for_each(JoinHandle::abort);
    drop(newcomers);
    (held.len(), lost)
}

// Behaviour 89
#[tokio::test]
async fn a_failover_to_the_replica_loses_no_grant_that_was_handed_out_as_replicated() {
    assert_eq!(lost_in_a_failover(0).await, (10, 6));
    assert_eq!(lost_in_a_failover(1).await, (4, 0));
}

/// The address that a client uses leads to another server, which has a replica, while the connection of its turns
/// stays where it was.
struct Elsewhere {
    old: RedisServer,
    new: RedisServer,
    replica: RedisServer,
    proxy: FaultProxy,
    client: Client,
}

impl Elsewhere {
    async fn start(rights: &str) -> Self {
        let (old, new) = (RedisServer::start().await, RedisServer::start().await);
        let replica = RedisServer::start().await;
        replica.follow(&new, new.port()).await;
        for server in [&old, &new] {
            let user = ["ACL", "SETUSER", "app", "reset", "on", ">pw", "~*", "&*", "+@all"];
            server.cmd(&user).await;
            server.cmd(&["ACL", "SETUSER", "app", rights]).await;
        }
        let proxy = FaultProxy::start(old.addr()).await;
        let client = connect(format!("redis://app:pw@{}", proxy.addr())).await;
        drop(within(PATIENCE, replicated(&client, 1, 0).acquire(1)).await.unwrap());
        proxy.lead_to(new.addr());
        Self { old, new, replica, proxy, client }
    }
}

async fn has(server: &RedisServer, permit: &Permit) -> bool {
    let id = permit.id().to_string();
    server.query::<Option<f64>>(&["ZSCORE", "zsem:{s}:permits", &id]).await.is_some()
}

// Behaviour 89
#[tokio::test]
async fn a_server_without_the_grant_never_answers_for_it_and_the_turns_follow_to_it() {
    let scene = Elsewhere::start("+@all").await;
    let semaphore = replicated(&scene.client, 1, 1);
    let permit = within(PATIENCE, semaphore.acquire(1)).await.unwrap();
    // The new server had not heard of the name, so only a renewal can have put the permit there.
    assert!(has(&scene.new, &permit).await && has(&scene.replica, &permit).await);
    permit.release().await.unwrap();
    emptied(&semaphore).await;
    drop(scene.old);
}

// Behaviour 89
#[tokio::test]
async fn a_server_that_does_not_tell_its_id_answers_only_for_grants_that_it_has() {
    let scene = Elsewhere::start("-info").await;
    let semaphore = replicated(&scene.client, 1, 1);
    let outcome = within(PATIENCE, semaphore.acquire(1).timeout(ms(1_000))).await;
    match outcome.unwrap_err() {
        AcquireError::Timeout { outage: Some(error), .. } => {
            assert_eq!(error.kind(), StoreErrorKind::NotReady, "{error}");
        }
        other => panic!("{other:?}"),
    }
    let waiting = tokio::spawn(semaphore.acquire(1));
    eventually("the old server has granted", PATIENCE, async || {
        scene.old.query::<u64>(&["ZCARD", "zsem:{s}:permits"]).await == 1
    })
    .await;
    scene.proxy.cut();
    let permit = within(PATIENCE, waiting).await.unwrap().unwrap();
    assert!(has(&scene.replica, &permit).await);
}

// Behaviour 89
#[tokio::test]
async fn after_a_failover_while_replicas_are_asked_the_new_primary_and_its_replica_have_the_grant()
{
    let mut pair = RedisPair::start().await;
    let semaphore = replicated(&connect(pair.proxy.url()).await, 1, 1);
    drop(within(PATIENCE, semaphore.acquire(1)).await.unwrap());
    emptied(&semaphore).await; // else the replica may not have the release
    pair.lag().await;
    let waiting = tokio::spawn(semaphore.acquire(1));
    found(&semaphore, 1, 0).await;
    pair.fail_over().await;
    found(&semaphore, 1, 0).await;
    assert!(!waiting.is_finished(), "the new primary has no replica");
    let third = RedisServer::start().await;
    third.follow(&pair.replica, pair.replica.port()).await;
    let permit = within(PATIENCE, waiting).await.unwrap().unwrap();
    assert!(has(&pair.replica, &permit).await && has(&third, &permit).await);
    drop(permit);
    emptied(&semaphore).await;
}

// Behaviour 86
#[tokio::test]
async fn a_close_a_kick_and_a_shutdown_end_who_waits_for_replicas_and_give_the_grant_back() {
    let server = RedisServer::start().await;
    let watcher = replicated(&connect(server.url()).await, 1, 0);

    let semaphore = replicated(&connect(server.url()).await, 1, 1);
    let waiting = tokio::spawn(semaphore.acquire(1));
    found(&watcher, 1, 0).await;
    let held = watcher.inspect().await.unwrap().holders[0].id;
    watcher.kick(held).await.unwrap();
    let outcome = within(PATIENCE, waiting).await.unwrap();
    assert!(matches!(outcome, Err(AcquireError::Kicked)), "{outcome:?}");
    emptied(&watcher).await;

    let waiting = tokio::spawn(semaphore.acquire(1));
    let mut unpolled = std::pin::pin!(semaphore.acquire(1));
    found(&watcher, 1, 0).await;
    assert!(timeout(ms(50), &mut unpolled).await.is_err());
    semaphore.close();
    let outcome = within(PATIENCE, waiting).await.unwrap();
    assert!(matches!(outcome, Err(AcquireError::Closed)), "{outcome:?}");
    emptied(&watcher).await;

    let client = connect(server.url()).await;
    let semaphore = replicated(&client, 1, 1);
    let mut unpolled = std::pin::pin!(semaphore.acquire(1));
    assert!(timeout(ms(300), &mut unpolled).await.is_err());
    found(&watcher, 1, 0).await;
    within(PATIENCE, client.shutdown()).await.unwrap();
    emptied(&watcher).await;
    let outcome = within(PATIENCE, unpolled).await;
    assert!(matches!(outcome, Err(AcquireError::Closed)), "{outcome:?}");
}

// Behaviour 86
#[tokio::test]
async fn a_permit_that_is_lost_before_replicas_have_it_makes_its_acquire_queue_again() {
    let mut pair = RedisPair::start().await;
    let client = connect(pair.primary.url()).await;
    let builder = client.semaphore("s", 1).replicated(1).renew(Renew::Manual);
    let semaphore = builder.lease(ms(400)).build().unwrap();
    drop(within(PATIENCE, semaphore.acquire(1)).await.unwrap());
    pair.replica.freeze();
    let waiting = tokio::spawn(semaphore.acquire(1));
    let mut seen = BTreeSet::new();
    eventually("three leases have ended", PATIENCE, async || {
        let books = semaphore.inspect().await.unwrap();
        assert!(books.in_use <= 1);
        seen.extend(books.holders.iter().map(|holder| holder.id));
        seen.len() >= 3
    })
    .await;
    assert!(!waiting.is_finished());
    pair.replica.thaw();
    let permit = within(PATIENCE, waiting).await.unwrap().unwrap();
    assert!(!permit.is_lost());
    drop(permit);
    emptied(&semaphore).await;
}

// Behaviour 87
#[tokio::test]
async fn a_server_that_refuses_wait_ends_the_acquire_with_advice() {
    let renamed = RedisServer::builder().arg("--rename-command").arg("WAIT").arg("");
    let unknown = renamed.start().await;
    let forbidden = RedisServer::start().await;
    forbidden.cmd(&["ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all", "-wait"]).await;
    for (url, kind, advice) in [
        (unknown.url(), StoreErrorKind::Server, "`replicated` must be 0"),
        (
            format!("redis://app:pw@{}", forbidden.addr()),
            StoreErrorKind::NotPermitted,
            "give the Redis user the rights",
        ),
    ] {
        let semaphore = replicated(&connect(url).await, 1, 1);
        match within(PATIENCE, semaphore.acquire(1)).await.unwrap_err() {
            AcquireError::Refused(error) => {
                println!("{error}");
                assert_eq!(error.kind(), kind);
                assert!(error.to_string().contains(advice), "{error}");
            }
            other => panic!("{other:?}"),
        }
        emptied(&semaphore).await;
    }
}

// Behaviour 89
#[tokio::test]
async fn a_grant_that_the_server_has_lost_is_put_back_before_it_is_handed_out() {
    let mut pair = RedisPair::start().await;
    let client = connect(pair.primary.url()).await;
    // So long that no renewal is due meanwhile.
    let builder = client.semaphore("s", 1).lease(PATIENCE * 6).replicated(1);
    let semaphore = builder.build().unwrap();
    drop(within(PATIENCE, semaphore.acquire(1)).await.unwrap());
    pair.replica.freeze();
    let waiting = tokio::spawn(semaphore.acquire(1));
    found(&semaphore, 1, 0).await;
    pair.primary.cmd(&["FLUSHALL"]).await;
    pair.replica.thaw();
    let permit = within(PATIENCE, waiting).await.unwrap().unwrap();
    assert!(has(&pair.primary, &permit).await && has(&pair.replica, &permit).await);
}

/// Pairs of an acquire and a release by so many tasks, and how long they took.
async fn pairs(semaphore: &ZSetSemaphore, tasks: usize, each: usize) -> Duration {
    let begun = Instant::now();
    let task = async || {
        for _ in 0..each {
            semaphore.acquire(1).await.unwrap().release().await.unwrap();
        }
    };
    join_all((0..tasks).map(|_| task())).await;
    begun.elapsed()
}

// Behaviour 86
#[tokio::test]
async fn under_load_many_grants_cost_one_question_about_replicas() {
    let (primary, replica) = (RedisServer::start().await, RedisServer::start().await);
    replica.follow(&primary, primary.port()).await;
    let client = connect(primary.url()).await;
    let [plain, on_replica] = [0, 1].map(|replicas| replicated(&client, 1_000, replicas));
    for (tasks, each) in [(1, 100), (64, 20)] {
        let mut least = [Duration::MAX; 2];
        primary.reset_stats().await;
        for _ in 0..3 {
            least[0] = least[0].min(pairs(&plain, tasks, each).await);
            least[1] = least[1].min(pairs(&on_replica, tasks, each).await);
        }
        let (waits, grants) = (primary.calls("wait").await, 3 * tasks * each);
        let ratio = least[1].as_secs_f64() / least[0].as_secs_f64();
        let [plain, on_replica] = least.map(|took| took / u32::try_from(tasks * each).unwrap());
        println!("{tasks} tasks: {plain:?} a pair, with a replica {on_replica:?}: {ratio:.1}");
        assert!(tasks == 1 || waits as usize <= grants / 8, "{waits} for {grants} grants");
    }
}
