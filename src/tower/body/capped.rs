//! The response body of the inner service with its permit, or a rejection.

use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;

use super::end::EndWhen;
use super::permit::PermitBody;
use super::watched::WatchedBody;
use crate::tower::admission::permit::RequestPermit;

/// A response body: either the body of the inner service with its permit, or the text of a rejection. It is
/// the body of layers that answer rejections, and of layers that end bodies whose permit was lost or whose
/// reader stalls.
///
/// The data of the inner body must be made of [`Bytes`], and its error must be boxable. It must be
/// `Send + 'static`, since a task ends it when nobody polls it.
#[pin_project]
#[clippy::has_significant_drop]
pub struct CappedBody<B> {
    #[pin]
    state: Capped<B>,
}

#[pin_project(project = CappedProj)]
enum Capped<B> {
    /// A body that only its reader can end early.
    Held(#[pin] PermitBody<B>),
    Watched(WatchedBody<B>),
    Rejection(Option<Bytes>),
    Ended,
}

impl<B: Body + Send + 'static> CappedBody<B> {
    pub(crate) fn new(body: B, permit: RequestPermit, end_when: EndWhen) -> Self {
        let body = PermitBody::new(body, permit);
        let state = match end_when.concerns(&body) {
            true => Capped::Watched(WatchedBody::new(body, end_when)),
            false => Capped::Held(body),
        };
        Self { state }
    }

    /// Ends the body with `event`, not with an error, when its permit is lost.
    pub(crate) fn with_last_event(mut self, event: Bytes) -> Self {
        if let Capped::Watched(watched) = &mut self.state {
            watched.end_with(event);
        }
        self
    }
}

impl<B> CappedBody<B> {
    /// Makes the body of the answer to a rejected request. It holds nothing.
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

/// Makes an empty body that holds nothing, for layers that respond themselves, as for CORS and timeouts.
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
