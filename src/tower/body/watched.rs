//! The response body that is ended from outside: when its permit is lost, or its reader stalls.
//!
//! # Implementation
//!
//! A server polls a body only while its client has room. It does not poll at all for an HTTP/2 stream
//! without a window, or for a full socket. So the poll of a body cannot be relied on to end it. Instead
//! a task beside the body, the watcher, waits for the loss or the stall. It takes the body out of the slot
//! that it shares with the reader, and drops the body and its permit.
//!
//! A poll takes the body out of the slot as well, so that no lock is held while foreign code runs. If the
//! watcher ends the body during a poll, the poll does not put it back, but drops it.

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

use super::permit::PermitBody;
use super::stall_detector::StallDetector;
use crate::LostReason;
use crate::sync::lock;
use crate::tower::admission::permit::{RequestPermit, UntilLost};
use crate::tower::error::{PermitLost, ReaderStalled};

/// When a body is ended from outside.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct EndWhen {
    /// When its permit is lost.
    pub(crate) lost: bool,
    /// When its reader has taken nothing for this long.
    pub(crate) stall_timeout: Option<Duration>,
}

/// Why a body was ended from outside.
#[derive(Debug, Clone, Copy)]
pub(super) enum EndReason {
    Lost(LostReason),
    Stalled(Duration),
}

impl EndReason {
    fn into_error(self) -> Box<dyn StdError + Send + Sync> {
        match self {
            Self::Lost(reason) => Box::new(PermitLost(reason)),
            Self::Stalled(timeout) => Box::new(ReaderStalled(timeout)),
        }
    }
}

impl EndWhen {
    /// Returns whether anything can end this body from outside.
    pub(super) fn concerns<B>(self, body: &PermitBody<B>) -> bool {
        let may_be_lost = |permit: &RequestPermit| self.lost && permit.is_granted();
        let may_stall =
            |permit: &RequestPermit| self.stall_timeout.is_some() && permit.limiter().is_some();
        body.permit().is_some_and(|permit| may_be_lost(permit) || may_stall(permit))
    }
}

/// A body with a watcher.
pub(super) struct WatchedBody<B> {
    pub(super) slot: Arc<Slot<B>>,
    stall: Arc<StallDetector>,
    /// The waker that the body gets: the stall detector, which wakes the reader.
    waker: Waker,
    end_when_lost: bool,
    /// Ends the body when its permit is lost, instead of an error.
    last_event: Option<Bytes>,
    /// `None` outside a runtime. There only a poll notices a loss.
    watcher: Option<AbortHandle>,
}

/// What the reader and the watcher of a body share.
pub(super) struct Slot<B> {
    content: Mutex<Content<B>>,
}

enum Content<B> {
    Body(Pin<Box<PermitBody<B>>>),
    /// Taken out by a poll.
    Out,
    /// Ended from outside, with the reason until the reader was told.
    Ended(Option<EndReason>),
}

impl<B: Send + 'static> WatchedBody<B> {
    pub(super) fn new(body: PermitBody<B>, end_when: EndWhen) -> Self {
        let until_lost =
            body.permit().filter(|_| end_when.lost).and_then(RequestPermit::until_lost);
        let slot = Arc::new(Slot { content: Mutex::new(Content::Body(Box::pin(body))) });
        let stall = Arc::new(StallDetector::new());
        let watcher = tokio::runtime::Handle::try_current().ok().map(|runtime| {
            let (slot, stall) = (Arc::downgrade(&slot), Arc::clone(&stall));
            let watch = async move {
                let end = first_end(until_lost, end_when.stall_timeout, &stall).await;
                let _wakes = WakeOnDrop(stall);
                if let Some(slot) = slot.upgrade() {
                    slot.end(end);
                }
            };
            runtime.spawn(watch).abort_handle()
        });
        let waker = Waker::from(Arc::clone(&stall));
        Self { slot, stall, waker, end_when_lost: end_when.lost, last_event: None, watcher }
    }
}

