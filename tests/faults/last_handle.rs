//! What a client leaves running when its last handle goes while the store answers, but refuses.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;
use zset_semaphore::Client;

use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually, within};

const LEASE: Duration = Duration::from_secs(3_600);

/// How long the driver goes on after a permit was dropped with the last handle.
async fn goes_on_for(server: &RedisServer, refuse: &[&[&str]], told: &str) -> Duration {
    let before = Handle::current().metrics().num_alive_tasks();
    let client = Client::connect(server.url()).await.unwrap();
    let semaphore = client.semaphore("s", 2).lease(LEASE).build().unwrap();
    let permit = within(PATIENCE, semaphore.acquire(2)).await.unwrap();
    for words in refuse {
        server.cmd(words).await;
    }
    let refused = within(PATIENCE, semaphore.set_limit(9)).await.unwrap_err();
    assert!(format!("{refused:?}").contains(told), "{refused:?}");
    drop((client, semaphore));
    let dropped = Instant::now();
    drop(permit);
    eventually("the driver has ended", PATIENCE, async || {
        Handle::current().metrics().num_alive_tasks() <= before
    })
    .await;
    dropped.elapsed()
}

#[tokio::test]
async fn the_driver_ends_soon_though_the_server_is_read_only() {
    let server = RedisServer::start().await;
    let refuse: [&[&str]; 1] = [&["REPLICAOF", "127.0.0.1", "1"]];
    let went_on = goes_on_for(&server, &refuse, "ReadOnly").await;
    assert!(went_on < Duration::from_secs(5), "{went_on:?}");
}

#[tokio::test]
async fn the_driver_ends_soon_though_the_server_has_no_memory() {
    let server = RedisServer::start().await;
    let refuse: [&[&str]; 1] = [&["CONFIG", "SET", "maxmemory", "1"]];
    let went_on = goes_on_for(&server, &refuse, "OutOfMemory").await;
    assert!(went_on < Duration::from_secs(5), "{went_on:?}");
}
