//! Detects a reader that does not read a body although the body has data.

use std::future::pending;
use std::mem;
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::sync::lock;

/// Measures for how long the reader of one body could have polled it, but has not.
///
/// It is also the waker that the body gets. When the body wakes it, the body has data, and it wakes the
/// reader.
#[derive(Debug)]
pub(super) struct StallDetector {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Since when the reader could poll; `None` while the body has no data.
    idle_since: Option<Instant>,
    /// The waker of the reader, from its poll until it is woken.
    reader: Option<Waker>,
}

impl StallDetector {
    /// Makes a detector whose time runs from now until the first poll.
    pub(super) fn new() -> Self {
        let state = State { idle_since: Some(Instant::now()), reader: None };
        Self { state: Mutex::new(state) }
    }

    /// Notes that the reader polls the body.
    pub(super) fn reader_polled(&self, reader: &Waker) {
        // Wakers are foreign code: they are cloned and dropped outside the lock.
        let reader = Some(reader.clone());
        let before = {
            let mut state = lock(&self.state);
            state.idle_since = None;
            mem::replace(&mut state.reader, reader)
        };
        drop(before);
    }

    /// Notes that the body has yielded something.
    pub(super) fn body_yielded(&self) {
        lock(&self.state).idle_since = Some(Instant::now());
    }

    /// Resolves once the reader could have polled for `timeout`, but has not.
    pub(super) async fn stalled(&self, timeout: Duration) {
        // Not zero, so that the loop always pauses.
        let timeout = timeout.max(Duration::from_millis(1));
        loop {
            let now = Instant::now();
            // While the body has no data, the next check is also due after a whole timeout.
            let since = lock(&self.state).idle_since.unwrap_or(now);
            match since.checked_add(timeout) {
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
            state.idle_since.get_or_insert_with(Instant::now);
            state.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}
