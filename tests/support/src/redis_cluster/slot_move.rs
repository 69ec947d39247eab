//! How a slot moves from one primary to another one.

use redis::RedisResult;
use tokio::time::Instant;

use super::RedisCluster;
use super::slots::Slot;
use crate::redis_server::RedisServer;
use crate::server_program;
use crate::wait::{PATIENCE, eventually};

/// A slot that is being moved key by key. A test may stop after each step.
///
/// # Drop
///
/// The slot stays as it is: one node says MIGRATING, the other one IMPORTING.
#[must_use]
pub struct SlotMove<'a> {
    cluster: &'a RedisCluster,
    slot: Slot,
    from: usize,
    to: usize,
    began: Instant,
}

/// By which command an engine moves a slot with all of its keys in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtomicMove {
    /// `CLUSTER MIGRATION IMPORT`, of Redis 8.4 and later, sent to the new owner.
    Import,
    /// `CLUSTER MIGRATESLOTS`, of Valkey 9.0 and later, sent to the old owner.
    MigrateSlots,
}

impl AtomicMove {
    /// The one of the server under test, if it has one.
    pub fn of_server() -> Option<Self> {
        match (server_program::is_valkey(), server_program::version()) {
            (true, (9.., _)) => Some(Self::MigrateSlots),
            (false, version) if version >= (8, 4) => Some(Self::Import),
            _ => None,
        }
    }
}

impl RedisCluster {
    /// Begins to move a slot key by key: the owner says MIGRATING, `to` says IMPORTING.
    ///
    /// # Panics
    ///
    /// If `to` serves the slot, or nobody does.
    pub async fn begin_move(&self, slot: Slot, to: usize) -> SlotMove<'_> {
        let from = self.owner(slot).await.expect("a slot that moves has an owner");
        assert_ne!(from, to, "the slot is there already");
        let (old, new) = (self.id_of(from).await, self.id_of(to).await);
        self.set_slot(to, slot, &["IMPORTING", &old]).await;
        self.set_slot(from, slot, &["MIGRATING", &new]).await;
        SlotMove { cluster: self, slot, from, to, began: Instant::now() }
    }

    /// Moves a slot key by key, without a pause.
    pub async fn move_slot(&self, slot: Slot, to: usize) {
        let moving = self.begin_move(slot, to).await;
        moving.move_keys().await;
        moving.finish().await;
    }

    /// Moves a slot key by key. `between` runs when the first half of the keys has moved.
    pub async fn move_slot_with(&self, slot: Slot, to: usize, between: impl AsyncFnOnce()) {
        let moving = self.begin_move(slot, to).await;
        let keys = moving.keys_left().await;
        for key in &keys[..keys.len() / 2] {
            moving.move_key(key).await;
        }
        between().await;
        moving.move_keys().await;
        moving.finish().await;
    }

    /// Moves a slot with all of its keys in one step, and waits until it is done.
    pub async fn move_atomically(&self, by: AtomicMove, slot: Slot, to: usize) {
        let from = self.owner(slot).await.expect("a slot that moves has an owner");
        let (slot_word, id) = (slot.to_string(), self.id_of(to).await);
        let (node, words): (_, &[&str]) = match by {
            AtomicMove::Import => (to, &["CLUSTER", "MIGRATION", "IMPORT", &slot_word, &slot_word]),
            AtomicMove::MigrateSlots => (
                from,
                &["CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", &slot_word, &slot_word, "NODE", &id],
            ),
        };
        self.nodes[node].cmd(words).await;
        eventually("the slot has moved", PATIENCE, async || {
            self.view(to).await.myself().serves(slot)
                && !self.view(from).await.myself().serves(slot)
        })
        .await;
    }

    async fn set_slot(&self, node: usize, slot: Slot, words: &[&str]) {
        let slot = slot.to_string();
        let mut all = vec!["CLUSTER", "SETSLOT", &slot];
        all.extend(words);
        self.nodes[node].cmd(&all).await;
    }
}

impl SlotMove<'_> {
    pub fn began(&self) -> Instant {
        self.began
    }

    pub fn slot(&self) -> Slot {
        self.slot
    }

    pub fn from(&self) -> &RedisServer {
        &self.cluster.nodes[self.from]
    }

    pub fn to(&self) -> &RedisServer {
        &self.cluster.nodes[self.to]
    }

    /// The keys of the slot that are still where it came from, sorted.
    pub async fn keys_left(&self) -> Vec<String> {
        let slot = self.slot.to_string();
        let mut keys: Vec<String> =
            self.from().query(&["CLUSTER", "GETKEYSINSLOT", &slot, "100000"]).await;
        keys.sort();
        keys
    }

    /// Moves one key. Returns whether it was there.
    pub async fn move_key(&self, key: &str) -> bool {
        self.try_move_key(key).await.unwrap_or_else(|error| panic!("moving {key}: {error}"))
    }

    async fn try_move_key(&self, key: &str) -> RedisResult<bool> {
        let to = self.to().addr();
        let (host, port) = (to.ip().to_string(), to.port().to_string());
        let patience = PATIENCE.as_millis().to_string();
        let mut words = vec!["MIGRATE", &host, &port, "", "0", &patience, "REPLACE"];
        if let Some(password) = &self.cluster.options.password {
            words.extend(["AUTH", password]);
        }
        words.extend(["KEYS", key]);
        let moved: String = self.from().try_query(&words).await?;
        Ok(moved == "OK")
    }

    /// Moves one key after the other until none is left.
    pub async fn move_keys(&self) {
        loop {
            let keys = self.keys_left().await;
            if keys.is_empty() {
                return;
            }
            for key in keys {
                self.move_key(&key).await;
            }
        }
    }

    /// Gives the slot to the new owner, and tells all other primaries.
    ///
    /// # Panics
    ///
    /// If keys are left.
    pub async fn finish(self) {
        let left = self.keys_left().await;
        assert!(left.is_empty(), "keys would be lost: {left:?}");
        let new = self.cluster.id_of(self.to).await;
        // The new owner first: until it has the slot, nobody may be sent to it for good.
        self.cluster.set_slot(self.to, self.slot, &["NODE", &new]).await;
        self.cluster.set_slot(self.from, self.slot, &["NODE", &new]).await;
        for node in self.cluster.primaries().await {
            if node != self.to && node != self.from {
                self.cluster.set_slot(node, self.slot, &["NODE", &new]).await;
            }
        }
    }

    /// Leaves the slot where it was. Keys that have moved are moved back, and take the place of those that were made
    /// there meanwhile. No order avoids that: a node that says MIGRATING does not take keys back.
    pub async fn give_up(self) {
        let back = SlotMove { from: self.to, to: self.from, ..self };
        // The owner first: it takes keys that it does not know once it no longer sends them away.
        back.cluster.set_slot(back.to, back.slot, &["STABLE"]).await;
        back.move_keys().await;
        back.cluster.set_slot(back.from, back.slot, &["STABLE"]).await;
    }
}
