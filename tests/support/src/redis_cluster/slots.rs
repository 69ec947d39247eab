//! Slots of names, and names for slots.

use super::RedisCluster;

/// The number of a slot.
pub type Slot = u16;

/// How many slots a cluster has.
pub const SLOTS: Slot = 16_384;

/// The slot of a name: of all keys and channels that have `{name}` as their tag.
pub fn slot_of(name: &str) -> Slot {
    let crc = name.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            let carry = if crc & 0x8000 == 0 { 0 } else { 0x1021 };
            (crc << 1) ^ carry
        })
    });
    crc % SLOTS
}

/// The slots of one of so many primaries at the start.
pub(super) fn share(primary: usize, primaries: usize) -> std::ops::Range<Slot> {
    let first = |primary: usize| {
        Slot::try_from(primary * usize::from(SLOTS) / primaries).expect("no more than all slots")
    };
    first(primary)..first(primary + 1)
}

impl RedisCluster {
    /// A name that starts with `stem` and that a node serves now.
    pub async fn name_at(&self, node: usize, stem: &str) -> String {
        self.names_at(node, stem, 1).await.remove(0)
    }

    /// So many names that start with `stem` and that a node serves now.
    pub async fn names_at(&self, node: usize, stem: &str, count: usize) -> Vec<String> {
        let view = self.view(node).await;
        let names = (0..).map(|number| format!("{stem}-{number}"));
        let names: Vec<_> = names
            .take(1 << 20)
            .filter(|name| view.myself().serves(slot_of(name)))
            .take(count)
            .collect();
        assert_eq!(names.len(), count, "node {node} serves too few slots");
        names
    }
}
