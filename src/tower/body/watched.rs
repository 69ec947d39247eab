//! The response body that is ended from outside: when its permit is lost, or its reader stalls.
//!
//! # Implementation
//!
//! A server polls a body only while it can send. It does not poll while the window of an HTTP/2 stream is
//! used up, or while the socket is full. So a body cannot rely on its poll to end it. Instead a task beside
//! the body, the watcher, waits for the loss or the stall. It takes the body out of the slot that it shares
//! with the reader, and drops the body and its permit.
//!
//! A poll also takes the body out of the slot, so that no lock is held while foreign code runs. If the
//! watcher ends the body during a poll, the poll drops the body instead of putting it back.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::task::AbortHandle;

use super::end::{EndReason, EndWhen, first_end};
use super::permit::PermitBody;
use super::slot::Slot;
use super::stall_detector::StallDetector;
use crate::tower::admission::permit::{RequestPermit, UntilLost};

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

impl<B: Send + 'static> WatchedBody<B> {
    pub(super) fn new(body: PermitBody<B>, end_when: EndWhen) -> Self {
        let until_lost =
            body.permit().filter(|_| end_when.lost).and_then(RequestPermit::until_lost);
        let slot = Arc::new(Slot::new(body));
        let stall = Arc::new(StallDetector::new());
        let watcher = spawn_watcher(&slot, &stall, until_lost, end_when.stall_timeout);
        let waker = Waker::from(Arc::clone(&stall));
        Self { slot, stall, waker, end_when_lost: end_when.lost, last_event: None, watcher }
    }
}

/// Spawns the task that ends the body from outside; `None` outside a runtime.
fn spawn_watcher<B: Send + 'static>(
    slot: &Arc<Slot<B>>,
    stall: &Arc<StallDetector>,
    until_lost: Option<UntilLost>,
    stall_timeout: Option<Duration>,
) -> Option<AbortHandle> {
    let runtime = tokio::runtime::Handle::try_current().ok()?;
    let (slot, stall) = (Arc::downgrade(slot), Arc::clone(stall));
    let watch = async move {
        let end = first_end(until_lost, stall_timeout, &stall).await;
        let _wakes = WakeOnDrop(stall);
        if let Some(slot) = slot.upgrade() {
            slot.end(end);
        }
    };
    Some(runtime.spawn(watch).abort_handle())
}

/// Wakes the reader of a body that has ended, even if the drop of the body panics.
struct WakeOnDrop(Arc<StallDetector>);

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        self.0.wake_by_ref();
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
        self.slot.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.slot.size_hint(self.last_event.is_some())
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
        self.slot.fmt(f)
    }
}
