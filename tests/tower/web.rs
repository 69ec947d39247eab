//! A server of any routes, and clients that speak HTTP/1.1 or HTTP/2 and send bodies by a script.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use ::http::{HeaderMap, Method, Request, Response};
use axum::Router;
use http_body::{Body, Frame, SizeHint};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::sleep;

use test_support::wait::{PATIENCE, POLL_EVERY, eventually, within};

/// Serves both versions of HTTP until it is dropped.
pub struct Web {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Web {
    pub async fn serve(app: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, task }
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Http1,
    Http2,
}

pub const VERSIONS: [Version; 2] = [Version::Http1, Version::Http2];

/// A client with one connection. Dropping it closes the connection at once, whatever goes on in it.
pub struct Client {
    sender: Sender,
    tasks: Tasks,
}

enum Sender {
    Http1(http1::SendRequest<Upload>),
    Http2(http2::SendRequest<Upload>),
}

/// What runs for a connection.
#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<Vec<AbortHandle>>>);

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.lock().unwrap().push(tokio::spawn(future).abort_handle());
    }
}

impl Client {
    pub async fn open(version: Version, server: &Web) -> Self {
        use hyper::rt::Executor;
        let io = TokioIo::new(TcpStream::connect(server.address).await.unwrap());
        let tasks = Tasks::default();
        let sender = match version {
            Version::Http1 => {
                let (sender, connection) = http1::handshake(io).await.unwrap();
                tasks.execute(connection);
                Sender::Http1(sender)
            }
            Version::Http2 => {
                let (sender, connection) = http2::handshake(tasks.clone(), io).await.unwrap();
                tasks.execute(connection);
                Sender::Http2(sender)
            }
        };
        Self { sender, tasks }
    }

    /// Sends a request and waits for the head of the answer.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        upload: Upload,
    ) -> hyper::Result<Response<Incoming>> {
        self.send_with(method, path, &[], upload).await
    }

    /// Sends a request with headers, as [`send`](Self::send) does.
    pub async fn send_with(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        upload: Upload,
    ) -> hyper::Result<Response<Incoming>> {
        let mut request = Request::builder().method(method).header("trailer", "x-sum");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                request = request.uri(path).header("host", "here");
                sender.send_request(request.body(upload).unwrap()).await
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                request = request.uri(format!("http://here{path}"));
                sender.send_request(request.body(upload).unwrap()).await
            }
        }
    }

    pub async fn get(&mut self, path: &str) -> Response<Incoming> {
        self.send(Method::GET, path, Upload::none()).await.unwrap()
    }

    pub async fn post(&mut self, path: &str, upload: Upload) -> Response<Incoming> {
        self.send(Method::POST, path, upload).await.unwrap()
    }

    /// Posts in the background. Aborting the task closes the connection.
    pub fn posting(
        self,
        path: &'static str,
        upload: Upload,
    ) -> JoinHandle<(Self, Response<Incoming>)> {
        self.sending(Method::POST, path, upload)
    }

    /// Sends in the background by any method, as [`posting`](Self::posting) does.
    pub fn sending(
        mut self,
        method: Method,
        path: &'static str,
        upload: Upload,
    ) -> JoinHandle<(Self, Response<Incoming>)> {
        tokio::spawn(async move {
            let response = self.send(method, path, upload).await.unwrap();
            (self, response)
        })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        for task in self.tasks.0.lock().unwrap().drain(..) {
            task.abort();
        }
    }
}

/// A body of this many bytes, no two parts of which are the same.
pub fn bytes(n: usize) -> Bytes {
    (0..n).map(|at| (at ^ at >> 8 ^ at >> 16) as u8).collect()
}

/// The body of a request.
pub struct Upload {
    rest: Bytes,
    announced: Option<u64>,
    trailers: Option<HeaderMap>,
    stalls: bool,
    sent: Sent,
}

/// How many bytes of a body the connection has taken.
#[derive(Clone, Default)]
pub struct Sent(Arc<AtomicUsize>);

impl Sent {
    pub fn bytes(&self) -> usize {
        self.0.load(SeqCst)
    }

    pub fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes, SeqCst);
    }

    /// Waits until this many bytes are sent.
    #[track_caller]
    pub fn reaches(&self, bytes: usize) -> impl Future<Output = ()> {
        within(PATIENCE, async move {
            while self.bytes() < bytes {
                sleep(POLL_EVERY).await;
            }
        })
    }

    /// Waits until many looks in a row find nothing more, and returns how many bytes came.
    pub async fn stalls(&self) -> usize {
        let (mut last, mut looks) = (0, 0);
        eventually("the flow stops", PATIENCE, async || {
            let now = self.bytes();
            looks = if now == last { looks + 1 } else { 0 };
            last = now;
            looks == 50
        })
        .await;
        last
    }
}

impl Upload {
    pub fn none() -> Self {
        Self::whole(Bytes::new())
    }

    /// With a `Content-Length`.
    pub fn whole(bytes: Bytes) -> Self {
        Self { announced: Some(bytes.len() as u64), ..Self::chunked(bytes) }
    }

    /// With an unknown length.
    pub fn chunked(rest: Bytes) -> Self {
        Self { rest, announced: None, trailers: None, stalls: false, sent: Sent::default() }
    }

    /// Sends the first `n` bytes, and never the rest.
    pub fn stalling_after(mut self, n: usize) -> Self {
        self.rest.truncate(n);
        self.stalls = true;
        self
    }

    /// Ends with these trailers.
    pub fn trailed_by(mut self, trailers: HeaderMap) -> Self {
        self.trailers = Some(trailers);
        self
    }

    pub fn sent(&self) -> Sent {
        self.sent.clone()
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.rest.is_empty() {
            return match self.trailers.take() {
                _ if self.stalls => Poll::Pending,
                Some(trailers) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                None => Poll::Ready(None),
            };
        }
        let frame = self.rest.len().min(10_000);
        let data = self.rest.split_to(frame);
        self.sent.add(data.len());
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.trailers.is_none() && !self.stalls
    }

    fn size_hint(&self) -> SizeHint {
        self.announced.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
