//! The nodes of a cluster, as one client knows them.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex as SyncMutex};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::numbers::PlaceId;
use crate::sync::lock;

use super::super::dial::Dial;
use super::super::url::Address;
use super::slot_map::SlotMap;
use super::slots::Slot;

/// The minimum time between two refreshes of the map.
pub(super) const SPACING: Duration = Duration::from_millis(100);

pub(in super::super) struct Cluster {
    pub(super) seeds: Vec<Address>,
    dial: Dial,
    /// The name of the connection that reads the map.
    name: SyncMutex<Arc<str>>,
    map: SyncMutex<SlotMap>,
    /// Locked during a refresh.
    pub(super) last: Mutex<LastRefresh>,
    /// Whether a refresh is about to begin.
    pub(super) refreshes_soon: AtomicBool,
}

/// The last refresh of the map.
#[derive(Default)]
pub(super) struct LastRefresh {
    pub(super) at: Option<Instant>,
    /// The node that has told, and the connection to it.
    pub(super) by: Option<(Address, MultiplexedConnection)>,
    /// How often that node has told nothing new, although there was a doubt.
    pub(super) in_vain: u32,
    pub(super) replicas: Vec<Address>,
}

impl Cluster {
    pub(in super::super) fn new(seeds: Vec<Address>, dial: Dial) -> Self {
        Self {
            seeds,
            dial,
            name: SyncMutex::new(Arc::from("")),
            map: SyncMutex::new(SlotMap::new()),
            last: Mutex::default(),
            refreshes_soon: AtomicBool::new(false),
        }
    }

    pub(in super::super) fn dial(&self) -> &Dial {
        &self.dial
    }

    /// Sets the name of the connection that reads the map.
    pub(in super::super) fn set_name(&self, name: Arc<str>) {
        *lock(&self.name) = name;
    }

    pub(super) fn name(&self) -> Arc<str> {
        Arc::clone(&lock(&self.name))
    }

    pub(in super::super) fn place_of(&self, name: &str) -> PlaceId {
        self.map().place_of(Slot::of(name))
    }

    /// Returns the places that have slots, as far as is known.
    pub(in super::super) fn places(&self) -> Vec<PlaceId> {
        self.map().places()
    }

    /// Notes that there is no connection to a place, and that no name uses it.
    pub(in super::super) fn leave(&self, place: PlaceId) {
        self.map().leave(place);
    }

    /// The address of the cluster, or of a place of it, as the log shows it.
    pub(in super::super) fn address_of(&self, place: PlaceId) -> String {
        match self.map().address(place) {
            Some(address) => address.to_string(),
            None => self.address(),
        }
    }

    pub(in super::super) fn address(&self) -> String {
        let seeds: Vec<_> = self.seeds.iter().map(ToString::to_string).collect();
        format!("the cluster at {}", seeds.join(","))
    }

    pub(super) fn map(&self) -> impl std::ops::DerefMut<Target = SlotMap> + '_ {
        lock(&self.map)
    }
}

/// The jittered time between two looks at the cluster.
pub(super) fn spaced() -> Duration {
    SPACING.mul_f64(1.0 + 0.5 * fastrand::f64())
}
