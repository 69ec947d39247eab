//! The request body that is read ahead while its request is queued.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes};
use http_body::{Body, Frame, SizeHint};

/// Frames with less data than this are copied into blocks of at most this size, in bytes. Otherwise a frame
/// of one byte would cost a hundred bytes, and might keep alive the whole buffer that it was read into.
const BLOCK: usize = 16 * 1024;

/// A request body that may have been read ahead while its request was queued. Its reader gets the same data
/// as from `B`.
///
/// Over HTTP/1.1 a server notices only by reading that its client has gone, and hyper reads no further than
/// a body that nobody reads. So while a request is queued, its body is read into memory, up to a bound. All
/// data and trailers are passed on; small frames may be joined. If the body fails while the request is
/// queued, the request leaves the queue ([`Reason::RequestBody`]). A body fails if the client disconnects
/// before its end.
///
/// A request with `Expect: 100-continue` is not read ahead. Its client waits for `100 Continue` before it
/// sends the body, and a read would make the server send that before the request is admitted.
///
/// [`Reason::RequestBody`]: crate::tower::Reason::RequestBody
pub struct ReadAhead<B: Body> {
    read: VecDeque<Read<B>>,
    /// Bytes of data in `read`.
    bytes: u64,
    /// Bytes of memory that `read` takes.
    kept: u64,
    /// Reading stops once `kept` has reached this. The last frame may exceed it.
    bound: u64,
    /// The body has ended: `read` has all of it.
    ended: bool,
    /// Boxed, since a request moves after its body was polled.
    body: Pin<Box<B>>,
}

enum Read<B: Body> {
    /// Small frames of data, joined.
    Block(Vec<u8>),
    Frame(Result<Frame<B::Data>, B::Error>),
}

impl<B: Body> ReadAhead<B> {
    pub(crate) fn new(body: B, bound: u64) -> Self {
        Self { read: VecDeque::new(), bytes: 0, kept: 0, bound, ended: false, body: Box::pin(body) }
    }

    /// Reads all frames that are available, up to the bound. Ready once the body has failed.
    pub(crate) fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        /// After this many frames the task yields to others.
        const AT_ONCE: usize = 256;
        for looks in 1.. {
            if self.ended || self.kept >= self.bound {
                break;
            }
            match self.body.as_mut().poll_frame(cx) {
                Poll::Pending => break,
                Poll::Ready(None) => self.ended = true,
                Poll::Ready(Some(frame)) => self.keep(frame),
            }
            if looks == AT_ONCE {
                cx.waker().wake_by_ref();
                break;
            }
        }
        match self.read.back() {
            Some(Read::Frame(Err(_))) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }

    fn keep(&mut self, frame: Result<Frame<B::Data>, B::Error>) {
        let bytes = bytes_of(&frame);
        self.bytes += bytes as u64;
        self.ended = frame.is_err();
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) if bytes < BLOCK => self.gather(data),
            Ok(Ok(data)) => self.push(Read::Frame(Ok(Frame::data(data)))),
            Ok(Err(other)) => self.push(Read::Frame(Ok(other))),
            Err(error) => self.push(Read::Frame(Err(error))),
        }
    }

    /// Copies the data to the end of the last block, if it fits there. Frames without data are left out.
    fn gather(&mut self, data: B::Data) {
        let more = data.remaining();
        match self.read.back_mut() {
            Some(Read::Block(block)) if block.len() + more <= BLOCK => {
                let before = block.capacity();
                if before - block.len() < more {
                    let room = (2 * before).clamp(block.len() + more, BLOCK);
                    block.reserve_exact(room - block.len());
                }
                block.put(data);
                self.kept += (block.capacity() - before) as u64;
            }
            _ if more > 0 => {
                let mut block = Vec::with_capacity(more);
                block.put(data);
                self.push(Read::Block(block));
            }
            _ => {}
        }
    }

    fn push(&mut self, read: Read<B>) {
        self.kept += read.kept();
        self.read.push_back(read);
    }

    /// Returns the body behind what was read ahead.
    pub fn get_ref(&self) -> &B {
        &self.body
    }
}

impl<B: Body> Read<B> {
    /// Returns how many bytes of memory it takes. A frame that is not joined counts with its data only,
    /// because it nearly fills its buffer.
    fn kept(&self) -> u64 {
        let data = match self {
            Self::Block(block) => block.capacity(),
            Self::Frame(frame) => bytes_of(frame),
        };
        (size_of::<Self>() + data) as u64
    }

    fn into_frame(self) -> Result<Frame<B::Data>, B::Error>
    where
        B::Data: From<Bytes>,
    {
        match self {
            Self::Block(block) => Ok(Frame::data(Bytes::from(block).into())),
            Self::Frame(frame) => frame,
        }
    }
}

impl<B: Body<Data: From<Bytes>>> Body for ReadAhead<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if let Some(read) = self.read.pop_front() {
            self.kept -= read.kept();
            let frame = read.into_frame();
            self.bytes -= bytes_of(&frame) as u64;
            return Poll::Ready(Some(frame));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let frame = ready!(self.body.as_mut().poll_frame(cx));
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

/// Returns how many bytes of data a frame carries.
fn bytes_of<D: Buf, E>(frame: &Result<Frame<D>, E>) -> usize {
    frame.as_ref().ok().and_then(Frame::data_ref).map_or(0, Buf::remaining)
}

// Only the body is pinned, in its box.
impl<B: Body> Unpin for ReadAhead<B> {}

impl<B: Body> fmt::Debug for ReadAhead<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadAhead")
            .field("bytes", &self.bytes)
            .field("kept", &self.kept)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use std::task::Waker;

    const BOUND: u64 = 256 * 1024;

    /// A body without end, in frames of this many bytes.
    struct Chunks(usize);

    impl Body for Chunks {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(Some(Ok(Frame::data(vec![7; self.0].into()))))
        }
    }

    /// The memory in use: the capacity of the blocks, and of the queue.
    fn measured(ahead: &ReadAhead<Chunks>) -> usize {
        let data = ahead.read.iter().map(|read| match read {
            Read::Block(block) => block.capacity(),
            Read::Frame(frame) => bytes_of(frame),
        });
        data.sum::<usize>() + ahead.read.capacity() * size_of::<Read<Chunks>>()
    }

    #[test]
    fn the_memory_is_bounded_however_small_the_frames_are() {
        for size in [1, 2, 100, 1000, BLOCK - 1, BLOCK, BLOCK + 1, 100_000] {
            let mut ahead = ReadAhead::new(Chunks(size), BOUND);
            let mut last = u64::MAX;
            while last != ahead.bytes {
                last = ahead.bytes;
                assert!(ahead.poll_ahead(&mut Context::from_waker(Waker::noop())).is_pending());
            }
            let (most, kept) = (BOUND as usize + size.max(BLOCK), measured(&ahead));
            assert!(kept <= most + 4096, "{kept} bytes for {} of {size} each", ahead.bytes);
            assert!(ahead.bytes >= BOUND * 9 / 10, "{} bytes of {size} each", ahead.bytes);
        }
    }

    #[test]
    fn frames_without_data_take_no_memory_and_other_tasks_run() {
        let mut ahead = ReadAhead::new(Chunks(0), BOUND);
        for _ in 0..10 {
            assert!(ahead.poll_ahead(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        assert_eq!((measured(&ahead), ahead.kept), (0, 0));
    }
}
