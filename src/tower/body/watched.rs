//! A response body that is ended from outside: when its permit is lost, or its reader stalls.
//!
//! # Implementation
//!
//! A server polls a body only while its client has room: a stream of HTTP/2 without a window and a
//! full socket are not polled at all. So what is to end a body cannot be left to its poll. A task
//! beside the body waits for it, takes the body out of the slot that both share, and drops it and
//! its permit there. Whoever polls takes the body out meanwhile, so no lock is held while code of
//! others runs; if it was to end in that time, it is not put back.

use std::error::Error as StdError;
use std::future::pending;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use std::{fmt, mem};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::task::AbortHandle;

use crate::LostReason;
use crate::sync::lock;
use crate::tower::admission::permit::{RequestPermit, UntilLost};
use crate::tower::body::capped::PermitBody;
use crate::tower::body::stall_detector::StallDetector;
use crate::tower::error::{PermitLost, ReaderStalled};
use crate::tower::mode::dialect::Dialect;

/// What ends a body from outside.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct EndWhen {
    /// The loss of its permit.
    pub(crate) when_lost: bool,
    /// That its reader takes nothing for this long.
    pub(crate) stall_timeout: Option<Duration>,
}

/// Why a body was ended from outside.
#[derive(Debug, Clone, Copy)]
enum EndReason {
    Lost(LostReason),
    Stalled(Duration),
}

impl EndReason {
    fn into_error(self) -> Box<dyn StdError + Send + Sync> {
        match self {
            Self::Lost(reason) => Box::new(PermitLost(reason)),
            Self::Stalled(patience) => Box::new(ReaderStalled(patience)),
        }
    }
}

impl EndWhen {
    /// Whether any of it can come to pass.
    pub(crate) fn concern<B>(self, body: &PermitBody<B>) -> bool {
        let lost = |pass: &RequestPermit| self.when_lost && pass.is_permit();
        let stalls =
            |pass: &RequestPermit| self.stall_timeout.is_some() && pass.limiter().is_some();
        body.pass().is_some_and(|pass| lost(pass) || stalls(pass))
    }
}

/// A body that is watched.
pub(crate) struct WatchedBody<B> {
    slot: Arc<Slot<B>>,
    turn: Arc<StallDetector>,
    /// What the body wakes: the turn, and by way of it the reader.
    waker: Waker,
    when_lost: bool,
    /// How a loss is told by an event, instead of an error.
    last_event: Option<Dialect>,
    /// `None` outside a runtime, where only who polls notices a loss.
    watcher: Option<AbortHandle>,
}

struct Slot<B> {
    content: Mutex<Content<B>>,
}

enum Content<B> {
    Body(Pin<Box<PermitBody<B>>>),
    /// With whoever polls it.
    Out,
    /// Ended from outside, for a reason that the reader is yet to be told.
    Ended(Option<EndReason>),
}

impl<B: Send + 'static> WatchedBody<B> {
    pub(crate) fn new(body: PermitBody<B>, ends: EndWhen) -> Self {
        let until_lost = body.pass().filter(|_| ends.when_lost).and_then(RequestPermit::until_lost);
        let slot = Arc::new(Slot { content: Mutex::new(Content::Body(Box::pin(body))) });
        let turn = Arc::new(StallDetector::new());
        let watcher = tokio::runtime::Handle::try_current().ok().map(|runtime| {
            let (slot, turn) = (Arc::downgrade(&slot), Arc::clone(&turn));
            let watch = async move {
                let end = first_end(until_lost, ends.stall_timeout, &turn).await;
                let _told = WakesReader(turn);
                if let Some(slot) = slot.upgrade() {
                    slot.end(end);
                }
            };
            runtime.spawn(watch).abort_handle()
        });
        let waker = Waker::from(Arc::clone(&turn));
        Self { slot, turn, waker, when_lost: ends.when_lost, last_event: None, watcher }
    }
}

/// Wakes the reader of a body that has ended, when dropped: also where the body panics as it goes.
struct WakesReader(Arc<StallDetector>);

impl Drop for WakesReader {
    fn drop(&mut self) {
        self.0.wake_by_ref();
    }
}