/// Wakes the reader of a body that has ended, even if the drop of the body panics.
struct WakeOnDrop(Arc<StallDetector>);

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        self.0.wake_by_ref();
    }
}

/// Waits for the first reason to end a body.
async fn first_end(
    lost: Option<UntilLost>,
    stall_timeout: Option<Duration>,
    stall: &StallDetector,
) -> EndReason {
    let lost = async {
        match lost {
            Some(lost) => EndReason::Lost(lost.await),
            None => pending().await,
        }
    };
    let stalled = async {
        match stall_timeout {
            Some(timeout) => {
                stall.stalled(timeout).await;
                EndReason::Stalled(timeout)
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
    /// Ends the body, unless it has ended: drops it, and then its permit.
    pub(super) fn end(&self, end: EndReason) {
        let mut content = lock(&self.content);
        let over = match &*content {
            Content::Body(body) => body.permit().is_none(),
            Content::Out => false,
            Content::Ended(_) => true,
        };
        if !over {
            let ended = mem::replace(&mut *content, Content::Ended(Some(end)));
            // Foreign code runs in the drop, so the lock is released first.
            drop(content);
            drop(ended);
        }
    }

    /// Takes the body out for a poll; or returns why it has ended.
    fn take_out(&self) -> Result<Pin<Box<PermitBody<B>>>, Option<EndReason>> {
        match &mut *lock(&self.content) {
            Content::Ended(end) => Err(end.take()),
            content => match mem::replace(content, Content::Out) {
                Content::Body(body) => Ok(body),
                // A poll of the body has panicked.
                Content::Out | Content::Ended(_) => Err(None),
            },
        }
    }

    /// Puts the body back after a poll; or returns why it was ended meanwhile.
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

type PolledFrame<D> = Poll<Option<Result<Frame<D>, Box<dyn StdError + Send + Sync>>>>;

impl<B> WatchedBody<B>
where
    B: Body<Data: From<Bytes>, Error: Into<Box<dyn StdError + Send + Sync>>>,
{
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> PolledFrame<B::Data> {
        let mut body = match self.slot.take_out() {
            Ok(body) => body,
            Err(end) => return self.last_frame(end),
        };
        // The watcher may not have run yet.
        let permit = body.permit().filter(|_| self.end_when_lost);
        if let Some(reason) = permit.and_then(RequestPermit::lost_reason) {
            drop(body);
            self.slot.end(EndReason::Lost(reason));
            return self.last_frame(self.slot.take_out().err().flatten());
        }
        self.stall.reader_polled(cx.waker());
        let frame = body.as_mut().poll_frame(&mut Context::from_waker(&self.waker));
        if body.permit().is_none() {
            self.unwatch();
        } else if frame.is_ready() {
            self.stall.body_yielded();
        }
        match self.slot.put_back(body) {
            Ok(()) => frame.map_err(Into::into),
            Err(end) => self.last_frame(end),
        }
    }

    /// Tells the reader once why the body was ended: by the last event, or by an error.
    fn last_frame(&self, end: Option<EndReason>) -> PolledFrame<B::Data> {
        Poll::Ready(end.map(|end| match (end, &self.last_event) {
            (EndReason::Lost(_), Some(event)) => Ok(Frame::data(event.clone().into())),
            _ => Err(end.into_error()),
        }))
    }
}

impl<B: Body> WatchedBody<B> {
    pub(super) fn is_end_stream(&self) -> bool {
        match &*lock(&self.slot.content) {
            Content::Body(body) => body.is_end_stream(),
            Content::Out => true,
            Content::Ended(untold) => untold.is_none(),
        }
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match &*lock(&self.slot.content) {
            // With a last event more than the inner body may come.
            Content::Body(body) if self.last_event.is_none() || body.is_end_stream() => {
                body.size_hint()
            }
            _ => SizeHint::default(),
        }
    }
}

impl<B> WatchedBody<B> {
    /// Ends the body with `event` when its permit is lost, instead of an error.
    pub(super) fn end_with(&mut self, event: Bytes) {
        self.last_event = Some(event);
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
