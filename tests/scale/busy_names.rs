//! More names that always have something to say than turns go out abreast, and one that only holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::timeout;
use zset_semaphore::Client;

use crate::alone;
use test_support::fault_proxy::FaultProxy;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, within};

const NAMES: usize = 400;
const LEASE: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busy_names_hold_up_neither_the_renewals_nor_the_first_word_of_others() {
    let _alone = alone().await;
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let client = Client::connect(proxy.url()).await.unwrap();
    let held = client.semaphore("held", 1).lease(LEASE).build().unwrap();
    let permit = within(PATIENCE, held.acquire(1)).await.unwrap();
    proxy.delay_replies(Duration::from_millis(40));
    let served = Arc::new(AtomicUsize::new(0));
    for nth in 0..3 * NAMES {
        let semaphore = client.semaphore(format!("busy-{}", nth % NAMES), 10).build().unwrap();
        let served = Arc::clone(&served);
        tokio::spawn(async move {
            while let Ok(permit) = semaphore.acquire(1).await {
                drop(permit);
                served.fetch_add(1, Relaxed);
            }
        });
    }
    let lost = timeout(LEASE * 3, permit.lost()).await;
    assert!(lost.is_err(), "{lost:?} beside {served:?} grants to others");
    let newcomer = client.semaphore("newcomer", 1).build().unwrap();
    drop(within(PATIENCE, newcomer.acquire(1)).await.unwrap());
    assert!(served.load(Relaxed) > 10 * NAMES, "only {served:?} grants");
}
