//! The bodies that hold a permit for as long as they stream.

use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;

use crate::tower::admission::permit::RequestPermit;
use crate::tower::body::watched::{EndWhen, WatchedBody};
use crate::tower::mode::dialect::Dialect;

/// A response body that gives its permit back when it ends, fails or is dropped; made by
/// [`HoldBody`](crate::tower::HoldBody).
///
/// Frames, errors, [`size_hint`](Body::size_hint) and [`is_end_stream`](Body::is_end_stream) are
/// those of `B`. Once `B` says that it is at its end (which an empty one does from the start), it
/// is dropped, and the permit after it: nobody may poll again.
#[pin_project]
pub struct PermitBody<B> {
    #[pin]
    state: State<B>,
}

#[pin_project(project = StateProj)]
enum State<B> {
    Streaming {
        #[pin]
        body: B,
        // The last field: the body is dropped before it.
        pass: RequestPermit,
    },
    /// With the last size hint of the body.
    Ended(SizeHint),
}

impl<B> PermitBody<B> {
    /// What it is held by; `None` once it has ended.
    pub(crate) fn pass(&self) -> Option<&RequestPermit> {
        match &self.state {
            State::Streaming { pass, .. } => Some(pass),
            State::Ended(_) => None,
        }
    }
}

impl<B: Body> PermitBody<B> {
    pub(crate) fn new(body: B, pass: RequestPermit) -> Self {
        let ended = body.is_end_stream().then(|| body.size_hint());
        let streaming = State::Streaming { body, pass };
        // What is not kept is dropped here, the body first.
        Self { state: ended.map_or(streaming, State::Ended) }
    }
}

impl<B: Body> Body for PermitBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let mut state = self.project().state;
        let StateProj::Streaming { mut body, .. } = state.as_mut().project() else {
            return Poll::Ready(None);
        };
        let frame = ready!(body.as_mut().poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) || body.is_end_stream() {
            let hint = body.size_hint();
            state.set(State::Ended(hint));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Streaming { body, .. } => body.is_end_stream(),
            State::Ended(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Streaming { body, .. } => body.size_hint(),
            // Not `*hint`: it is `Copy` only since http-body 1.1.
            State::Ended(hint) => SizeHint::clone(hint),
        }
    }
}

/// An empty body, which holds nothing: for layers that answer by themselves, as for CORS.
impl<B> Default for PermitBody<B> {
    fn default() -> Self {
        Self { state: State::Ended(SizeHint::with_exact(0)) }
    }
}

// By hand: bodies need not be `Debug`.
impl<B> fmt::Debug for PermitBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PermitBody")
            .field("ended", &self.pass().is_none())
            .field("permit", &self.pass())
            .finish_non_exhaustive()
    }
}

/// The response body of a layer that answers rejections by itself, or ends bodies whose permit was
/// lost or whose reader stalls: that of the inner service with its permit, or a rejection.
///
/// Of the inner body it asks no more than that its data can be made of [`Bytes`] and its error be
/// boxed, and that it is `Send + 'static`, since a task ends it where nobody polls it.
#[pin_project]
pub struct CappedBody<B> {
    #[pin]
    state: Capped<B>,
}

#[pin_project(project = CappedProj)]
enum Capped<B> {
    /// Only its reader ends it.
    Held(#[pin] PermitBody<B>),
    Watched(WatchedBody<B>),
    Rejection(Option<Bytes>),
    Ended,
}

impl<B: Body + Send + 'static> CappedBody<B> {
    pub(crate) fn new(body: B, pass: RequestPermit, ends: EndWhen) -> Self {
        let body = PermitBody::new(body, pass);
        let watch = ends.concern(&body);
        let state =
            if watch { Capped::Watched(WatchedBody::new(body, ends)) } else { Capped::Held(body) };
        Self { state }
    }

    /// Instead of failing for the loss of its permit, it ends with an event that tells of it.
    pub(crate) fn with_last_event(mut self, dialect: Dialect) -> Self {
        if let Capped::Watched(watched) = &mut self.state {
            watched.tell_loss_by(dialect);
        }
        self
    }
}

impl<B> CappedBody<B> {
    pub(crate) fn rejection(text: Bytes) -> Self {
        let state = if text.is_empty() { Capped::Ended } else { Capped::Rejection(Some(text)) };
        Self { state }
    }
}

impl<B> Body for CappedBody<B>
where
    B: Body<Data: From<Bytes>, Error: Into<Box<dyn StdError + Send + Sync>>>,
{
    type Data = B::Data;
    type Error = Box<dyn StdError + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let mut state = self.project().state;
        match state.as_mut().project() {
            CappedProj::Held(body) => body.poll_frame(cx).map_err(Into::into),
            CappedProj::Watched(body) => body.poll_frame(cx),
            CappedProj::Rejection(text) => {
                let text = text.take().map(|text| Ok(Frame::data(text.into())));
                state.set(Capped::Ended);
                Poll::Ready(text)
            }
            CappedProj::Ended => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            Capped::Held(body) => body.is_end_stream(),
            Capped::Watched(body) => body.is_end_stream(),
            Capped::Rejection(_) => false,
            Capped::Ended => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            Capped::Held(body) => body.size_hint(),
            Capped::Watched(body) => body.size_hint(),
            Capped::Rejection(text) => {
                SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64))
            }
            Capped::Ended => SizeHint::with_exact(0),
        }
    }
}

/// An empty body, which holds nothing: for layers that answer by themselves, as for CORS and timeouts.
impl<B> Default for CappedBody<B> {
    fn default() -> Self {
        Self { state: Capped::Ended }
    }
}

impl<B> fmt::Debug for CappedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            Capped::Held(body) => f.debug_tuple("CappedBody").field(body).finish(),
            Capped::Watched(body) => f.debug_tuple("CappedBody").field(body).finish(),
            Capped::Rejection(text) => f.debug_tuple("CappedBody").field(text).finish(),
            Capped::Ended => f.write_str("CappedBody"),
        }
    }
}
