//! How much of a request body is read while the request is queued, and how much memory it takes.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};

use ::http::{Request, Response};
use axum::Router;
use axum::routing::post;
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::{Layer, ServiceExt, service_fn};
use zset_semaphore::tower::{ReadAhead, ZSetSemaphoreLayer};

use crate::probe::{idle, semaphore, settled};
use crate::web::Web;
use test_support::wait::{PATIENCE, within};

/// A body of one-byte chunks, each in a buffer of its own, as a client may send them.
#[derive(Clone)]
struct Crumbs {
    left: usize,
    /// How many of the buffers are alive.
    buffers: Arc<AtomicUsize>,
}

struct Buffer(Arc<AtomicUsize>);

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        b"x"
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Body for Crumbs {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        self.buffers.fetch_add(1, SeqCst);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(Buffer(Arc::clone(&self.buffers)))))))
    }
}

#[tokio::test(start_paused = true)]
async fn small_chunks_are_put_together_and_their_buffers_are_let_go() {
    const SIZE: usize = 25_000;
    let chats = semaphore(1);
    let held = chats.acquire(1).await.unwrap();
    let inner = service_fn(async |request: Request<ReadAhead<Crumbs>>| {
        let left = request.body().get_ref().left;
        let read = request.into_body().collect().await?.to_bytes();
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(format!("{} of {left}", read.len()))))
    });
    let service = ZSetSemaphoreLayer::new(chats.clone()).answer().layer(inner);
    let buffers = Arc::new(AtomicUsize::new(0));
    let body = Crumbs { left: SIZE, buffers: Arc::clone(&buffers) };
    let queued = tokio::spawn(service.oneshot(Request::new(body)));
    settled(&chats, 1, 1).await;
    tokio::time::sleep(PATIENCE).await; // of paused time: all that can run has run
    assert_eq!(buffers.load(SeqCst), 0, "buffers kept");
    drop(held);
    let response = queued.await.unwrap().unwrap();
    let said = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(said, "25000 of 0", "all of it was read ahead");
    idle(&chats).await;
}

/// RFC 9110, 10.1.1: a client that gets a final status does not send its body.
#[tokio::test]
async fn a_client_that_asks_first_and_is_not_let_in_is_not_told_to_send_its_body() {
    // Of several such headers hyper heeds the last.
    for expect in ["100-continue", "100-Continue", "200-ok\r\nexpect: 100-continue"] {
        let chats = semaphore(1);
        let layer = ZSetSemaphoreLayer::new(chats.clone()).answer();
        let app = Router::new().route("/", post(async |body: Bytes| body)).layer(layer);
        let server = Web::serve(app).await;
        let _held = chats.acquire(1).await.unwrap();
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        let head = format!(
            "POST / HTTP/1.1\r\nhost: here\r\nexpect: {expect}\r\ncontent-length: 5\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        settled(&chats, 1, 1).await;
        chats.close();
        let mut said = [0; 13];
        within(PATIENCE, socket.read_exact(&mut said)).await.unwrap();
        assert_eq!(&said, b"HTTP/1.1 503 ", "{}", String::from_utf8_lossy(&said));
    }
}
