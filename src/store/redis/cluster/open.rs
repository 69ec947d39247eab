//! How a connection to a place of a cluster is opened.

use std::pin::pin;
use std::sync::Arc;

use futures_util::future::{Either, select};
use tokio::time::sleep;

use crate::error::StoreError;
use crate::numbers::PlaceId;
use crate::store::{BoxFuture, Opened, WakeListener};

use super::super::dial::usable;
use super::super::url::Address;
use super::judge::Judge;
use super::nodes::{Cluster, spaced};
use super::refresh::Doubt;
use super::session::ClusterSession;
use super::wakes::{Channels, Wakes};

/// How often a node is connected to before its driver is told that it cannot be reached.
const ATTEMPTS: u32 = 8;

/// Opens a connection to the node at an address.
pub(in super::super) type Connect<'a> =
    Box<dyn Fn(Address) -> BoxFuture<'a, Result<Opened, StoreError>> + Send + Sync + 'a>;

impl Cluster {
    /// Opens a connection to a place. The first place is whichever node tells of the others.
    pub(in super::super) async fn open(
        self: &Arc<Self>,
        place: PlaceId,
        listener: Arc<dyn WakeListener>,
        channels: Channels,
        connect: Connect<'_>,
    ) -> Result<Opened, StoreError> {
        let known = self.map().enter(place).cloned();
        let (at, opened) = match known {
            Some(at) => {
                let opened = self.open_known(&at, &listener, &connect).await?;
                (at, opened)
            }
            None => {
                let at = self.refresh(&Doubt::None, &*listener).await?;
                let opened = connect(at.clone()).await?;
                (at, opened)
            }
        };
        let Opened { session, io } = opened;
        let client = usable(self.dial().to(&at))?;
        let wakes = Wakes::new(client, channels, Arc::clone(self), Arc::clone(&listener));
        let cluster = Arc::clone(self);
        let judge = Arc::new(Judge { cluster, at, listener });
        let session = Arc::new(ClusterSession { node: session, judge, wakes });
        Ok(Opened { session, io })
    }

    /// Connects to a node. While that does not succeed, the map is read from others again and again, since the
    /// names of the node may be elsewhere soon.
    async fn open_known(
        &self,
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
        let doubt = Doubt::Unreachable(at.clone());
        let watching = pin!(async {
            loop {
                sleep(spaced()).await;
                if let Err(error) = self.refresh(&doubt, &**listener).await {
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
