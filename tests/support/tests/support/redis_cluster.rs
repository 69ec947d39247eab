use redis::RedisResult;
use test_support::redis_cluster::RedisCluster;
use test_support::redis_cluster::slot_move::AtomicMove;
use test_support::redis_cluster::slots::{SLOTS, slot_of};
use test_support::server_program;
use test_support::wait::{PATIENCE, eventually, ms};
use tokio::time::Instant;

/// The four keys of a name, each with a value.
async fn fill(cluster: &RedisCluster, name: &str) -> Vec<String> {
    let keys = ["a", "b", "c", "d"].map(|key| format!("x:{{{name}}}:{key}"));
    for key in &keys {
        cluster.query_at::<()>(name, &["SET", key, "1"]).await;
    }
    keys.to_vec()
}

async fn read(cluster: &RedisCluster, node: usize, keys: &[String]) -> RedisResult<Vec<String>> {
    let mut words = vec!["MGET"];
    words.extend(keys.iter().map(String::as_str));
    cluster.nodes[node].try_query(&words).await
}

#[track_caller]
fn is_code(answer: &RedisResult<Vec<String>>, code: &str) {
    assert_eq!(answer.as_ref().unwrap_err().code(), Some(code), "{answer:?}");
}

#[tokio::test]
async fn every_slot_has_a_primary_and_names_are_found_for_each() {
    let began = Instant::now();
    let cluster = RedisCluster::start(3).await;
    println!("three primaries after {:?}", began.elapsed());
    assert_eq!(cluster.primaries().await, [0, 1, 2]);
    for name in ["a", "jobs", "123456789", "käse", "", "a b"] {
        let slot: u16 =
            cluster.nodes[0].query(&["CLUSTER", "KEYSLOT", &format!("x:{{{name}}}:y")]).await;
        // An empty tag is none: the server hashes the whole key.
        assert_eq!(slot == slot_of(name), !name.is_empty(), "{name:?}");
    }
    let mut names = Vec::new();
    for node in 0..3 {
        for name in cluster.names_at(node, "jobs", 3).await {
            assert_eq!(cluster.owner_of(&name).await, node);
            cluster.nodes[node].cmd(&["SET", &format!("{{{name}}}"), "1"]).await;
            names.push(format!("{{{name}}}"));
        }
    }
    names.sort();
    assert_eq!(cluster.keys().await, names);
    assert_eq!(cluster.url().matches("127.0.0.1:").count(), 3);
    assert_eq!(
        cluster.url_by(&[2]),
        format!("redis+cluster://127.0.0.1:{}", cluster.nodes[2].port())
    );
}

#[tokio::test]
async fn a_slot_moves_key_by_key_and_a_test_may_stop_between() {
    let cluster = RedisCluster::builder().password("secret").start().await;
    assert!(cluster.url().starts_with("redis+cluster://:secret@127"));
    let name = cluster.name_at(0, "jobs").await;
    let keys = fill(&cluster, &name).await;
    let moving = cluster.begin_move(slot_of(&name), 1).await;
    assert_eq!(moving.keys_left().await, keys);
    assert!(moving.move_key(&keys[0]).await);
    assert!(!moving.move_key("x:{none}:a").await);
    assert_eq!(moving.keys_left().await, keys[1..]);
    // Redis 6.2 sends all away of which a part is missing, and the other node then says TRYAGAIN.
    let of_some = if server_program::major_version() < 7 { "ASK" } else { "TRYAGAIN" };
    is_code(&read(&cluster, 0, &keys).await, of_some);
    is_code(&read(&cluster, 0, &keys[..1]).await, "ASK");
    is_code(&read(&cluster, 1, &keys).await, "MOVED");

    moving.move_keys().await;
    moving.finish().await;
    assert_eq!(cluster.owner_of(&name).await, 1);
    assert_eq!(read(&cluster, 1, &keys).await.unwrap(), ["1"; 4]);
    is_code(&read(&cluster, 0, &keys).await, "MOVED");

    cluster.move_slot(slot_of(&name), 0).await;
    assert_eq!(read(&cluster, 0, &keys).await.unwrap(), ["1"; 4]);
}

#[tokio::test]
async fn a_move_that_is_given_up_leaves_the_keys_where_they_were() {
    let cluster = RedisCluster::start(2).await;
    let name = cluster.name_at(0, "jobs").await;
    let keys = fill(&cluster, &name).await;
    let moving = cluster.begin_move(slot_of(&name), 1).await;
    moving.move_key(&keys[1]).await;
    moving.give_up().await;
    assert_eq!(cluster.owner_of(&name).await, 0);
    assert_eq!(read(&cluster, 0, &keys).await.unwrap(), ["1"; 4]);
    cluster.move_slot(slot_of(&name), 1).await;
    assert_eq!(read(&cluster, 1, &keys).await.unwrap(), ["1"; 4]);
}

#[tokio::test]
async fn where_the_engine_can_a_slot_moves_in_one_step() {
    let Some(by) = AtomicMove::of_server() else {
        println!("this server moves slots key by key alone");
        return;
    };
    let cluster = RedisCluster::start(2).await;
    let name = cluster.name_at(0, "jobs").await;
    let keys = fill(&cluster, &name).await;
    let began = Instant::now();
    cluster.move_atomically(by, slot_of(&name), 1).await;
    println!("moved by {by:?} in {:?}", began.elapsed());
    assert_eq!(read(&cluster, 1, &keys).await.unwrap(), ["1"; 4]);
    assert_eq!(cluster.owner_of(&name).await, 1);
}

