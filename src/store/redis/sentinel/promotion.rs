//! The replica that a failover has chosen, asked itself whether it has become the primary.
//!
//! # Implementation
//!
//! The sentinel that leads a failover was elected for an epoch of its own. It tells one replica to become the primary, and
//! looks only once a second whether it has. From then on, the old primary is none, whoever still reaches it. So the
//! replica is asked at once. If the leader dies in that second, another failover may choose another replica, and no
//! sentinel ever names this one. Whoever is connected to it therefore leaves it unless a sentinel names it in time.

use std::time::Duration;

use redis::RedisResult;
use tokio::time::{sleep, timeout};

use crate::store::redis::role::RoleCheck;
use crate::store::redis::transport::{Transport, config};
use crate::store::redis::url::Address;

use super::Sentinels;
use super::council::jittered;

/// How long a sentinel may take to name a promoted replica. It looks at the replica once a second.
pub(super) const CONFIRMED: Duration = Duration::from_secs(2);
/// How long a replica may take to be promoted.
const PATIENCE: Duration = Duration::from_secs(2);
/// The first pause between two questions. It doubles.
const PAUSE: Duration = Duration::from_millis(10);

/// Asks a replica until it says that it is a primary. Returns false if it does not in time.
pub(super) async fn promoted(sentinels: &Sentinels, replica: &Address) -> bool {
    let asking = async {
        let mut pause = PAUSE;
        // Not all clients at the same instant.
        sleep(PAUSE.mul_f64(fastrand::f64())).await;
        while is_primary(sentinels, replica).await.is_err() {
            sleep(jittered(pause)).await;
            pause *= 2;
        }
    };
    timeout(PATIENCE, asking).await.is_ok()
}

async fn is_primary(sentinels: &Sentinels, replica: &Address) -> RedisResult<()> {
    let client = sentinels.primary().to(replica)?;
    let Transport { connection, mut io } = Transport::open(&client, config()).await?;
    let role = RoleCheck::default();
    Transport::while_moving(&mut io, role.run(connection)).await
}
