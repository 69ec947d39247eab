//! The connection to a place: opened, judged and replaced by rules of this crate.

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::error::{StoreError, StoreErrorKind};
use crate::metrics::Connected;
use crate::retry_delay::RetryDelay;
use crate::store::{BoxFuture, Opened, Session};

use super::listener::Listener;
use super::place::Place;
use super::shared::Shared;

/// The connection is replaced after this number of calls without an answer, if no turn was answered between
/// them.
const PATIENCE: u32 = 3;
/// News of a place cut a pause short once in this time. So a store that always has news makes no busy loop.
const NEWS_SPACING: Duration = Duration::from_millis(500);
/// The timeout for opening a connection. It takes several round trips, and TCP retransmits after a second.
const OPENING: u32 = 4;

/// Opens and judges the connection; [`LinkWatch`](super::link::LinkWatch) tells its state.
pub(super) struct Connection {
    place: Arc<Place>,
    step: Step,
    unanswered: u32,
    unanswered_since: Instant,
    delay: RetryDelay,
    /// When news of the place last cut a pause short.
    heeded: Option<Instant>,
    /// Whether the present outage was told in the log.
    told: bool,
}

enum Step {
    Wait(Pause),
    Open(BoxFuture<'static, Result<Opened, StoreError>>),
    Up {
        /// Moves the bytes of the connection, if the driver has to do that.
        io: Option<BoxFuture<'static, ()>>,
        _connected: Connected,
    },
}

/// The pause before the next connection is opened.
#[derive(Default)]
struct Pause {
    /// `None`: the connection is to be opened now.
    until: Option<Instant>,
    /// Ends when the store has news of the place.
    news: Option<BoxFuture<'static, ()>>,
}

impl Connection {
    pub(super) fn new(place: Arc<Place>) -> Self {
        Self {
            place,
            step: Step::Wait(Pause::default()),
            unanswered: 0,
            unanswered_since: Instant::now(),
            delay: RetryDelay::default(),
            heeded: None,
            told: false,
        }
    }

    /// Opens the connection, or moves its bytes. Ready when it came up, broke, or could not be opened. During
    /// a pause, only news wake the task: it has to poll again at [`opens_at`](Self::opens_at).
    pub(super) fn poll(&mut self, shared: &Arc<Shared>, cx: &mut Context<'_>) -> Poll<()> {
        if let Step::Wait(pause) = &mut self.step {
            if pause.has_news(&self.place, cx) {
                self.heed_news();
            }
            if self.opens_at().is_some_and(|at| Instant::now() < at) {
                return Poll::Pending;
            }
            self.step = Step::Open(open(Arc::clone(shared), Arc::clone(&self.place)));
        }
        match &mut self.step {
            Step::Open(opening) => match ready!(opening.as_mut().poll(cx)) {
                Ok(opened) => self.up(shared, opened),
                Err(error) => {
                    shared.meter().failed_to_connect();
                    self.down(shared, error);
                }
            },
            Step::Up { io: Some(io), .. } => {
                ready!(io.as_mut().poll(cx));
                self.broke(shared);
            }
            Step::Up { io: None, .. } | Step::Wait(_) => return Poll::Pending,
        }
        Poll::Ready(())
    }

    /// Cuts the pause short. The delays begin again, since the outage may be over soon: so clients that have heard the
    /// same news come back spread over the first bound.
    fn heed_news(&mut self) {
        let now = Instant::now();
        let Step::Wait(pause) = &mut self.step else { return };
        if self.heeded.is_some_and(|at| now.saturating_duration_since(at) < NEWS_SPACING) {
            return;
        }
        self.heeded = Some(now);
        self.delay.reset();
        let soon = now + self.delay.after_failure();
        pause.until = pause.until.map(|until| until.min(soon));
    }

    fn up(&mut self, shared: &Shared, Opened { session, io }: Opened) {
        if self.told {
            tracing::info!(store = shared.address_of(&self.place), "connected again");
        }
        self.told = false;
        self.delay.reset();
        self.unanswered = 0;
        self.step = Step::Up { io, _connected: shared.meter().connected() };
        self.place.link().up(session, Instant::now());
    }

    fn down(&mut self, shared: &Arc<Shared>, error: StoreError) {
        if !self.told {
            tracing::warn!(store = shared.address_of(&self.place), %error, "no connection; trying again");
            self.told = true;
        }
        let now = Instant::now();
        self.place.give_up_connection();
        let listener = Arc::new(Listener::new(shared, &self.place));
        self.place.take_news(); // it is of before the pause
        self.step = Step::Wait(Pause {
            until: Some(now + self.delay.after_failure()),
            news: shared.store().watch(self.place.id(), listener),
        });
        self.place.link().down(error, now);
    }

    /// Returns when the next connection is to be opened, during a pause.
    pub(super) fn opens_at(&self) -> Option<Instant> {
        match &self.step {
            Step::Wait(pause) => pause.until,
            Step::Open(_) | Step::Up { .. } => None,
        }
    }

    pub(super) fn answered(&mut self) {
        self.unanswered = 0;
    }

    /// Notes that a call failed on `session`. Returns whether the present connection was given up for it.
    pub(super) fn failed(
        &mut self,
        shared: &Arc<Shared>,
        session: &Arc<dyn Session>,
        error: &StoreError,
    ) -> bool {
        if !self.place.link().is_up_by(session) {
            return false; // that connection was given up already
        }
        if error.is_timeout() {
            // Old failures do not count, because a client that only inspects has no turns that reset the
            // number.
            let old = self.unanswered_since.elapsed() > shared.call_timeout * 10;
            if self.unanswered == 0 || old {
                self.unanswered = 0;
                self.unanswered_since = Instant::now();
            }
            self.unanswered += 1;
        }
        // Turns of a short lease have short deadlines, so a few failed turns alone prove little.
        let silent = self.unanswered >= PATIENCE
            && self.unanswered_since.elapsed() >= shared.call_timeout / 2;
        let stale = matches!(error.kind(), StoreErrorKind::ReadOnly);
        let give_up = error.breaks_connection() || stale || silent;
        if give_up {
            // Dropping the session closes its socket. Turns that were sent on it may still run.
            self.down(shared, error.clone());
        }
        give_up
    }

    /// Gives up the connection if it broke while it was idle. Returns whether it did.
    pub(super) fn lost_unasked(&mut self, shared: &Arc<Shared>) -> bool {
        let broken = self.place.link().is_broken();
        if broken {
            self.broke(shared);
        }
        broken
    }

    fn broke(&mut self, shared: &Arc<Shared>) {
        let what = format!("the connection to {} broke", shared.address_of(&self.place));
        self.down(shared, StoreError::new(StoreErrorKind::Disconnected, what));
    }
}

impl Pause {
    fn has_news(&mut self, place: &Place, cx: &mut Context<'_>) -> bool {
        let told = self.news.as_mut().is_some_and(|news| news.as_mut().poll(cx).is_ready());
        if told {
            self.news = None;
        }
        place.take_news() || told
    }
}

fn open(shared: Arc<Shared>, place: Arc<Place>) -> BoxFuture<'static, Result<Opened, StoreError>> {
    Box::pin(async move {
        let listener = Arc::new(Listener::new(&shared, &place));
        let deadline = shared.call_timeout * OPENING;
        match timeout(deadline, shared.store().open(place.id(), shared.id(), listener)).await {
            Ok(opened) => opened,
            Err(_) => Err(StoreError::timeout(format!(
                "no connection to {} within {deadline:?}",
                shared.address_of(&place)
            ))),
        }
    })
}