async fn first_end(
    lost: Option<UntilLost>,
    stall: Option<Duration>,
    turn: &StallDetector,
) -> EndReason {
    let lost = async {
        match lost {
            Some(lost) => EndReason::Lost(lost.await),
            None => pending().await,
        }
    };
    let stalled = async {
        match stall {
            Some(patience) => {
                turn.stalls(patience).await;
                EndReason::Stalled(patience)
            }
            None => pending().await,
        }
    };
    tokio::select! {
        biased;
        end = lost => end,
        end = stalled => end,
    }
}

impl<B> Slot<B> {
    /// Ends the body, unless it has ended: it is dropped, and the permit after it.
    fn end(&self, end: EndReason) {
        let mut content = lock(&self.content);
        let over = match &*content {
            Content::Body(body) => body.pass().is_none(),
            Content::Out => false,
            Content::Ended(_) => true,
        };
        if !over {
            let ended = mem::replace(&mut *content, Content::Ended(Some(end)));
            // Not while others are kept out: it is code of others that runs.
            drop(content);
            drop(ended);
        }
    }

    /// The body, for as long as it takes to poll it; or why there is none.
    fn take_out(&self) -> Result<Pin<Box<PermitBody<B>>>, Option<EndReason>> {
        match &mut *lock(&self.content) {
            Content::Ended(end) => Err(end.take()),
            content => match mem::replace(content, Content::Out) {
                Content::Body(body) => Ok(body),
                // It panicked when it was polled.
                Content::Out | Content::Ended(_) => Err(None),
            },
        }
    }

    /// Puts the body back, unless it was ended meanwhile.
    fn put_back(&self, body: Pin<Box<PermitBody<B>>>) -> Result<(), Option<EndReason>> {
        match &mut *lock(&self.content) {
            Content::Ended(end) => Err(end.take()),
            content => {
                *content = Content::Body(body);
                Ok(())
            }
        }
    }
}

type Polled<D> = Poll<Option<Result<Frame<D>, Box<dyn StdError + Send + Sync>>>>;

impl<B> WatchedBody<B>
where
    B: Body<Data: From<Bytes>, Error: Into<Box<dyn StdError + Send + Sync>>>,
{
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Polled<B::Data> {
        let last_event = self.last_event;
        let told = |end: Option<EndReason>| {
            Poll::Ready(end.map(|end| match (end, last_event) {
                (EndReason::Lost(_), Some(dialect)) => Ok(Frame::data(dialect.lost_event().into())),
                _ => Err(end.into_error()),
            }))
        };
        let mut body = match self.slot.take_out() {
            Ok(body) => body,
            Err(end) => return told(end),
        };
        // The watcher may not have run yet.
        let lost = body.pass().filter(|_| self.when_lost).and_then(RequestPermit::lost_reason);
        if let Some(reason) = lost {
            drop(body);
            self.slot.end(EndReason::Lost(reason));
            return told(self.slot.take_out().err().flatten());
        }
        self.turn.asked(cx.waker());
        let frame = body.as_mut().poll_frame(&mut Context::from_waker(&self.waker));
        if body.pass().is_none() {
            self.unwatch();
        } else if frame.is_ready() {
            self.turn.answered();
        }
        match self.slot.put_back(body) {
            Ok(()) => frame.map_err(Into::into),
            Err(end) => told(end),
        }
    }
}

impl<B: Body> WatchedBody<B> {
    pub(crate) fn is_end_stream(&self) -> bool {
        match &*lock(&self.slot.content) {
            Content::Body(body) => body.is_end_stream(),
            Content::Out => true,
            Content::Ended(untold) => untold.is_none(),
        }
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match &*lock(&self.slot.content) {
            // More than the inner body may come.
            Content::Body(body) if self.last_event.is_none() || body.is_end_stream() => {
                body.size_hint()
            }
            _ => SizeHint::default(),
        }
    }
}

impl<B> WatchedBody<B> {
    pub(crate) fn tell_loss_by(&mut self, dialect: Dialect) {
        self.last_event = Some(dialect);
    }

    fn unwatch(&mut self) {
        if let Some(watcher) = self.watcher.take() {
            watcher.abort();
        }
    }
}

impl<B> Drop for WatchedBody<B> {
    fn drop(&mut self) {
        self.unwatch();
    }
}

