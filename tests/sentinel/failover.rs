//! The primary dies, freezes or is changed by hand.

use std::time::Duration;

use test_support::fault_proxy::FaultProxy;
use test_support::sentinel::{FAILOVER, MASTER, SentinelDeployment};
use test_support::wait::{PATIENCE, eventually, ms, within};
use tokio::time::Instant;
use zset_semaphore::Client;

use crate::{leaves, takes_turns_at};

/// From the promotion, as the replica itself tells it, to the next grant.
const AT_MOST: Duration = Duration::from_millis(500);

/// How long after a fault a waiter was granted: from when a replica was promoted, from when the first sentinel
/// named it, and from the fault.
struct Granted {
    after_promotion: Duration,
    after_sentinel: Duration,
    after_fault: Duration,
}

impl Granted {
    fn tell(&self, what: &str) {
        let Self { after_promotion, after_sentinel, after_fault } = self;
        println!(
            "{what}: granted {after_sentinel:?} after a sentinel named the new primary, \
             {after_promotion:?} after that became one, {after_fault:?} after the fault"
        );
        assert!(*after_promotion <= AT_MOST, "{after_promotion:?}");
    }
}

async fn grant_after(
    deployment: &mut SentinelDeployment,
    client: &Client,
    fault: impl AsyncFnOnce(&mut SentinelDeployment, usize),
) -> Granted {
    let semaphore = client.semaphore("jobs", 1_000).build().unwrap();
    drop(within(PATIENCE, semaphore.acquire(1)).await.unwrap());
    let old = deployment.primary().await;
    let since = Instant::now();
    fault(deployment, old).await;
    let grant = async {
        let permit = within(FAILOVER, semaphore.acquire(1)).await.unwrap();
        let at = Instant::now();
        drop(permit);
        at
    };
    let (granted, promoted, named) =
        tokio::join!(grant, deployment.promoted(old), deployment.named_other_than(old));
    Granted {
        after_promotion: granted.saturating_duration_since(promoted.1),
        after_sentinel: granted.saturating_duration_since(named.1),
        after_fault: granted - since,
    }
}

// Behaviour 72
#[tokio::test]
async fn a_killed_primary_costs_half_a_second_beyond_the_promotion() {
    for round in 0..5 {
        let mut deployment = SentinelDeployment::start().await;
        let client = within(PATIENCE, Client::connect(deployment.url())).await.unwrap();
        let kill = async |deployment: &mut SentinelDeployment, primary: usize| {
            deployment.servers[primary].kill();
        };
        let granted = grant_after(&mut deployment, &client, kill).await;
        granted.tell(&format!("killed, round {round}"));
    }
}

// Behaviour 72
#[tokio::test]
async fn a_frozen_primary_costs_no_more_than_a_killed_one() {
    let mut deployment = SentinelDeployment::start().await;
    let client = within(PATIENCE, Client::connect(deployment.url())).await.unwrap();
    let freeze = async |deployment: &mut SentinelDeployment, primary: usize| {
        deployment.servers[primary].freeze();
    };
    let granted = grant_after(&mut deployment, &client, freeze).await;
    granted.tell("frozen");
}

// Behaviour 72
#[tokio::test]
async fn a_failover_by_hand_ends_in_turns_on_the_new_primary() {
    let deployment = SentinelDeployment::start().await;
    let client = within(PATIENCE, Client::connect(deployment.url())).await.unwrap();
    takes_turns_at(&deployment, 0, &client).await;
    deployment.sentinels[1].fail_over().await;
    let (new, promoted) = deployment.promoted(0).await;
    takes_turns_at(&deployment, new, &client).await;
    let moved = promoted.elapsed();
    println!("by hand: moved {moved:?} after the promotion");
    assert!(moved <= AT_MOST, "{moved:?}");
    leaves(&deployment, 0, &client).await;
    let shown = format!("{client:?}");
    let old = format!("{MASTER} at {}", deployment.servers[0].addr());
    assert!(shown.contains(&format!("{MASTER} at ")) && !shown.contains(&old), "{shown}");
}

// Behaviour 72
#[tokio::test]
async fn a_failover_that_the_sentinels_do_not_know_of_ends_there_too() {
    let deployment = SentinelDeployment::start().await;
    let client = within(PATIENCE, Client::connect(deployment.url())).await.unwrap();
    takes_turns_at(&deployment, 0, &client).await;
    deployment.servers[0].cmd(&["FAILOVER"]).await;
    let (new, promoted) = deployment.promoted(0).await;
    takes_turns_at(&deployment, new, &client).await;
    println!("by hand: moved {:?} after the promotion", promoted.elapsed());
    assert_eq!(deployment.primary().await, 0, "no sentinel knows yet");
}

