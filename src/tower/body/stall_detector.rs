//! Detects a reader that takes nothing of a body though there is something to take.

use std::future::pending;
use std::mem;
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::sync::lock;

/// Measures how long the reader of one body has not polled it though it could.
///
/// As a waker it stands between the body and its reader: a body that wakes its reader has something to
/// give.
#[derive(Debug)]
pub(super) struct StallDetector {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Since when the reader could poll; `None` while the body has nothing to give.
    idle_since: Option<Instant>,
    /// The waker of the reader, from its poll until it is woken.
    reader: Option<Waker>,
}

impl StallDetector {
    /// Makes one for a body that waits for its reader.
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

    /// Resolves once the reader has not polled for `timeout` though it could.
    pub(super) async fn stalled(&self, timeout: Duration) {
        // Not zero, so that the loop always pauses.
        let timeout = timeout.max(Duration::from_millis(1));
        loop {
            let now = Instant::now();
            // While the body has nothing to give, too, the next look is due after a whole timeout.
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
