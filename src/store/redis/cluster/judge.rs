//! What an error of one node means in a cluster.

use std::error::Error;
use std::sync::Arc;

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::error::{StoreError, StoreErrorKind};
use crate::store::WakeListener;

use super::super::url::Address;
use super::nodes::Cluster;
use super::nodes_reply::redirection;
use super::refresh::Doubt;

/// Judges what a node says of the cluster.
pub(super) struct Judge {
    pub(super) cluster: Arc<Cluster>,
    pub(super) at: Address,
    pub(super) listener: Arc<dyn WakeListener>,
}

impl Judge {
    /// Returns what an error means in a cluster, and notes what it tells of the slots.
    pub(super) fn judge(&self, error: StoreError) -> StoreError {
        use ServerErrorKind::{Ask, ClusterDown, MasterDown, Moved, ResponseError, TryAgain};
        let source = error.source().and_then(<dyn Error>::downcast_ref::<RedisError>);
        let Some(source) = source else { return error };
        let what = format!("{} answers {source}", self.at);
        let not_ready = || StoreError::with_source(StoreErrorKind::NotReady, what, source.clone());
        match source.kind() {
            ErrorKind::Server(Moved) => match redirection(source, &self.at) {
                Some((slot, address)) => {
                    self.cluster.map().set(slot, &address);
                    not_ready().into_elsewhere()
                }
                None => not_ready(),
            },
            // The slot is being moved, and the keys of this name are not together.
            ErrorKind::Server(Ask | TryAgain) => not_ready(),
            ErrorKind::Server(ClusterDown | MasterDown) => {
                self.cluster.refresh_soon(Doubt::Down(self.at.clone()), &self.listener);
                not_ready()
            }
            // A script that loses its keys to another node while it runs ends where it stands.
            ErrorKind::Server(ResponseError) => not_ready().into_cut_short(),
            _ => error,
        }
    }
}
