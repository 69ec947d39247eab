//! The nodes of a cluster, as one client knows them.

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::time::sleep;

use crate::error::StoreError;
use crate::numbers::PlaceId;
use crate::store::{BoxFuture, Opened, WakeListener};
use crate::sync::lock;

use super::super::dial::Dial;
use super::super::url::Address;
use super::refresh::{Refresher, SPACING};
use super::session::ClusterSession;
use super::slot_map::SlotMap;
use super::slots::Slot;

/// How often a node is connected to before its driver is told that it cannot be reached.
const ATTEMPTS: u32 = 8;

pub(in super::super) struct Cluster {
    pub(super) seeds: Vec<Address>,
    dial: Dial,
    map: Mutex<SlotMap>,
    pub(super) refresher: Refresher,
}

/// Opens a connection to the node at an address.
pub(in super::super) type Connect<'a> =
    Box<dyn Fn(Address) -> BoxFuture<'a, Result<Opened, StoreError>> + Send + Sync + 'a>;

impl Cluster {
    pub(in super::super) fn new(seeds: Vec<Address>, dial: Dial) -> Self {
        Self { seeds, dial, map: Mutex::new(SlotMap::new()), refresher: Refresher::default() }
    }

    pub(in super::super) fn dial(&self) -> &Dial {
        &self.dial
    }

    pub(in super::super) fn place_of(&self, name: &str) -> PlaceId {
        self.map().place_of(Slot::of(name))
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

    /// Opens a connection to a place. The first place is whichever node tells of the others.
    pub(in super::super) async fn open(
        self: &Arc<Self>,
        place: PlaceId,
        listener: Arc<dyn WakeListener>,
        connect: Connect<'_>,
    ) -> Result<Opened, StoreError> {
        let known = self.map().address(place).cloned();
        let (at, opened) = match known {
            Some(at) => {
                let opened = self.open_known(place, &at, &listener, &connect).await?;
                (at, opened)
            }
            None => {
                let at = self.refresh(place, &*listener).await?;
                let opened = connect(at.clone()).await?;
                (at, opened)
            }
        };
        let Opened { session, io } = opened;
        let session = Arc::new(ClusterSession::new(session, Arc::clone(self), at, listener));
        Ok(Opened { session, io })
    }

    /// Connects to a node. While that does not succeed, the map is read from others again and again, since the
    /// names of the node may be elsewhere soon.
    async fn open_known(
        &self,
        place: PlaceId,
        at: &Address,
        listener: &Arc<dyn WakeListener>,
        connect: &Connect<'_>,
    ) -> Result<Opened, StoreError> {
        let opening = pin!(async {
            let mut failed = 0;
            loop {
                let error = match connect(at.clone()).await {
                    Ok(opened) => return Ok(opened),
                    Err(error) => error,
                };
                failed += 1;
                if failed == ATTEMPTS || !error.is_unanswered() {
                    return Err(error);
                }
                sleep(spaced()).await;
            }
        });
        let watching = pin!(async {
            loop {
                sleep(spaced()).await;
                if let Err(error) = self.refresh(place, &**listener).await {
                    tracing::debug!(%error, "no node tells which nodes there are");
                }
            }
        });
        match select(opening, watching).await {
            Either::Left((opened, _)) => opened,
            Either::Right((never, _)) => never,
        }
    }
}

/// The jittered time between two looks at the cluster.
pub(super) fn spaced() -> Duration {
    SPACING.mul_f64(1.0 + 0.5 * fastrand::f64())
}
