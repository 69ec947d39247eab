//! The response body that holds a permit until it ends.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;

use crate::tower::admission::permit::RequestPermit;

/// A response body that releases its permit when it ends, fails or is dropped; made by
/// [`HoldBody`](crate::tower::HoldBody).
///
/// Frames, errors, [`size_hint`](Body::size_hint) and [`is_end_stream`](Body::is_end_stream) are those of
/// `B`. Once `B` says that it is at its end, the body is dropped, and then the permit. This does not wait
/// for another poll. An empty body is at its end from the start.
#[pin_project]
#[clippy::has_significant_drop]
pub struct PermitBody<B> {
    #[pin]
    state: State<B>,
}

#[pin_project(project = StateProj)]
enum State<B> {
    Streaming {
        #[pin]
        body: B,
        // The last field, so that the body is dropped before it.
        permit: RequestPermit,
    },
    /// Keeps the last size hint of the body.
    Ended(SizeHint),
}

impl<B> PermitBody<B> {
    /// Returns the permit; `None` once the body has ended.
    pub(crate) fn permit(&self) -> Option<&RequestPermit> {
        match &self.state {
            State::Streaming { permit, .. } => Some(permit),
            State::Ended(_) => None,
        }
    }
}

impl<B: Body> PermitBody<B> {
    pub(crate) fn new(body: B, permit: RequestPermit) -> Self {
        let ended = body.is_end_stream().then(|| body.size_hint());
        let streaming = State::Streaming { body, permit };
        // If the body has ended, it is dropped here, and then the permit.
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

/// Makes an empty body that holds nothing, for layers that respond themselves, as for CORS.
impl<B> Default for PermitBody<B> {
    fn default() -> Self {
        Self { state: State::Ended(SizeHint::with_exact(0)) }
    }
}

// By hand: bodies need not be `Debug`.
impl<B> fmt::Debug for PermitBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PermitBody")
            .field("ended", &self.permit().is_none())
            .field("permit", &self.permit())
            .finish_non_exhaustive()
    }
}
