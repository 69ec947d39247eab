//! Turns, connections, and grants that were not heard.

use test_support::fault_proxy::FaultProxy;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually, ms, within};
use zset_semaphore::metrics::{
    CONNECTS_TOTAL, TURN_IDS, TURN_SECONDS, TURNS_TOTAL, UNHEARD_GRANTS_TOTAL,
};
use zset_semaphore::{Client, ClientBuilder};

use crate::common::connect::{connect, connected};
use crate::common::inspect::{granted, queue};
use crate::common::recorder::Record;
use crate::counts;

#[tokio::test]
async fn each_turn_counts_once_with_its_time_and_what_it_names() {
    for place in crate::common::stores::Place::each().await {
        let (record, _guard) = Record::of_this_thread();
        let jobs = place.client().semaphore("jobs", 9).build().unwrap();
        let permit = within(PATIENCE, jobs.acquire(1)).await.unwrap();
        permit.release().await.unwrap();
        assert_eq!(record.counts(TURNS_TOTAL), counts([("answered", 2)]));
        assert_eq!(record.values(TURN_IDS)[""], [1.0, 1.0]);
        let took = &record.values(TURN_SECONDS)[""];
        assert!(took.len() == 2 && took.iter().all(|took| (0.0..5.0).contains(took)), "{took:?}");
    }
}

#[tokio::test]
async fn turns_without_an_answer_and_refused_ones_count_as_such() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let (record, _guard) = Record::of_this_thread();
    let patient = Client::builder().url(proxy.url()).call_timeout(ms(300));
    let client = connected(patient).await;
    let jobs = client.semaphore("jobs", 9).build().unwrap();
    proxy.black_hole();
    jobs.try_acquire(1).await.unwrap_err();
    eventually("it is written off", PATIENCE, async || {
        record.counts(TURNS_TOTAL).contains_key("unanswered")
    })
    .await;
    proxy.pass();
    let took = record.values(TURN_SECONDS)[""][0];
    assert!((0.29..5.0).contains(&took), "{took} seconds");
    drop(within(PATIENCE, jobs.acquire(1)).await.unwrap());

    server.cmd(&["SET", "zsem:{broken}:permits", "text"]).await;
    let broken = client.semaphore("broken", 9).build().unwrap();
    within(PATIENCE, broken.acquire(1)).await.unwrap_err();
    assert!(record.counts(TURNS_TOTAL).contains_key("refused"));
    let sum: u64 = record.counts(TURNS_TOTAL).values().sum();
    assert_eq!(record.observed(TURN_IDS)[""], sum);
    assert_eq!(record.observed(TURN_SECONDS)[""], sum);
}

#[tokio::test]
async fn each_attempt_to_connect_counts_once() {
    let mut server = RedisServer::start().await;
    server.kill();
    let (record, _guard) = Record::of_this_thread();
    let jobs = Client::open(server.url()).unwrap().semaphore("jobs", 1).build().unwrap();
    let waiting = tokio::spawn(jobs.acquire(1));
    eventually("two attempts have failed", PATIENCE, async || {
        record.counts(CONNECTS_TOTAL).get("failed") >= Some(&2)
    })
    .await;
    server.restart().await;
    drop(granted(waiting).await);
    assert_eq!(record.counts(CONNECTS_TOTAL)["opened"], 1);
}

#[tokio::test]
async fn a_grant_that_is_learnt_of_by_asking_counts_as_unheard() {
    let server = RedisServer::start().await;
    // Granting goes on without the right to publish; only the message is lost.
    server.cmd(&["ACL", "SETUSER", "mute", "on", ">pw", "~*", "&*", "+@all", "-publish"]).await;
    let mute: ClientBuilder = Client::builder().url(server.url()).credentials("mute", "pw");
    let from = connected(mute).await.semaphore("jobs", 1).build().unwrap();
    let (record, _guard) = Record::of_this_thread();
    let to = connect(server.url()).await.semaphore("jobs", 1).build().unwrap();
    let held = from.acquire(1).await.unwrap();
    let waiting = queue(&to, to.acquire(1)).await;
    drop(held);
    drop(granted(waiting).await);
    assert_eq!(record.counts(UNHEARD_GRANTS_TOTAL), counts([("jobs", 1)]));
}
