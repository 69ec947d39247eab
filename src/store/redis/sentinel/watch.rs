//! The watch over the sentinels during a pause between two searches.

use std::future::poll_fn;
use std::time::Duration;

use tokio::time::sleep;

use super::Sentinels;
use super::council::Council;

/// The sentinels are connected to only in a pause that is longer than this.
const BEGIN: Duration = Duration::from_millis(200);

/// Waits until the sentinels name a primary that the last search has not tried.
pub(super) async fn news(sentinels: Sentinels) {
    sleep(BEGIN).await;
    let mut council = Council::new(sentinels.clone());
    loop {
        poll_fn(|cx| council.poll(cx)).await;
        let mut newest = council.opinions().newest();
        if council.is_heard_out() && newest.any(|known| !sentinels.has_tried(known)) {
            return;
        }
    }
}
