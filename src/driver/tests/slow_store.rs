//! A store that answers when the test says so.

use std::future::{pending, ready};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use crate::error::{StoreError, StoreErrorKind};
use crate::id::{ClientId, PermitId};
use crate::inspection::{Inspection, KickOutcome};
use crate::numbers::{PlaceId, ServerId};
use crate::store::{
    BoxFuture, Kick, NamesCursor, NamesPage, Opened, Replication, Session, Store, Turn, TurnAnswer,
    WakeListener,
};

use super::slow_replication::Questions;

/// A session that keeps what it was sent until the test answers it.
#[derive(Default)]
pub(super) struct Slow {
    sent: Mutex<Vec<Sent>>,
    /// Dropped when the connection breaks.
    unbroken: Mutex<Option<oneshot::Sender<()>>>,
    /// What it was asked about replicas, by connections that were opened for that.
    pub(super) questions: Questions,
}

/// Turns that were sent together, and where their answers go.
pub(super) struct Sent {
    pub(super) turns: Vec<Turn>,
    pub(super) done: oneshot::Sender<Vec<TurnAnswer>>,
}

impl Sent {
    /// Answers each turn.
    pub(super) fn answer(self, answer: impl FnMut(&Turn) -> TurnAnswer) {
        let answers = self.turns.iter().map(answer).collect();
        self.done.send(answers).unwrap();
    }
}

impl Slow {
    fn keep(&self, turns: Vec<Turn>) -> oneshot::Receiver<Vec<TurnAnswer>> {
        let (done, answers) = oneshot::channel();
        self.sent.lock().unwrap().push(Sent { turns, done });
        answers
    }

    pub(super) fn take(&self) -> Vec<Sent> {
        std::mem::take(&mut self.sent.lock().unwrap())
    }

    /// Breaks the connection, if it has bytes to move.
    pub(super) fn break_off(&self) {
        *self.unbroken.lock().unwrap() = None;
    }
}

fn gone<T: Send + 'static>() -> BoxFuture<'static, Result<T, StoreError>> {
    let error = StoreError::new(StoreErrorKind::Disconnected, "only turns are answered");
    Box::pin(ready(Err(error)))
}

impl Session for Slow {
    fn turn(self: Arc<Self>, turn: Turn) -> BoxFuture<'static, TurnAnswer> {
        let answers = self.keep(vec![turn]);
        Box::pin(async move { answers.await.unwrap().pop().unwrap() })
    }

    fn turns(self: Arc<Self>, turns: Vec<Turn>) -> BoxFuture<'static, Vec<TurnAnswer>> {
        let answers = self.keep(turns);
        Box::pin(async move { answers.await.unwrap() })
    }

    fn inspect(&self, _: Arc<str>) -> BoxFuture<'_, Result<Inspection, StoreError>> {
        gone()
    }

    fn set_limit(&self, _: Arc<str>, _: Option<u32>) -> BoxFuture<'_, Result<(), StoreError>> {
        gone()
    }

    fn kick(
        &self,
        _: Arc<str>,
        _: PermitId,
        _: Kick,
    ) -> BoxFuture<'_, Result<KickOutcome, StoreError>> {
        gone()
    }

    fn names(&self, _: NamesCursor) -> BoxFuture<'_, Result<NamesPage, StoreError>> {
        gone()
    }

    fn server(&self) -> Option<ServerId> {
        ServerId::new(1)
    }

    fn replication(&self) -> BoxFuture<'_, Result<Box<dyn Replication>, StoreError>> {
        Box::pin(ready(Ok(self.questions.open())))
    }

    fn is_subscribed(&self) -> bool {
        true
    }

    fn is_alive(&self) -> bool {
        true
    }
}

/// The sessions that were opened, in their order.
pub(super) type Sessions = Arc<Mutex<Vec<Arc<Slow>>>>;

/// A store whose sessions are [`Slow`].
pub(super) struct SlowStore {
    pub(super) sessions: Sessions,
    /// How many sessions it opens. It does not answer who wants more.
    pub(super) most: Arc<AtomicUsize>,
    /// Whether the driver moves the bytes of the connection, or something else does.
    pub(super) has_io: bool,
}

impl Store for SlowStore {
    fn open(
        &self,
        _: PlaceId,
        _: ClientId,
        _: Arc<dyn WakeListener>,
    ) -> BoxFuture<'_, Result<Opened, StoreError>> {
        let mut sessions = self.sessions.lock().unwrap();
        if sessions.len() >= self.most.load(Ordering::SeqCst) {
            return Box::pin(pending());
        }
        let slow = Arc::<Slow>::default();
        sessions.push(Arc::clone(&slow));
        let io = self.has_io.then(|| -> BoxFuture<'static, ()> {
            let (unbroken, broken) = oneshot::channel::<()>();
            *slow.unbroken.lock().unwrap() = Some(unbroken);
            Box::pin(async move { drop(broken.await) })
        });
        Box::pin(ready(Ok(Opened { session: slow, io })))
    }

    fn address(&self) -> String {
        "a slow store".to_owned()
    }
}
