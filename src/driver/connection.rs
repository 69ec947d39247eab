//! The client's one connection: opened, judged and replaced by our own rules.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use crate::error::{StoreError, StoreErrorKind};
use crate::store::{BoxFuture, Session};

use crate::sync::lock;

use super::{Link, Shared};

/// So many calls without an answer and no turn with one between them, and the connection is replaced.
const PATIENCE: u32 = 3;
/// Opening a connection takes several round trips, and TCP asks again after a second.
const OPENING: u32 = 4;
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

pub(super) struct Connection {
    state: State,
    unanswered: u32,
    unanswered_since: Instant,
    failures: u32,
    down_since: Instant,
    /// Whether the present outage was told in the log.
    told: bool,
}

enum State {
    Down { error: Option<StoreError>, retry_at: Option<Instant> },
    Opening(BoxFuture<'static, Result<Arc<dyn Session>, StoreError>>, Option<StoreError>),
    Up(Arc<dyn Session>),
}

impl Connection {
    pub(super) fn new() -> Self {
        Self {
            state: State::Down { error: None, retry_at: None },
            unanswered: 0,
            unanswered_since: Instant::now(),
            failures: 0,
            down_since: Instant::now(),
            told: false,
        }
    }

    pub(super) fn session(&self) -> Option<&Arc<dyn Session>> {
        match &self.state {
            State::Up(session) => Some(session),
            _ => None,
        }
    }

    /// Why there is no connection, once that is known.
    pub(super) fn trouble(&self) -> Option<&StoreError> {
        match &self.state {
            State::Down { error, .. } | State::Opening(_, error) => error.as_ref(),
            State::Up(_) => None,
        }
    }

    /// Resolves when the connection came up or an attempt failed. Cancel-safe: it can be dropped
    /// and called again.
    pub(super) async fn step(&mut self, shared: &Arc<Shared>) {
        if let State::Down { error, retry_at } = &mut self.state {
            if let Some(at) = retry_at {
                sleep_until(*at).await;
            }
            let error = error.take();
            self.state = State::Opening(open(Arc::clone(shared)), error);
        }
        let opened = match &mut self.state {
            State::Opening(opening, _) => opening.await,
            State::Up(_) | State::Down { .. } => return std::future::pending().await,
        };
        match opened {
            Ok(session) => self.up(shared, session),
            Err(error) => self.down(shared, error),
        }
    }

    fn up(&mut self, shared: &Shared, session: Arc<dyn Session>) {
        if self.told {
            tracing::info!(store = shared.place(), "connected again");
        }
        self.told = false;
        self.failures = 0;
        self.unanswered = 0;
        *lock(&shared.unconnected_since) = None;
        shared.hear(Instant::now());
        shared.at_once.store(session.is_at_once(), Ordering::SeqCst);
        shared.link.send_replace(Link::Up(Arc::clone(&session)));
        self.state = State::Up(session);
    }

    fn down(&mut self, shared: &Shared, error: StoreError) {
        if !self.told {
            tracing::warn!(store = shared.place(), %error, "no connection; trying again");
            self.told = true;
        }
        let longest = (SHORTEST_PAUSE * 2u32.pow(self.failures.min(5))).min(LONGEST_PAUSE);
        if self.failures == 0 {
            self.down_since = Instant::now();
        }
        self.failures += 1;
        let retry_at = Instant::now() + longest.mul_f64(0.5 + 0.5 * fastrand::f64());
        lock(&shared.unconnected_since).get_or_insert_with(Instant::now);
        shared.link.send_replace(Link::Down(error.clone()));
        self.state = State::Down { error: Some(error), retry_at: Some(retry_at) };
    }

    pub(super) fn answered(&mut self) {
        self.unanswered = 0;
    }

    /// A call failed on `session`. True if the present connection was given up for it.
    pub(super) fn failed(
        &mut self,
        shared: &Shared,
        session: &Arc<dyn Session>,
        error: &StoreError,
    ) -> bool {
        if !self.session().is_some_and(|current| Arc::ptr_eq(current, session)) {
            return false; // that connection was given up already
        }
        if error.is_timeout() {
            // Old ones tell nothing: a client that only inspects has no turns that reset the count.
            let old = self.unanswered_since.elapsed() > shared.call_timeout * 10;
            if self.unanswered == 0 || old {
                self.unanswered = 0;
                self.unanswered_since = Instant::now();
            }
            self.unanswered += 1;
        }
        // Turns of a short lease have short deadlines: a few of them alone say little.
        let silent = self.unanswered >= PATIENCE
            && self.unanswered_since.elapsed() >= shared.call_timeout / 2;
        let stale = matches!(error.kind(), StoreErrorKind::ReadOnly);
        let give_up = error.breaks_connection() || stale || silent;
        if give_up {
            // Dropping the session closes its socket; what was sent on it may still run.
            self.down(shared, error.clone());
        }
        give_up
    }

    /// Whether the connection broke while nothing was asked of it; then it is given up.
    pub(super) fn lost_unasked(&mut self, shared: &Shared) -> bool {
        let broken = self.session().is_some_and(|session| !session.is_alive());
        if broken {
            let what = format!("the connection to {} broke", shared.place());
            self.down(shared, StoreError::new(StoreErrorKind::Disconnected, what));
        }
        broken
    }

    /// For how long there has been no connection.
    pub(super) fn down_for(&self) -> Duration {
        match self.state {
            State::Up(_) => Duration::ZERO,
            _ => self.down_since.elapsed(),
        }
    }
}

fn open(shared: Arc<Shared>) -> BoxFuture<'static, Result<Arc<dyn Session>, StoreError>> {
    Box::pin(async move {
        let ear = Arc::clone(&shared);
        let deadline = shared.call_timeout * OPENING;
        match timeout(deadline, shared.store.open(shared.id(), ear)).await {
            Ok(opened) => opened,
            Err(_) => Err(StoreError::timeout(format!(
                "no connection to {} within {deadline:?}",
                shared.place()
            ))),
        }
    })
}
