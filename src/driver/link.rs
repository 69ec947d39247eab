//! The state of the connection, kept in one place.
//!
//! # Implementation
//!
//! Only the driver changes it, through [`Connection`](super::connection::Connection). `inline` and `heard`
//! are not in the watch channel, since each permit and each turn reads them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::compact_instant::CompactInstant;
use crate::error::StoreError;
use crate::store::Session;

/// The state of the connection.
#[derive(Clone)]
pub(super) enum Link {
    /// No connection is wanted, and there is no driver.
    Idle,
    /// The first connection is being opened.
    Opening {
        since: Instant,
    },
    Up(Arc<dyn Session>),
    /// There is no connection; the driver tries again.
    Down {
        error: StoreError,
        since: Instant,
    },
    /// The driver has ended.
    Ended,
}

impl Link {
    /// Since when a connection is wanted and there is none.
    fn unconnected_since(&self) -> Option<Instant> {
        match self {
            Self::Opening { since } | Self::Down { since, .. } => Some(*since),
            Self::Idle | Self::Up(_) | Self::Ended => None,
        }
    }
}

pub(crate) struct LinkWatch {
    link: watch::Sender<Link>,
    /// Whether the session that was opened last is inline.
    inline: AtomicBool,
    /// When the server last answered, as the nanoseconds of a [`CompactInstant`].
    heard: AtomicI64,
    born: Instant,
}

/// The server has not answered yet.
const NEVER: i64 = i64::MIN;

impl LinkWatch {
    pub(super) fn new() -> Self {
        Self {
            link: watch::Sender::new(Link::Idle),
            inline: AtomicBool::new(false),
            heard: AtomicI64::new(NEVER),
            born: Instant::now(),
        }
    }

    pub(super) fn opening(&self, since: Instant) {
        self.link.send_replace(Link::Opening { since });
    }

    pub(super) fn up(&self, session: Arc<dyn Session>, now: Instant) {
        self.hear(now);
        self.inline.store(session.is_inline(), Ordering::SeqCst);
        self.link.send_replace(Link::Up(session));
    }

    pub(super) fn down(&self, error: StoreError, now: Instant) {
        let since = self.unconnected_since().unwrap_or(now);
        self.link.send_replace(Link::Down { error, since });
    }

    /// Closes the connection.
    pub(super) fn idle(&self) {
        self.link.send_replace(Link::Idle);
    }

    pub(super) fn ended(&self) {
        self.link.send_replace(Link::Ended);
    }

    /// Returns whether callers take turns themselves, because the store need not be awaited.
    pub(super) fn is_inline(&self) -> bool {
        self.inline.load(Ordering::SeqCst)
    }

    pub(super) fn session(&self) -> Option<Arc<dyn Session>> {
        match &*self.link.borrow() {
            Link::Up(session) => Some(Arc::clone(session)),
            _ => None,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(*self.link.borrow(), Link::Up(_))
    }

    /// Returns whether `session` is the present connection.
    pub(super) fn is_up_by(&self, session: &Arc<dyn Session>) -> bool {
        matches!(&*self.link.borrow(), Link::Up(current) if Arc::ptr_eq(current, session))
    }

    /// Returns whether there is a connection that is not known to be broken.
    pub(super) fn is_alive(&self) -> bool {
        matches!(&*self.link.borrow(), Link::Up(session) if session.is_alive())
    }

    /// Returns whether the present connection is known to be broken.
    pub(super) fn is_broken(&self) -> bool {
        matches!(&*self.link.borrow(), Link::Up(session) if !session.is_alive())
    }

    /// Returns why there is no connection, if that is known.
    pub(crate) fn error(&self) -> Option<StoreError> {
        match &*self.link.borrow() {
            Link::Down { error, .. } => Some(error.clone()),
            _ => None,
        }
    }

    /// Returns whether the last attempt to connect has failed.
    pub(crate) fn is_down(&self) -> bool {
        matches!(*self.link.borrow(), Link::Down { .. })
    }

    /// Since when a connection is wanted and there is none.
    pub(crate) fn unconnected_since(&self) -> Option<Instant> {
        self.link.borrow().unconnected_since()
    }

    /// Waits for the open connection until `deadline`. If there is none by then, it returns the present
    /// state.
    pub(super) async fn wait_for_session(
        &self,
        deadline: Duration,
    ) -> Result<Arc<dyn Session>, Link> {
        let mut link = self.link.subscribe();
        let decided = link.wait_for(|link| match link {
            Link::Idle | Link::Opening { .. } => false,
            Link::Down { error, .. } => error.is_final(),
            Link::Up(_) | Link::Ended => true,
        });
        match timeout(deadline, decided).await {
            Ok(Ok(link)) => match link.clone() {
                Link::Up(session) => Ok(session),
                link => Err(link),
            },
            Ok(Err(_)) => Err(Link::Ended),
            Err(_) => Err(self.link.borrow().clone()),
        }
    }

    /// Resolves once `session` is not the present connection any more.
    pub(super) async fn left(&self, session: &Arc<dyn Session>) {
        let mut link = self.link.subscribe();
        let is_other =
            |link: &Link| !matches!(link, Link::Up(current) if Arc::ptr_eq(current, session));
        let _ = link.wait_for(is_other).await; // fails where the link is gone
    }

    /// Waits for the outcome of the first attempt to connect.
    pub(super) async fn first_outcome(&self) -> Link {
        let mut link = self.link.subscribe();
        let tried = link.wait_for(|link| !matches!(link, Link::Idle | Link::Opening { .. })).await;
        tried.map_or(Link::Ended, |link| link.clone())
    }

    /// Notes that the server has answered.
    pub(crate) fn hear(&self, now: Instant) {
        self.heard.fetch_max(CompactInstant::from(now).nanos(), Ordering::Relaxed);
    }

    /// Returns when the server last answered; `None` if it never has.
    pub(crate) fn last_heard(&self) -> Option<Instant> {
        let nanos = self.heard.load(Ordering::Relaxed);
        (nanos != NEVER).then(|| CompactInstant::from_nanos(nanos).into())
    }

    /// Returns since when the server is silent: when it last answered, or when this client was made.
    pub(crate) fn heard_at(&self) -> Instant {
        self.last_heard().unwrap_or(self.born)
    }
}
