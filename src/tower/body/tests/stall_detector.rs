use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

use tokio::time::{Instant, advance, timeout};

use crate::tower::body::stall_detector::StallDetector;

const STALL_TIMEOUT: Duration = Duration::from_secs(10);

async fn stalls_after(stall: &StallDetector) -> Duration {
    let start = Instant::now();
    stall.stalled(STALL_TIMEOUT).await;
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_never_comes_stalls_from_the_start() {
    assert_eq!(stalls_after(&StallDetector::new()).await, STALL_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn a_silent_body_is_no_stalled_reader() {
    let stall = StallDetector::new();
    advance(STALL_TIMEOUT / 2).await;
    stall.reader_polled(Waker::noop());
    assert!(timeout(STALL_TIMEOUT * 100, stall.stalled(STALL_TIMEOUT)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn the_time_counts_from_each_frame_and_from_the_first_wake_up() {
    let stall = Arc::new(StallDetector::new());
    let start = Instant::now();
    let watch = {
        let stall = Arc::clone(&stall);
        tokio::spawn(async move { stall.stalled(STALL_TIMEOUT).await })
    };
    for _ in 0..5 {
        advance(STALL_TIMEOUT * 9 / 10).await;
        stall.reader_polled(Waker::noop());
        stall.body_yielded();
    }
    advance(STALL_TIMEOUT / 2).await;
    stall.reader_polled(Waker::noop());
    advance(STALL_TIMEOUT * 2).await;
    stall.wake_by_ref();
    advance(STALL_TIMEOUT / 2).await;
    stall.wake_by_ref();
    timeout(STALL_TIMEOUT * 20, watch).await.unwrap().unwrap();
    assert_eq!(start.elapsed(), STALL_TIMEOUT * 9 / 10 * 5 + STALL_TIMEOUT / 2 + STALL_TIMEOUT * 3);
}

#[tokio::test(start_paused = true)]
async fn no_timeout_is_a_short_one_and_an_endless_one_has_no_end() {
    let stall = StallDetector::new();
    stall.stalled(Duration::ZERO).await;
    assert!(timeout(STALL_TIMEOUT * 100, stall.stalled(Duration::MAX)).await.is_err());
}

/// A waker may own anything, even what wakes this body.
#[test]
fn no_code_of_a_reader_runs_under_the_lock() {
    struct Rewakes(Arc<StallDetector>);
    impl Wake for Rewakes {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for Rewakes {
        fn drop(&mut self) {
            self.0.wake_by_ref();
        }
    }
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let stall = Arc::new(StallDetector::new());
        stall.reader_polled(&Waker::from(Arc::new(Rewakes(Arc::clone(&stall)))));
        stall.reader_polled(Waker::noop());
        done.send(()).unwrap();
    });
    assert!(ended.recv_timeout(STALL_TIMEOUT).is_ok(), "it waits for itself");
}
