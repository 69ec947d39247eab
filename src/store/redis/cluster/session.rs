//! A session with one node. It follows what the node says of the cluster.

use std::sync::Arc;

use crate::error::StoreError;
use crate::id::PermitId;
use crate::inspection::{Inspection, KickOutcome};
use crate::numbers::ServerId;
use crate::store::{
    BoxFuture, Kick, NamesCursor, NamesPage, Replication, Session, Turn, TurnAnswer, TurnOutcome,
    WaiterOutcome,
};

use super::judge::Judge;
use super::replication::ClusterReplication;
use super::wakes::Wakes;

pub(super) struct ClusterSession {
    pub(super) node: Arc<dyn Session>,
    pub(super) judge: Arc<Judge>,
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
        answer.map_err(|error| self.judge.judge(error))
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
        Box::pin(async move { answer.await.map_err(|error| self.judge.judge(error)) })
    }

    fn set_limit(
        &self,
        name: Arc<str>,
        limit: Option<u32>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let answer = self.node.set_limit(name, limit);
        Box::pin(async move { answer.await.map_err(|error| self.judge.judge(error)) })
    }

    fn kick(
        &self,
        name: Arc<str>,
        id: PermitId,
        kick: Kick,
    ) -> BoxFuture<'_, Result<KickOutcome, StoreError>> {
        let answer = self.node.kick(name, id, kick);
        Box::pin(async move { answer.await.map_err(|error| self.judge.judge(error)) })
    }

    fn server(&self) -> Option<ServerId> {
        self.node.server()
    }

    fn replication(&self) -> BoxFuture<'_, Result<Box<dyn Replication>, StoreError>> {
        let opening = self.node.replication();
        Box::pin(async move {
            let (node, judge) = (opening.await?, Arc::clone(&self.judge));
            Ok(Box::new(ClusterReplication { node, judge }) as Box<dyn Replication>)
        })
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
