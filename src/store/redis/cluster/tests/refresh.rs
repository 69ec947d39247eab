//! Which nodes are asked for the map, and which of them is believed.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::super::nodes::{Cluster, SPACING};
use super::super::refresh::{Doubt, MOST};
use super::super::slot_map::SlotRange;
use super::super::slots::Slot;
use super::fake_node::FakeNode;
use crate::error::StoreErrorKind;
use crate::store::redis::dial::Dial;
use crate::store::redis::tests::deaf::Deaf;
use crate::store::redis::url::Address;

fn cluster(seeds: &[&FakeNode]) -> Cluster {
    let seeds = seeds.iter().map(|seed| seed.address.clone()).collect();
    Cluster::new(seeds, Dial::new("redis://host".parse().unwrap()))
}

/// Returns the address of the primary that has the slot of a name.
fn primary(cluster: &Cluster) -> Option<Address> {
    let place = cluster.place_of("jobs");
    cluster.map().address(place).cloned()
}

#[tokio::test]
async fn a_node_that_knows_no_slots_is_not_believed() {
    let [outsider, node] = [FakeNode::start().await, FakeNode::start().await];
    node.tell(&node.address);
    node.delay(Duration::from_millis(20));
    let cluster = cluster(&[&outsider, &node]);
    let by = cluster.refresh(&Doubt::None, &Deaf).await.unwrap();
    assert_eq!(by, node.address);
    assert_eq!(primary(&cluster), Some(by));

    node.delay(Duration::ZERO);
    node.tell(&Address::new("other", 1));
    sleep(SPACING).await;
    cluster.refresh(&Doubt::None, &Deaf).await.unwrap();
    assert_eq!(primary(&cluster), Some(Address::new("other", 1)), "it was asked again");
}

#[tokio::test]
async fn where_no_node_knows_slots_the_cluster_is_not_ready() {
    let outsider = FakeNode::start().await;
    let error = cluster(&[&outsider]).refresh(&Doubt::None, &Deaf).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::NotReady, "{error}");
    assert!(error.to_string().contains("knows no slots"), "{error}");
}

#[tokio::test]
async fn a_node_that_was_cut_off_is_left_for_one_that_knows_more() {
    let [old, new] = [FakeNode::start().await, FakeNode::start().await];
    old.tell(&old.address);
    new.tell(&new.address);
    new.delay(Duration::from_millis(50));
    let cluster = cluster(&[&old, &new]);
    cluster.refresh(&Doubt::None, &Deaf).await.unwrap();
    assert_eq!(primary(&cluster).as_ref(), Some(&old.address), "it answers first");
    let began = Instant::now();
    while primary(&cluster).as_ref() != Some(&new.address) {
        assert!(began.elapsed() < Duration::from_secs(5), "the old one is still believed");
        cluster.refresh(&Doubt::Down(old.address.clone()), &Deaf).await.unwrap();
        sleep(SPACING).await;
    }
}

#[tokio::test]
async fn a_node_that_cannot_be_reached_is_not_asked_while_others_answer() {
    let [dead, node] = [FakeNode::start().await, FakeNode::start().await];
    dead.tell(&dead.address);
    node.tell(&node.address);
    node.delay(Duration::from_millis(20));
    let cluster = cluster(&[&dead, &node]);
    cluster.refresh(&Doubt::None, &Deaf).await.unwrap();
    assert_eq!(primary(&cluster).as_ref(), Some(&dead.address));
    sleep(SPACING).await;
    let doubt = Doubt::Unreachable(dead.address.clone());
    assert_eq!(cluster.refresh(&doubt, &Deaf).await.unwrap(), node.address);
    drop(node);
    sleep(SPACING).await;
    assert_eq!(cluster.refresh(&doubt, &Deaf).await.unwrap(), dead.address, "the only one left");
}

#[tokio::test]
async fn nodes_that_are_silent_delay_those_that_answer_by_less_than_a_second() {
    let mut nodes = Vec::new();
    for _ in 0..9 {
        let silent = FakeNode::start().await;
        silent.be_silent();
        nodes.push(silent);
    }
    let node = FakeNode::start().await;
    node.tell(&node.address);
    nodes.push(node);
    let cluster = cluster(&nodes.iter().collect::<Vec<_>>());
    let began = Instant::now();
    cluster.refresh(&Doubt::None, &Deaf).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn however_many_nodes_are_told_of_few_are_asked_and_the_seeds_are_among_them() {
    let seed = FakeNode::start().await;
    let cluster = cluster(&[&seed]);
    let slots = (0..10_000).filter_map(Slot::new);
    let ranges: Vec<_> = slots
        .map(|slot| SlotRange {
            first: slot,
            last: slot,
            primary: Address::new("primary", slot.index() as u16 + 1),
        })
        .collect();
    cluster.map().take_in(&ranges);
    let replicas: Vec<_> = (1..10_000).map(|port| Address::new("replica", port)).collect();
    let asked = cluster.others(&Doubt::None, &replicas);
    assert_eq!(asked.len(), MOST);
    assert!(asked[..3].contains(&seed.address), "{asked:?}");
    assert!(!cluster.others(&Doubt::Down(seed.address.clone()), &replicas).contains(&seed.address));
}
