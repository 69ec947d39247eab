//! A session with one node. It follows what the node says of the cluster.

use std::error::Error;
use std::sync::Arc;

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::error::{StoreError, StoreErrorKind};
use crate::id::PermitId;
use crate::inspection::{Inspection, KickOutcome};
use crate::store::{BoxFuture, Kick, Session, Turn, TurnAnswer, WakeListener};

use super::super::url::Address;
use super::nodes::Cluster;
use super::nodes_reply::redirection;

pub(super) struct ClusterSession {
    node: Arc<dyn Session>,
    cluster: Arc<Cluster>,
    at: Address,
    listener: Arc<dyn WakeListener>,
}

impl ClusterSession {
    pub(super) fn new(
        node: Arc<dyn Session>,
        cluster: Arc<Cluster>,
        at: Address,
        listener: Arc<dyn WakeListener>,
    ) -> Self {
        Self { node, cluster, at, listener }
    }

    /// Returns what an error means in a cluster, and notes what it tells of the slots.
    fn judge(&self, error: StoreError) -> StoreError {
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
                self.cluster.refresh_soon(&self.listener);
                not_ready()
            }
            // A script that loses its keys to another node while it runs ends where it stands.
            ErrorKind::Server(ResponseError) => not_ready().into_cut_short(),
            _ => error,
        }
    }
}

impl Session for ClusterSession {
    fn turn(self: Arc<Self>, turn: Turn) -> BoxFuture<'static, TurnAnswer> {
        let answer = Arc::clone(&self.node).turn(turn);
        Box::pin(async move { answer.await.map_err(|error| self.judge(error)) })
    }

    fn turns(self: Arc<Self>, turns: Vec<Turn>) -> BoxFuture<'static, Vec<TurnAnswer>> {
        let answers = Arc::clone(&self.node).turns(turns);
        Box::pin(async move {
            let judged = |answer: TurnAnswer| answer.map_err(|error| self.judge(error));
            answers.await.into_iter().map(judged).collect()
        })
    }

    fn doubt_subscription(&self) {
        self.node.doubt_subscription();
    }

    fn inspect(&self, name: Arc<str>) -> BoxFuture<'_, Result<Inspection, StoreError>> {
        let answer = self.node.inspect(name);
        Box::pin(async move { answer.await.map_err(|error| self.judge(error)) })
    }

    fn set_limit(
        &self,
        name: Arc<str>,
        limit: Option<u32>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let answer = self.node.set_limit(name, limit);
        Box::pin(async move { answer.await.map_err(|error| self.judge(error)) })
    }

    fn kick(
        &self,
        name: Arc<str>,
        id: PermitId,
        kick: Kick,
    ) -> BoxFuture<'_, Result<KickOutcome, StoreError>> {
        let answer = self.node.kick(name, id, kick);
        Box::pin(async move { answer.await.map_err(|error| self.judge(error)) })
    }

    fn is_subscribed(&self) -> bool {
        self.node.is_subscribed()
    }

    fn is_alive(&self) -> bool {
        self.node.is_alive()
    }
}
