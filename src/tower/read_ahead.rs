//! The body of a request, read ahead while the request is queued.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};

/// The body of a request that may have been read ahead while it was queued; it is the same as `B`
/// to whoever reads it.
///
/// A server learns over HTTP/1.1 that a client has gone only when it reads on, and hyper does not
/// read past a body that nobody reads. So while a request is queued its body is read, up to a bound,
/// and handed on with all its frames and trailers. If it fails meanwhile, as it does when the client
/// goes away in the midst of it, the request leaves the queue ([`Reason::RequestBody`]).
///
/// [`Reason::RequestBody`]: super::Reason::RequestBody
pub struct ReadAhead<B: Body> {
    read: VecDeque<Result<Frame<B::Data>, B::Error>>,
    /// Bytes of data in `read`.
    bytes: u64,
    /// Nothing comes behind what was read.
    ended: bool,
    body: B,
}

impl<B: Body + Unpin> ReadAhead<B> {
    pub(super) fn new(body: B) -> Self {
        Self { read: VecDeque::new(), bytes: 0, ended: false, body }
    }

    /// Reads what is there, until so many bytes are kept. Ready once the body has failed.
    pub(super) fn poll_ahead(&mut self, cx: &mut Context<'_>, bound: u64) -> Poll<()> {
        /// Empty frames are kept, too: no more of them than this.
        const FRAMES: usize = 4096;
        while !self.ended && self.bytes < bound && self.read.len() < FRAMES {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => break,
                Poll::Ready(None) => self.ended = true,
                Poll::Ready(Some(frame)) => {
                    self.ended = frame.is_err();
                    self.bytes += bytes_of(&frame);
                    self.read.push_back(frame);
                }
            }
        }
        if matches!(self.read.back(), Some(Err(_))) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// What is left of the body behind what was read ahead.
    pub fn get_ref(&self) -> &B {
        &self.body
    }
}

impl<B: Body + Unpin> Body for ReadAhead<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if let Some(frame) = self.read.pop_front() {
            self.bytes -= bytes_of(&frame);
            return Poll::Ready(Some(frame));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.ended = !matches!(frame, Some(Ok(_)));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty() && (self.ended || self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let rest = if self.ended { SizeHint::with_exact(0) } else { self.body.size_hint() };
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(self.bytes));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(self.bytes)) {
            hint.set_upper(upper);
        }
        hint
    }
}

/// How many bytes of data a frame carries.
fn bytes_of<D: Buf, E>(frame: &Result<Frame<D>, E>) -> u64 {
    let data = frame.as_ref().ok().and_then(Frame::data_ref);
    data.map_or(0, |data| data.remaining() as u64)
}

// Nothing of it is pinned but by way of `Unpin` bodies.
impl<B: Body> Unpin for ReadAhead<B> {}

impl<B: Body> fmt::Debug for ReadAhead<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadAhead")
            .field("bytes", &self.bytes)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}
