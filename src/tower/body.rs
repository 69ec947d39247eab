//! The body that holds a permit for as long as it streams.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;

use crate::Permit;

/// A response body that gives its permit back when it ends, fails or is dropped; made by
/// [`HoldBody`](super::HoldBody).
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
        permit: Option<Permit>,
    },
    /// With the last size hint of the body.
    Ended(SizeHint),
}

impl<B: Body> PermitBody<B> {
    pub(super) fn new(body: B, permit: Option<Permit>) -> Self {
        let ended = body.is_end_stream().then(|| body.size_hint());
        let streaming = State::Streaming { body, permit };
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

// By hand: bodies need not be `Debug`.
impl<B> fmt::Debug for PermitBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ended, permit) = match &self.state {
            State::Streaming { permit, .. } => (false, permit),
            State::Ended(_) => (true, &None),
        };
        f.debug_struct("PermitBody")
            .field("ended", &ended)
            .field("permit", permit)
            .finish_non_exhaustive()
    }
}
