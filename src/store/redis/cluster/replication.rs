//! The question about replicas in a cluster: a name may have come to another node.

use std::sync::Arc;
use std::time::Duration;

use crate::error::StoreError;
use crate::numbers::{Replicas, ServerId};
use crate::store::{Acknowledged, BoxFuture, Grants, Replication};

use super::judge::Judge;

pub(super) struct ClusterReplication {
    pub(super) node: Box<dyn Replication>,
    pub(super) judge: Arc<Judge>,
}

impl Replication for ClusterReplication {
    fn server(&self) -> Option<ServerId> {
        self.node.server()
    }

    fn count<'a>(
        &'a mut self,
        grants: &'a Grants,
        writes: bool,
        wanted: Replicas,
        patience: Duration,
    ) -> BoxFuture<'a, Result<Acknowledged, StoreError>> {
        let Self { node, judge } = self;
        let counting = node.count(grants, writes, wanted, patience);
        Box::pin(async move {
            let Acknowledged { replicas, held } = counting.await?;
            let judged = held.into_iter().map(|held| held.map_err(|error| judge.judge(error)));
            Ok(Acknowledged { replicas, held: judged.collect() })
        })
    }
}
