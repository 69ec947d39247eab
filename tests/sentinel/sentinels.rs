//! Sentinels that are away, wrong, or ask for a password.

use test_support::redis_server::RedisServer;
use test_support::sentinel::{FAILOVER, MASTER, SentinelDeployment};
use test_support::wait::{PATIENCE, eventually, ms, within};
use tokio::time::Instant;
use zset_semaphore::{Client, ConnectError, StoreError, StoreErrorKind};

use crate::{leaves, takes_turns_at};

async fn connect(url: &str) -> Client {
    within(PATIENCE, Client::connect(url)).await.unwrap()
}

async fn refused(url: &str) -> StoreError {
    match within(PATIENCE, Client::connect(url)).await {
        Err(ConnectError::Store(error)) => {
            println!("{error}");
            error
        }
        other => panic!("{url}: {other:?}"),
    }
}

#[track_caller]
fn tells(error: &StoreError, kind: StoreErrorKind, words: &[&str]) {
    assert_eq!(error.kind(), kind, "{error}");
    let told = error.to_string();
    for word in words {
        assert!(told.contains(word), "{told:?} does not say {word:?}");
    }
}

// Behaviour 73
#[tokio::test]
async fn one_living_sentinel_is_enough_and_a_frozen_one_delays_nothing() {
    let mut deployment = SentinelDeployment::start().await;
    deployment.sentinels[0].kill();
    deployment.sentinels[1].freeze();
    let began = Instant::now();
    let client = connect(&deployment.url()).await;
    // A frozen sentinel may take three call timeouts to answer.
    assert!(began.elapsed() < ms(1_500), "{:?}", began.elapsed());
    takes_turns_at(&deployment, 0, &client).await;
}

// Behaviour 73
#[tokio::test]
async fn where_all_sentinels_are_dead_each_is_told_with_its_cause() {
    let mut deployment = SentinelDeployment::builder().replicas(0).start().await;
    deployment.sentinels[0].kill();
    deployment.sentinels[1].kill();
    deployment.sentinels[2].freeze();
    let error = refused(&deployment.url()).await;
    let address = |n: usize| deployment.sentinels[n].addr().to_string();
    let (first, second) = (format!("{}: ", address(0)), format!("{}: ", address(1)));
    let third = format!("{}: no answer within 1.5s", address(2));
    let words = [MASTER, &first, &second, &third, "refused", "are the sentinels running"];
    tells(&error, StoreErrorKind::Unreachable, &words);
    assert!(error.is_transient());

    // A client that was made meanwhile connects as soon as one of them is back.
    let client = Client::open(deployment.url()).unwrap();
    let semaphore = client.semaphore("jobs", 1).build().unwrap();
    let waiting = tokio::spawn(semaphore.acquire(1));
    eventually("it has tried", PATIENCE, async || !waiting.is_finished()).await;
    deployment.sentinels[1].restart();
    drop(within(PATIENCE, waiting).await.unwrap().unwrap());
}

// Behaviour 73
#[tokio::test]
async fn a_master_that_no_sentinel_knows_is_told_at_once() {
    let deployment = SentinelDeployment::builder().replicas(0).sentinels(2).start().await;
    let url = deployment.url().replace(MASTER, "nobody");
    let error = refused(&url).await;
    let words = ["no sentinel tells where nobody is", "it knows no master of this name"];
    tells(&error, StoreErrorKind::Server, &words);
    assert!(error.is_final());
}

// Behaviour 73
#[tokio::test]
async fn a_server_that_is_no_sentinel_is_told_and_passed_over() {
    let deployment = SentinelDeployment::builder().replicas(0).sentinels(1).start().await;
    let plain = deployment.servers[0].addr().to_string();
    let error = refused(&deployment.url_by(&plain)).await;
    let told = format!("{plain}: it is no sentinel");
    tells(&error, StoreErrorKind::Server, &[&told, "set the sentinels"]);
    assert!(error.is_final());

    let both = format!("{plain},{}", deployment.sentinels[0].addr());
    let client = connect(&deployment.url_by(&both)).await;
    takes_turns_at(&deployment, 0, &client).await;
}

// Behaviour 73
#[tokio::test]
async fn sentinels_and_primary_have_passwords_of_their_own() {
    let builder = SentinelDeployment::builder().replicas(0).sentinels(2);
    let deployment = builder.password("primary-pw").sentinel_password("sentinel-pw").start().await;
    let client = connect(&deployment.url()).await;
    takes_turns_at(&deployment, 0, &client).await;

    let url =
        deployment.url().replace(":primary-pw@", "").replace("?sentinel_password=sentinel-pw", "");
    let builder = Client::builder().url(&url);
    let builder =
        builder.credentials("default", "primary-pw").sentinel_credentials("", "sentinel-pw");
    takes_turns_at(&deployment, 0, &within(PATIENCE, builder.connect()).await.unwrap()).await;

    for wrong in ["?sentinel_password=wrong", ""] {
        let error =
            refused(&deployment.url().replace("?sentinel_password=sentinel-pw", wrong)).await;
        let words = ["no sentinel tells", "sentinel_password of the URL"];
        tells(&error, StoreErrorKind::Authentication, &words);
    }
    for wrong in [":wrong@", ""] {
        let error = refused(&deployment.url().replace(":primary-pw@", wrong)).await;
        let primary = deployment.servers[0].addr().to_string();
        let primary = format!("connecting to {primary}, the primary {MASTER}");
        let words = [&primary, "set the user and password of the URL right"];
        tells(&error, StoreErrorKind::Authentication, &words);
        assert!(!error.to_string().contains("sentinel_password"), "{error}");
    }
    // Not told: none of the passwords, by nobody.
    let shown = format!("{client:?} {}", refused(&deployment.url_by("127.0.0.1:1")).await);
    assert!(!shown.contains("-pw"), "{shown}");
}

// Behaviour 73
#[tokio::test]
async fn sentinels_that_were_learnt_are_asked_when_the_seed_has_gone() {
    let mut deployment = SentinelDeployment::start().await;
    let seed = deployment.sentinels[0].addr().to_string();
    let client = connect(&deployment.url_by(&seed)).await;
    takes_turns_at(&deployment, 0, &client).await;
    deployment.sentinels[0].kill();
    deployment.servers[0].kill();
    leaves(&deployment, 0, &client).await;
}

// Behaviour 72
#[tokio::test]
async fn a_sentinel_that_names_an_old_primary_misleads_nobody() {
    let deployment = SentinelDeployment::start().await;
    // A primary that the others have left behind, and that does not know it.
    let left = RedisServer::start().await;
    let stray = deployment.stray_sentinel(&left).await;
    deployment.sentinels[0].fail_over().await;
    let (new, _) = deployment.promoted(0).await;
    eventually("all sentinels name the new primary", FAILOVER, async || {
        let mut named = 0;
        for sentinel in &deployment.sentinels {
            named +=
                usize::from(sentinel.primary().await.unwrap() == deployment.servers[new].addr());
        }
        named == deployment.sentinels.len()
    })
    .await;
    let seeds = format!("{},{}", stray.addr(), deployment.sentinels[0].addr());
    for _ in 0..20 {
        // Not `connect`: on a busy machine, the stray sentinel may be the first to answer by far. Then the first
        // connection ends at once.
        let client = Client::open(deployment.url_by(&seeds)).unwrap();
        leaves(&deployment, 0, &client).await;
    }
}