#[tokio::test]
async fn a_killed_primary_is_replaced_and_comes_back_as_a_replica() {
    let began = Instant::now();
    let mut cluster = RedisCluster::builder().primaries(3).replicas(1).start().await;
    println!("three primaries and three replicas after {:?}", began.elapsed());
    assert_eq!(cluster.replicas_of(0).await, [3]);
    let name = cluster.name_at(0, "jobs").await;
    let keys = fill(&cluster, &name).await;
    let killed = Instant::now();
    cluster.nodes[0].kill();
    assert_eq!(cluster.answering(), [1, 2, 3, 4, 5]);
    let (new, at) = cluster.promoted(slot_of(&name), 0).await;
    println!("replaced after {:?}", at - killed);
    assert_eq!(new, 3);
    assert_eq!(read(&cluster, 3, &keys).await.unwrap(), ["1"; 4]);

    cluster.nodes[0].restart_empty().await;
    cluster.wait_until_ready().await;
    assert_eq!(cluster.replicas_of(3).await, [0]);
    cluster.agreed(slot_of(&name)).await;
    cluster.fail_over(0).await;
    assert_eq!(cluster.promoted(slot_of(&name), 3).await.0, 0);
    assert_eq!(read(&cluster, 0, &keys).await.unwrap(), ["1"; 4]);
}

#[tokio::test]
async fn a_frozen_primary_is_replaced_and_learns_of_it() {
    let mut cluster = RedisCluster::builder().primaries(3).replicas(1).start().await;
    let name = cluster.name_at(1, "jobs").await;
    cluster.nodes[1].freeze();
    assert_eq!(cluster.promoted(slot_of(&name), 1).await.0, 4);
    cluster.nodes[1].thaw();
    cluster.wait_until_ready().await;
    eventually("it is a replica", PATIENCE, async || cluster.replicas_of(4).await == [1]).await;
}

#[tokio::test]
async fn a_replica_takes_over_without_asking() {
    let cluster = RedisCluster::builder().primaries(1).replicas(1).start().await;
    cluster.take_over(1).await;
    assert_eq!(cluster.promoted(0, 0).await.0, 1);
}

#[tokio::test]
async fn a_slot_without_a_primary_stops_the_cluster_until_it_has_one() {
    let cluster = RedisCluster::start(2).await;
    let slot = SLOTS - 1;
    cluster.take_slot(slot).await;
    eventually("the cluster is down", PATIENCE, async || !cluster.view(0).await.is_ok).await;
    assert_eq!(cluster.owner(slot).await, None);
    let refused: RedisResult<()> = cluster.nodes[0].try_query(&["SET", "{jobs}", "1"]).await;
    assert!(matches!(refused.unwrap_err().code(), Some("CLUSTERDOWN" | "MOVED")));
    cluster.give_slots(1, [slot]).await;
    cluster.wait_until_ready().await;
}

#[tokio::test]
async fn a_node_is_replaced_under_its_address() {
    let mut cluster = RedisCluster::start(2).await;
    let old = cluster.id_of(1).await;
    let slots: Vec<_> = (0..SLOTS).filter(|&slot| slot >= SLOTS / 2).collect();
    cluster.nodes[1].replace_node().await;
    cluster.forget(&old).await;
    cluster.meet(0, 1).await;
    cluster.give_slots(1, slots).await;
    cluster.wait_until_ready().await;
    assert_ne!(cluster.id_of(1).await, old);
    assert_eq!(cluster.owner(SLOTS - 1).await, Some(1));
}

#[tokio::test]
async fn messages_on_the_bus_are_counted() {
    let cluster = RedisCluster::start(3).await;
    let name = cluster.name_at(0, "jobs").await;
    cluster.nodes[0].cmd(&["PUBLISH", "channel", "word"]).await;
    // Valkey 8 sends short ones and does not count them.
    let is_valkey_8 = server_program::is_valkey() && server_program::major_version() == 8;
    let counted = if is_valkey_8 { 0 } else { 2 };
    assert_eq!(cluster.nodes[0].bus_messages("publish").await, counted);
    assert_eq!(cluster.nodes[1].bus_messages("publish").await, 0);
    if server_program::major_version() >= 7 {
        cluster.nodes[0].cmd(&["SPUBLISH", &format!("{{{name}}}"), "word"]).await;
        // No replica is in the shard.
        assert_eq!(cluster.nodes[0].bus_messages("publishshard").await, 0);
    }
    assert_eq!(cluster.nodes[0].bus_messages("publish").await, counted);
}

#[tokio::test]
async fn connections_are_cut() {
    let cluster = RedisCluster::start(1).await;
    let client = redis::Client::open(cluster.nodes[0].url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    cluster.nodes[0].cut_connections().await;
    eventually("the connection is gone", ms(1000), async || {
        redis::cmd("PING").query_async::<()>(&mut connection).await.is_err()
    })
    .await;
}
