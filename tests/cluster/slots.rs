//! Slots that come to other primaries while their names are in use.

use test_support::redis_cluster::RedisCluster;
use test_support::wait::ms;
use tokio::time::{Instant, sleep};

use crate::load::{Load, client};

#[tokio::test]
async fn a_slot_that_moves_under_load_doubles_no_permit_and_loses_no_waiter() {
    let cluster = RedisCluster::start(2).await;
    let clients = [client(cluster.url()).await, client(cluster.url()).await];
    let name = cluster.name_at(0, "jobs").await;
    let handles = clients
        .each_ref()
        .map(|client| client.semaphore(&name, 1).lease(ms(3_000)).build().unwrap());
    let load = Load::start(&handles, 8);
    load.goes_on(200).await;
    let slot = cluster.slot_of(&name).await;
    let [one, two] = [&cluster.primaries[0], &cluster.primaries[1]];
    for (from, to) in [(one, two), (two, one), (one, two)] {
        load.take_waits();
        let start = Instant::now();
        cluster.move_slot(slot, from, to, async || sleep(ms(1_000)).await).await;
        let moved = start.elapsed();
        load.goes_on(100).await;
        println!("the move took {moved:?}, the longest acquire {:?}", load.take_waits().longest());
    }
    load.stop().await;
}
