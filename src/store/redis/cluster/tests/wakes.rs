//! Which names a client is subscribed to.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::super::nodes::Cluster;
use super::super::wakes::{Channels, Wakes};
use crate::store::redis::dial::Dial;
use crate::store::redis::tests::deaf::Deaf;
use test_support::redis_cluster::RedisCluster;
use test_support::server_program;

#[tokio::test]
async fn names_where_nobody_waits_are_forgotten_though_others_come_all_the_time() {
    if !server_program::has_sharded_channels() {
        return server_program::skip("sharded channels");
    }
    let server = RedisCluster::start(1).await;
    let node = &server.nodes[0];
    let info: ::redis::ConnectionInfo = node.url().parse().unwrap();
    let cluster = Arc::new(Cluster::new(Vec::new(), Dial::new(info.clone())));
    let channels =
        Channels { prefix: "zsem:".into(), client: "me".into(), connection: "me".into() };
    let client = ::redis::Client::open(info).unwrap();
    let unused = Duration::from_millis(200);
    let wakes = Wakes::with_unused(client, channels, cluster, Arc::new(Deaf), unused);
    let mut most = 0;
    for n in 0..100 {
        wakes.want(&format!("jobs{n}").into());
        sleep(unused / 10).await;
        let channels: Vec<String> = node.query(&["PUBSUB", "SHARDCHANNELS"]).await;
        most = channels.len().max(most);
    }
    assert!((1..60).contains(&most), "{most}");
}
