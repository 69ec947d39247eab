//! Whose turn it is: that of a reader, to take more of a body, or that of the body, to give more.

use std::future::pending;
use std::mem;
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::sync::lock;

/// The turn of one body. As a waker it stands between the body and its reader, since a body that
/// wakes its reader has something to give.
#[derive(Debug)]
pub(crate) struct StallDetector {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// `None` in the body's turn.
    readers_since: Option<Instant>,
    /// Of the reader, from when it has asked until it is woken.
    reader: Option<Waker>,
}

impl StallDetector {
    /// A body that is there waits for its reader.
    pub(crate) fn new() -> Self {
        let state = State { readers_since: Some(Instant::now()), reader: None };
        Self { state: Mutex::new(state) }
    }

    /// The reader asks for more.
    pub(crate) fn asked(&self, reader: &Waker) {
        // Wakers are code of others: they are cloned and dropped while nobody is kept out.
        let reader = Some(reader.clone());
        let before = {
            let mut state = lock(&self.state);
            state.readers_since = None;
            mem::replace(&mut state.reader, reader)
        };
        drop(before);
    }

    /// The body gave something.
    pub(crate) fn answered(&self) {
        lock(&self.state).readers_since = Some(Instant::now());
    }

    /// Resolves once it has been the reader's turn for `patience`.
    pub(crate) async fn stalls(&self, patience: Duration) {
        // So that it cannot go round without a pause.
        let patience = patience.max(Duration::from_millis(1));
        loop {
            let now = Instant::now();
            // In the body's turn, too, a look is due no earlier than after a whole patience.
            let since = lock(&self.state).readers_since.unwrap_or(now);
            match since.checked_add(patience) {
                Some(end) if end <= now => return,
                Some(end) => sleep_until(end).await,
                None => pending().await,
            }
        }
    }
}

impl Wake for StallDetector {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let reader = {
            let mut state = lock(&self.state);
            state.readers_since.get_or_insert_with(Instant::now);
            state.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{advance, timeout};

    const PATIENCE: Duration = Duration::from_secs(10);

    async fn stalls_after(turn: &StallDetector) -> Duration {
        let start = Instant::now();
        turn.stalls(PATIENCE).await;
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_never_comes_stalls_from_the_start() {
        assert_eq!(stalls_after(&StallDetector::new()).await, PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_body_is_no_stalled_reader() {
        let turn = StallDetector::new();
        advance(PATIENCE / 2).await;
        turn.asked(Waker::noop());
        assert!(timeout(PATIENCE * 100, turn.stalls(PATIENCE)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn the_turn_is_the_readers_again_with_each_frame_and_with_the_first_wake_up() {
        let turn = Arc::new(StallDetector::new());
        let start = Instant::now();
        let watch = {
            let turn = Arc::clone(&turn);
            tokio::spawn(async move { turn.stalls(PATIENCE).await })
        };
        for _ in 0..5 {
            advance(PATIENCE * 9 / 10).await;
            turn.asked(Waker::noop());
            turn.answered();
        }
        advance(PATIENCE / 2).await;
        turn.asked(Waker::noop());
        advance(PATIENCE * 2).await;
        turn.wake_by_ref();
        advance(PATIENCE / 2).await;
        turn.wake_by_ref();
        timeout(PATIENCE * 20, watch).await.unwrap().unwrap();
        assert_eq!(start.elapsed(), PATIENCE * 9 / 10 * 5 + PATIENCE / 2 + PATIENCE * 3);
    }

    #[tokio::test(start_paused = true)]
    async fn no_patience_is_a_short_one_and_an_endless_one_has_no_end() {
        let turn = StallDetector::new();
        turn.stalls(Duration::ZERO).await;
        assert!(timeout(PATIENCE * 100, turn.stalls(Duration::MAX)).await.is_err());
    }

    /// A waker may own anything, what wakes the body of this turn among it.
    #[test]
    fn no_code_of_a_reader_runs_while_its_turn_is_locked() {
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
            let turn = Arc::new(StallDetector::new());
            turn.asked(&Waker::from(Arc::new(Rewakes(Arc::clone(&turn)))));
            turn.asked(Waker::noop());
            done.send(()).unwrap();
        });
        assert!(ended.recv_timeout(PATIENCE).is_ok(), "it waits for itself");
    }
}
