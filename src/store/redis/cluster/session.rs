//! A session with one node. It follows what the node says of the cluster.

use std::error::Error;
use std::sync::Arc;

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::error::{StoreError, StoreErrorKind};
use crate::id::PermitId;
use crate::inspection::{Inspection, KickOutcome};
use crate::store::{
    BoxFuture, Kick, NamesCursor, NamesPage, Session, Turn, TurnAnswer, TurnOutcome, WaiterOutcome,
    WakeListener,
};

use super::super::url::Address;
use super::nodes::Cluster;
use super::nodes_reply::redirection;
use super::refresh::Doubt;
use super::wakes::Wakes;

pub(super) struct ClusterSession {
    pub(super) node: Arc<dyn Session>,
    pub(super) cluster: Arc<Cluster>,
    pub(super) at: Address,
    pub(super) listener: Arc<dyn WakeListener>,
    pub(super) wakes: Wakes,
}

impl ClusterSession {
    /// Takes in the answer to a turn of `name`.
    fn answered(&self, name: &Arc<str>, answer: TurnAnswer) -> TurnAnswer {
        if let Ok(TurnOutcome::Answered(reply)) = &answer {
            let mut outcomes = reply.asked.iter().chain(&reply.admitted);
            if outcomes.any(|outcome| matches!(outcome, WaiterOutcome::Queued { .. })) {
                self.wakes.want(name);
            }
        }
        answer.map_err(|error| self.judge(error))
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
                self.cluster.refresh_soon(Doubt::Down(self.at.clone()), &self.listener);
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
        let name = Arc::clone(&turn.name);
        let answer = Arc::clone(&self.node).turn(turn);
        Box::pin(async move { self.answered(&name, answer.await) })
    }

    fn turns(self: Arc<Self>, turns: Vec<Turn>) -> BoxFuture<'static, Vec<TurnAnswer>> {
        let names: Vec<_> = turns.iter().map(|turn| Arc::clone(&turn.name)).collect();
        let answers = Arc::clone(&self.node).turns(turns);
        Box::pin(async move {
            let answers = answers.await.into_iter();
            names.iter().zip(answers).map(|(name, answer)| self.answered(name, answer)).collect()
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

    fn names(&self, page: NamesCursor) -> BoxFuture<'_, Result<NamesPage, StoreError>> {
        self.node.names(page)
    }

    fn is_subscribed(&self) -> bool {
        self.wakes.are_heard() || self.node.is_subscribed()
    }

    fn is_alive(&self) -> bool {
        self.node.is_alive()
    }
}
