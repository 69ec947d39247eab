//! The driver waits for callers before its next turns.

use std::future::poll_fn;
use std::task::Poll;

use crate::driver::gathering::Gathering;

/// Returns how often turns are held back if this number of callers was woken and then one speaks.
async fn yields(callers: usize) -> usize {
    let (mut gathering, mut yields) = (Gathering::default(), 0);
    gathering.expect(callers);
    poll_fn(|cx| {
        assert!(gathering.poll(|| false, cx).is_ready(), "nobody has spoken");
        Poll::Ready(())
    })
    .await;
    poll_fn(|cx| {
        let polled = gathering.poll(|| true, cx);
        yields += usize::from(polled.is_pending());
        assert_eq!(gathering.is_under_way(), polled.is_pending());
        polled
    })
    .await;
    yields
}

#[tokio::test]
async fn turns_wait_for_callers_that_were_woken_together() {
    for (callers, expected) in [(0, 0), (1, 0), (2, 1), (61, 1), (62, 2), (122, 2), (123, 3)] {
        assert_eq!(yields(callers).await, expected, "{callers} callers");
    }
}