// Behaviour 72
#[tokio::test]
async fn a_client_of_an_old_primary_that_no_sentinel_reaches_is_told_to_leave_it() {
    let deployment = SentinelDeployment::builder()
        .server_args("--user watcher on >pw ~* &* +@all")
        .password("pw")
        .sentinel_line(&format!("sentinel auth-user {MASTER} watcher"))
        .start()
        .await;
    let client = within(PATIENCE, Client::connect(deployment.url())).await.unwrap();
    takes_turns_at(&deployment, 0, &client).await;

    // From now on it is alone with its clients, and no sentinel can tell it that it is no primary any more.
    deployment.servers[0].cmd(&["ACL", "SETUSER", "watcher", "off"]).await;
    deployment.servers[0].cmd(&["CLIENT", "KILL", "USER", "watcher"]).await;
    let (_, named) = deployment.named_other_than(0).await;
    leaves(&deployment, 0, &client).await;
    println!("isolated: left {:?} after a sentinel named the new primary", named.elapsed());
    assert!(deployment.is_primary(0).await, "the old one still thinks so");
    let another = within(PATIENCE, Client::connect(deployment.url())).await.unwrap();
    leaves(&deployment, 0, &another).await;
}

// Behaviour 72
#[tokio::test]
async fn a_primary_that_comes_back_in_its_place_is_found_without_a_failover() {
    let mut deployment = SentinelDeployment::builder().replicas(0).sentinels(1).start().await;
    let client = within(PATIENCE, Client::connect(deployment.url())).await.unwrap();
    takes_turns_at(&deployment, 0, &client).await;
    deployment.servers[0].kill();
    let waiting = tokio::spawn(client.semaphore("jobs", 1).build().unwrap().acquire(1));
    eventually("the client has noticed", PATIENCE, async || !client.is_available()).await;
    deployment.servers[0].restart_empty().await;
    let up = Instant::now();
    drop(within(PATIENCE, waiting).await.unwrap().unwrap());
    println!("in its place: granted {:?} after the restart", up.elapsed());
    takes_turns_at(&deployment, 0, &client).await;
}

// Behaviour 72
#[tokio::test]
async fn while_the_primary_is_away_a_search_listens_to_the_sentinels_instead_of_connecting_anew() {
    let mut deployment = SentinelDeployment::builder().replicas(0).sentinels(1).start().await;
    let proxy = FaultProxy::start(deployment.sentinels[0].addr()).await;
    let url = deployment.url_by(&proxy.addr().to_string());
    let client = within(PATIENCE, Client::connect(url)).await.unwrap();
    takes_turns_at(&deployment, 0, &client).await;
    let before = proxy.connections_total();
    deployment.servers[0].kill();
    let since = Instant::now();
    // Two whole searches, and the begin of the third.
    proxy.wait_for_connections(before + 3).await;
    let waited = since.elapsed();
    println!("away: the third search began after {waited:?}");
    assert!(waited >= ms(2_900), "{waited:?}");
}

// Behaviour 72
#[tokio::test]
async fn a_replica_that_was_promoted_but_that_no_sentinel_names_is_left_again() {
    let mut deployment = SentinelDeployment::builder().replicas(1).start().await;
    let client = within(PATIENCE, Client::connect(deployment.url())).await.unwrap();
    takes_turns_at(&deployment, 0, &client).await;
    deployment.sentinels[0].fail_over().await;
    let (new, _) = deployment.promoted(0).await;
    // It has told the replica to become the primary, and dies before it knows that it is one.
    deployment.sentinels[0].kill();
    let since = Instant::now();
    takes_turns_at(&deployment, new, &client).await;
    for sentinel in &deployment.sentinels[1..] {
        assert_eq!(deployment.at(sentinel.primary().await.unwrap()), 0, "it died too late");
    }
    takes_turns_at(&deployment, 0, &client).await;
    println!("left {:?} after the sentinel died", since.elapsed());
    assert!(since.elapsed() < ms(3_000), "{:?}", since.elapsed());
}

// Behaviour 88
#[tokio::test]
async fn after_a_long_outage_a_promotion_is_noticed_at_once() {
    let mut deployment = SentinelDeployment::start().await;
    let client = within(PATIENCE, Client::connect(deployment.url())).await.unwrap();
    takes_turns_at(&deployment, 0, &client).await;
    // The only sentinel that is left cannot promote a replica.
    deployment.sentinels[1].kill();
    deployment.sentinels[2].kill();
    let kill = async |deployment: &mut SentinelDeployment, primary: usize| {
        deployment.servers[primary].kill();
        tokio::time::sleep(Duration::from_secs(15)).await;
        deployment.sentinels[1].restart();
        deployment.sentinels[2].restart();
    };
    grant_after(&mut deployment, &client, kill).await.tell("after a long outage");
}
