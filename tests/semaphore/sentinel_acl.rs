//! The rights that a client needs behind Sentinel: the two lists are enough, and nothing on them is superfluous.

use test_support::redis_server::RedisServer;
use test_support::sentinel::{MASTER, SentinelDeployment, SentinelServer};
use test_support::wait::{PATIENCE, within};
use zset_semaphore::{Client, ConnectError, StoreErrorKind};

use crate::acl::{RIGHTS, WHERE_IT_RUNS, assert_page_has_user, give_rights, use_it_all};

/// What the user of the primary needs beside the rights of a single server.
const OF_PRIMARY: &str = "+role";

/// What the user of the sentinels needs.
const OF_SENTINELS: &str = "&+failover-state-wait-promotion &+promoted-slave &+switch-master \
                            &+monitor +subscribe +sentinel|get-master-addr-by-name \
                            +sentinel|master +sentinel|sentinels +sentinel|replicas";

struct Scene {
    deployment: SentinelDeployment,
    url: String,
}

impl Scene {
    async fn start() -> Self {
        let deployment = SentinelDeployment::builder().replicas(0).sentinels(1).start().await;
        let query = "sentinel_user=watcher&sentinel_password=secret";
        let sentinel = deployment.sentinels[0].addr();
        let url = format!("redis+sentinel://app:pw@{sentinel}/{MASTER}?{query}");
        Self { deployment, url }
    }

    fn primary(&self) -> &RedisServer {
        &self.deployment.servers[0]
    }

    async fn give(&self, primary: Vec<&str>, sentinels: Vec<&str>) {
        give_rights(self.primary(), primary.into_iter()).await;
        give_rights_of_sentinels(&self.deployment.sentinels[0], sentinels).await;
    }

    async fn refused(&self) -> String {
        match within(PATIENCE, Client::connect(&self.url)).await {
            Err(ConnectError::Store(error)) if error.kind() == StoreErrorKind::NotPermitted => {
                error.to_string()
            }
            other => panic!("expected NotPermitted, got {other:?}"),
        }
    }
}

async fn give_rights_of_sentinels(sentinel: &SentinelServer, rights: Vec<&str>) {
    // Redis 6.2 gives a new user all channels.
    let user = vec!["ACL", "SETUSER", "watcher", "reset", "on", ">secret", "resetchannels"];
    let words = [user, rights].concat();
    sentinel.query::<()>(&words).await.unwrap();
}

fn of_primary() -> Vec<&'static str> {
    RIGHTS.split_whitespace().chain([OF_PRIMARY]).collect()
}

fn of_sentinels() -> Vec<&'static str> {
    OF_SENTINELS.split_whitespace().collect()
}

fn without<'a>(rights: &[&'a str], missing: &str) -> Vec<&'a str> {
    rights.iter().copied().filter(|right| *right != missing).collect()
}

#[test]
fn the_page_gives_the_two_users_behind_sentinel() {
    assert_page_has_user(WHERE_IT_RUNS, "app", &[&of_primary()[..], &["+info"]].concat());
    assert_page_has_user(WHERE_IT_RUNS, "watcher", &of_sentinels());
}

// Behaviour 74
#[tokio::test]
async fn behind_sentinel_two_users_with_the_listed_rights_can_do_everything() {
    let scene = Scene::start().await;
    scene.give(of_primary(), of_sentinels()).await;
    within(PATIENCE, use_it_all(scene.primary(), &scene.url, "jobs")).await.unwrap();
    println!("primary: {}", of_primary().join(" "));
    println!("sentinels: {}", of_sentinels().join(" "));
}

// Behaviour 74
#[tokio::test]
async fn behind_sentinel_without_any_one_of_the_rights_nothing_connects() {
    let scene = Scene::start().await;
    for missing in of_sentinels() {
        scene.give(of_primary(), without(&of_sentinels(), missing)).await;
        let told = scene.refused().await;
        println!("{missing}: {told}");
        assert!(told.contains("give the user of the sentinels the rights"), "{missing}: {told}");
    }
    scene.give(without(&of_primary(), OF_PRIMARY), of_sentinels()).await;
    let told = scene.refused().await;
    println!("{OF_PRIMARY}: {told}");
    assert!(told.contains("'role'"), "{told}");
    assert!(told.contains("give the Redis user the rights"), "{told}");
}