impl<B> fmt::Debug for WatchedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*lock(&self.slot.content) {
            Content::Body(body) => body.fmt(f),
            Content::Out => f.write_str("polled"),
            Content::Ended(untold) => f.debug_tuple("Ended").field(untold).finish(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::tower::admission::limiter::Limiter;
    use crate::{Client, Permit, ZSetSemaphore};
    use std::convert::Infallible;
    use std::sync::{OnceLock, Weak};
    use tokio::runtime::Runtime;
    use tokio::time::Instant;

    const PATIENCE: Duration = Duration::from_secs(5);

    /// A body without end. Where it is told to, it is ended from outside while it is polled.
    #[derive(Default)]
    struct Endless {
        ends: Option<Arc<OnceLock<Weak<Slot<Self>>>>>,
        _lives: Arc<()>,
    }

    impl Body for Endless {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            if let Some(slot) = self.ends.as_ref().and_then(|ends| ends.get()?.upgrade()) {
                slot.end(EndReason::Stalled(PATIENCE));
            }
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"token")))))
        }
    }

    fn semaphore() -> ZSetSemaphore {
        Client::in_memory().semaphore("chats", 1).build().unwrap()
    }

    fn watched(chats: &ZSetSemaphore, body: Endless, permit: Permit) -> WatchedBody<Endless> {
        let limiter = Limiter::new(chats.clone(), "chats".into(), Arc::default());
        let pass = RequestPermit::permit(permit, limiter, Duration::ZERO, Instant::now());
        let ends = EndWhen { when_lost: true, stall_timeout: Some(PATIENCE) };
        let body = PermitBody::new(body, pass);
        assert!(ends.concern(&body));
        WatchedBody::new(body, ends)
    }

    fn polled(body: &mut WatchedBody<Endless>) -> Option<Result<Bytes, String>> {
        match body.poll_frame(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(frame) => frame.map(|frame| match frame {
                Ok(frame) => Ok(frame.into_data().unwrap()),
                Err(error) => Err(error.to_string()),
            }),
            Poll::Pending => panic!("pending"),
        }
    }

    #[tokio::test]
    async fn a_body_that_is_ended_while_it_is_polled_goes_with_what_it_gave() {
        let chats = semaphore();
        let (ends, lives) = (Arc::new(OnceLock::new()), Arc::new(()));
        let body = Endless { ends: Some(Arc::clone(&ends)), _lives: Arc::clone(&lives) };
        let mut body = watched(&chats, body, chats.acquire(1).await.unwrap());
        assert_eq!(polled(&mut body), Some(Ok("token".into())));
        ends.set(Arc::downgrade(&body.slot)).unwrap();
        let end = Some(Err("the reader took nothing of the body for 5s".to_owned()));
        assert_eq!(polled(&mut body), end);
        assert_eq!(Arc::strong_count(&lives), 1, "it is dropped");
        assert_eq!(polled(&mut body), None);
        drop(chats.acquire(1).await.unwrap());
    }

    /// There is no task then, and no timer.
    #[test]
    fn outside_a_runtime_who_polls_learns_of_the_loss() {
        let (runtime, chats) = (Runtime::new().unwrap(), semaphore());
        let permit = runtime.block_on(async { chats.acquire(1).await.unwrap() });
        let id = permit.id();
        let mut body = watched(&chats, Endless::default(), permit);
        assert_eq!(polled(&mut body), Some(Ok("token".into())));
        runtime.block_on(async { chats.kick(id).await.unwrap() });
        while chats.outlook().in_use != Some(0) {
            runtime.block_on(tokio::task::yield_now());
        }
        let end = Some(Err("the permit was lost: it was kicked".to_owned()));
        assert_eq!(polled(&mut body), end);
        assert_eq!(polled(&mut body), None);
    }

    /// Its body goes with it, though the watcher may be there for a while.
    #[tokio::test]
    async fn a_watched_body_that_is_dropped_takes_its_permit_along_at_once() {
        let chats = semaphore();
        let lives = Arc::new(());
        let body = Endless { _lives: Arc::clone(&lives), ends: None };
        drop(watched(&chats, body, chats.acquire(1).await.unwrap()));
        assert_eq!(Arc::strong_count(&lives), 1);
    }
}
