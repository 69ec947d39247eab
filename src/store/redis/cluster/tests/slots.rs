//! The slots of names, as servers compute them.

use super::super::slots::{SLOTS, Slot};
use test_support::redis_cluster::RedisCluster;

fn slot(name: &str) -> usize {
    Slot::of(name).index()
}

#[test]
fn the_slot_of_a_name_is_its_crc_modulo_their_number() {
    // 0x31C3 is the check value of CRC-16/XMODEM.
    assert_eq!(slot("123456789"), 0x31c3);
    assert_eq!(
        [slot("foo"), slot("bar"), slot("hello"), slot("user1000")],
        [12182, 5061, 866, 3443]
    );
    assert_eq!(Slot::new(SLOTS - 1).map(Slot::index), Some(16_383));
    assert_eq!(Slot::new(SLOTS), None);
}

#[tokio::test]
async fn names_have_the_slots_that_a_server_tells() {
    let cluster = RedisCluster::start(1).await;
    let mut random = fastrand::Rng::with_seed(7);
    for length in (1..40).chain([511, 512]) {
        let name: String = (0..length)
            .map(|_| random.char('\u{21}'..'\u{17f}'))
            .filter(|c| !"{}".contains(*c))
            .collect();
        let key = format!("zsem:{{{name}.}}:permits");
        let told: usize = cluster.nodes[0].query(&["CLUSTER", "KEYSLOT", &key]).await;
        assert_eq!(slot(&format!("{name}.")), told, "{name}");
    }
}
