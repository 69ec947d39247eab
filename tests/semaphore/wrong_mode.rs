//! A URL of one kind of deployment that meets a server of another kind.

use test_support::redis_cluster::RedisCluster;
use test_support::redis_server::RedisServer;
use test_support::sentinel::{MASTER, SentinelDeployment};
use test_support::wait::{PATIENCE, within};
use zset_semaphore::{AcquireError, Client, ConnectError, StoreErrorKind};

/// Uses a URL for one acquire. Returns the error of the store, if there is one.
async fn refusal(url: &str, name: &str) -> Option<(StoreErrorKind, String)> {
    let error = match within(PATIENCE, Client::connect(url)).await {
        Ok(client) => {
            let acquire = client.semaphore(name, 1).build().unwrap().acquire(1);
            match within(PATIENCE, acquire).await {
                Ok(_) => return None,
                Err(AcquireError::Refused(error)) => error,
                Err(other) => panic!("{url}: {other:?}"),
            }
        }
        Err(ConnectError::Store(error)) => error,
        Err(other) => panic!("{url}: {other:?}"),
    };
    assert!(error.is_final(), "{error}");
    assert!(!error.to_string().contains("hunter2"), "{error}");
    println!("{url}: {error}");
    Some((error.kind(), error.to_string()))
}

// Behaviour 71
#[tokio::test]
async fn each_kind_of_url_that_meets_each_kind_of_server_works_or_says_which_url_to_use() {
    let single = RedisServer::builder().password("hunter2").start().await;
    let builder = SentinelDeployment::builder().replicas(0).sentinels(1);
    let behind = builder.password("hunter2").sentinel_password("hunter2").start().await;
    let cluster = RedisCluster::builder().password("hunter2").start().await;
    let (sentinel, node) = (behind.sentinels[0].addr(), cluster.nodes[0].addr());
    let name = cluster.name_at(1, "jobs").await;
    let servers = [single.addr(), sentinel, node];
    for (what, url, told) in [
        (
            "single",
            "redis://:hunter2@AT",
            [None, Some("redis+sentinel://"), Some("redis+cluster://")],
        ),
        (
            "sentinel",
            "redis+sentinel://:hunter2@AT/MASTER?sentinel_password=hunter2",
            [Some("redis://"), None, Some("redis+cluster://")],
        ),
        (
            "cluster",
            "redis+cluster://:hunter2@AT",
            [Some("redis://"), Some("redis+sentinel://"), None],
        ),
    ] {
        for (server, told) in servers.iter().zip(told) {
            let url = url.replace("AT", &server.to_string()).replace("MASTER", MASTER);
            let refused = refusal(&url, &name).await;
            match (refused, told) {
                (None, None) => {}
                (Some((kind, text)), Some(advice)) => {
                    assert!(text.contains(&format!("use {advice}")), "{what}: {text}");
                    let kinds = [StoreErrorKind::WrongMode, StoreErrorKind::Server];
                    assert!(kinds.contains(&kind), "{what}: {kind:?}");
                    assert!(!text.contains("unknown command") || what == "cluster", "{text}");
                }
                (refused, told) => panic!("{url}: {refused:?}, expected {told:?}"),
            }
        }
    }
}
