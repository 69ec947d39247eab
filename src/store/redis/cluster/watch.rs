//! The watch over a place of a cluster during the pauses between two attempts to connect.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::numbers::PlaceId;
use crate::retry_delay::RetryDelay;
use crate::store::{BoxFuture, WakeListener};

use super::nodes::Cluster;
use super::refresh::Doubt;

/// The minimum time between two looks at the cluster.
const EVERY: Duration = Duration::from_millis(200);

impl Cluster {
    /// Returns a future that reads the map again and again, since the names of a place that cannot be reached may be
    /// elsewhere soon. The listener is told, so the future does not end. `None` for the first place: whichever node
    /// answers is that place.
    pub(in super::super) fn watch(
        self: &Arc<Self>,
        place: PlaceId,
        listener: Arc<dyn WakeListener>,
    ) -> Option<BoxFuture<'static, ()>> {
        let doubt = Doubt::Unreachable(self.map().address(place)?.clone());
        let cluster = Arc::clone(self);
        Some(Box::pin(async move {
            let mut delay = RetryDelay::default();
            while cluster.map().has_slots(place) {
                sleep(EVERY.mul_f64(1.0 + 0.5 * fastrand::f64())).await;
                match cluster.refresh(&doubt, &*listener).await {
                    Ok(_) => delay.reset(),
                    Err(error) => {
                        tracing::debug!(%error, "no node tells which nodes there are");
                        sleep(delay.after_failure()).await;
                    }
                }
            }
            pending().await
        }))
    }
}
