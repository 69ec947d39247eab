//! A primary and its replica, which takes over with what it has by then.

use crate::fault_proxy::FaultProxy;
use crate::redis_server::{RedisServer, RedisServerBuilder};

pub struct RedisPair {
    pub primary: RedisServer,
    pub replica: RedisServer,
    /// Between the two.
    replication: FaultProxy,
    /// The address that clients use: it leads to the primary.
    pub proxy: FaultProxy,
}

impl RedisPair {
    /// Starts both, and waits until the replica is in step.
    pub async fn start() -> Self {
        Self::start_with(RedisServer::builder()).await
    }

    /// Starts both, the replica as `replica` says.
    pub async fn start_with(replica: RedisServerBuilder) -> Self {
        // So a replica need not wait for others that may come.
        let at_once = RedisServer::builder().arg("--repl-diskless-sync-delay").arg("0");
        let (primary, replica) = (at_once.start().await, replica.start().await);
        let replication = FaultProxy::start(primary.addr()).await;
        replica.follow(&primary, replication.addr().port()).await;
        let proxy = FaultProxy::start(primary.addr()).await;
        Self { primary, replica, replication, proxy }
    }

    /// From now on nothing reaches the replica. It has all that the primary had at the call.
    pub async fn lag(&self) {
        self.replica.has_all_of(&self.primary).await;
        self.replication.hold_replies();
    }

    /// The primary dies.
    pub fn kill_primary(&mut self) {
        self.primary.kill();
        self.proxy.refuse(true);
        self.proxy.cut();
    }

    /// The replica takes over.
    pub async fn promote(&self) {
        self.replica.cmd(&["REPLICAOF", "NO", "ONE"]).await;
        self.proxy.lead_to(self.replica.addr());
        self.proxy.refuse(false);
    }

    /// The primary dies, and the replica takes over at once.
    pub async fn fail_over(&mut self) {
        self.kill_primary();
        self.promote().await;
    }
}

#[cfg(test)]
mod tests {
    use crate::wait::ms;

    use super::*;

    #[tokio::test]
    async fn a_replica_that_lags_has_what_was_written_before_and_nothing_later() {
        let pair = RedisPair::start().await;
        pair.replication.delay_replies(ms(300));
        pair.primary.cmd(&["SET", "before", "1"]).await;
        pair.lag().await;
        pair.primary.cmd(&["SET", "later", "1"]).await;
        pair.promote().await;
        let has = async |key| pair.replica.query::<bool>(&["EXISTS", key]).await;
        assert!(has("before").await && !has("later").await);
    }
}
