//! The bytes that a held permit costs in the process of its holder.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::sleep;
use zset_semaphore::{Client, Permit, ZSetSemaphore};

use crate::alone;
use crate::bytes::{allocated, comes_back_to, resident};
use crate::common::connect::connected;
use test_support::redis_server::RedisServer;
use test_support::wait::PATIENCE;

const PERMITS: u32 = 100_000;
const AT_ONCE: u32 = 250;
/// What a held permit may cost.
const MOST: usize = 200;
const LEASE: Duration = Duration::from_secs(24);
/// What a burst may leave behind.
const LEFT: usize = 64 << 10;

async fn take(semaphore: &ZSetSemaphore, permits: &mut Vec<Permit>) {
    for _ in 0..PERMITS / AT_ONCE {
        for permit in join_all((0..AT_ONCE).map(|_| semaphore.acquire(1))).await {
            permits.push(permit.unwrap());
        }
    }
}

/// Also after renewals, which move what a permit is known by.
#[test]
fn a_hundred_thousand_permits_cost_at_most_200_bytes_each_and_leave_nothing() {
    alone(async || {
        let server = RedisServer::start().await;
        let client = connected(Client::builder().url(server.url()).call_timeout(PATIENCE)).await;
        let semaphore = client.semaphore("held", PERMITS).lease(LEASE).build().unwrap();
        semaphore.acquire(1).await.unwrap().release().await.unwrap();

        let (bytes_before, resident_before) = (allocated(), resident());
        let mut permits = Vec::with_capacity(PERMITS as usize);
        take(&semaphore, &mut permits).await;
        let resident = resident().saturating_sub(resident_before) / PERMITS as usize;
        let bytes = (allocated() - bytes_before) / PERMITS as usize;
        println!("{bytes} bytes for a permit, {resident} of them resident");
        assert!(bytes <= MOST && resident <= MOST, "{bytes} bytes, {resident} of them resident");

        sleep(LEASE * 5 / 6).await; // two renewals
        let bytes = (allocated() - bytes_before) / PERMITS as usize;
        println!("{bytes} bytes for a permit that was renewed");
        assert!(bytes <= MOST, "{bytes} bytes after renewals");
        assert!(permits.iter().all(|permit| !permit.is_lost()));

        drop(permits);
        comes_back_to(bytes_before + LEFT, PATIENCE).await;
    });
}
