//! One connection through a [`FaultProxy`](crate::fault_proxy::FaultProxy): two directions, a gate in each.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// Bytes that have passed a proxy since it was started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    pub connections: usize,
    pub requests_received: usize,
    pub requests_forwarded: usize,
    pub replies_received: usize,
    pub replies_forwarded: usize,
    pub replies_lost: usize,
}

/// What all links of one proxy share.
pub(super) struct Plumbing {
    pub upstream: Mutex<SocketAddr>,
    pub traffic: watch::Sender<Traffic>,
    pub lose_next_reply: AtomicBool,
    /// By how many microseconds replies come late.
    pub reply_delay: AtomicU64,
    pub without_resp3: AtomicBool,
}

impl Plumbing {
    fn upstream(&self) -> SocketAddr {
        *self.upstream.lock().expect("nobody panics while it is locked")
    }
}

/// Bytes pass while nothing holds them. The two reasons are apart, so that lifting one leaves the other.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hold {
    pub switched: bool,
    pub frozen: bool,
}

pub(super) struct Gate(watch::Sender<Hold>);

impl Gate {
    pub fn new(switched: bool) -> Self {
        let frozen = false;
        Self(watch::Sender::new(Hold { switched, frozen }))
    }

    pub fn switch(&self, held: bool) {
        self.0.send_modify(|hold| hold.switched = held);
    }

    pub fn freeze(&self, frozen: bool) {
        self.0.send_modify(|hold| hold.frozen = frozen);
    }

    async fn opened(&self) {
        let open = |hold: &Hold| !hold.switched && !hold.frozen;
        // The sender is `self`: it cannot be gone.
        let _ = self.0.subscribe().wait_for(open).await;
    }
}

pub(super) struct Link {
    pub requests: Gate,
    pub replies: Gate,
    pub subscribed: AtomicBool,
}

impl Link {
    /// Carries bytes until both directions have ended.
    ///
    /// Each direction reads at once whatever comes and writes when its gate is open. So what a client sent before
    /// it closed its socket is safe here, and still arrives when the gate opens; its end of stream, too, waits there.
    pub async fn carry(&self, client: TcpStream, plumbing: &Plumbing) {
        let _ = client.set_nodelay(true);
        let (client_reader, client_writer) = client.into_split();
        let (requests, held_requests) = mpsc::unbounded_channel();

        let inwards = self.read_requests(client_reader, requests, plumbing);
        let onwards = async {
            // A held connection must look alive whether or not the upstream is.
            self.requests.opened().await;
            let Ok(upstream) = TcpStream::connect(plumbing.upstream()).await else {
                return;
            };
            let _ = upstream.set_nodelay(true);
            let (upstream_reader, upstream_writer) = upstream.into_split();
            let (replies, held_replies) = mpsc::unbounded_channel();
            tokio::join!(
                self.write_requests(held_requests, upstream_writer, plumbing),
                read_replies(upstream_reader, replies, plumbing),
                self.write_replies(held_replies, client_writer, plumbing),
            );
        };
        // Once nothing can go upstream any more, nobody needs to read from the client.
        tokio::select! {
            () = onwards => {}
            () = async { inwards.await; std::future::pending().await } => {}
        }
    }

    async fn read_requests(
        &self,
        mut client: OwnedReadHalf,
        requests: mpsc::UnboundedSender<Vec<u8>>,
        plumbing: &Plumbing,
    ) {
        while let Some(mut chunk) = next_chunk(&mut client).await {
            if plumbing.without_resp3.load(Ordering::Relaxed) {
                spoil_hello(&mut chunk);
            }
            if mentions_subscribe(&chunk) {
                self.subscribed.store(true, Ordering::Relaxed);
            }
            let length = chunk.len();
            if requests.send(chunk).is_err() {
                return;
            }
            plumbing.traffic.send_modify(|t| t.requests_received += length);
        }
    }

    async fn write_requests(
        &self,
        mut requests: mpsc::UnboundedReceiver<Vec<u8>>,
        mut upstream: OwnedWriteHalf,
        plumbing: &Plumbing,
    ) {
        while let Some(chunk) = requests.recv().await {
            // After the chunk is here, never before: a gate closed meanwhile must hold it.
            self.requests.opened().await;
            if upstream.write_all(&chunk).await.is_err() {
                return;
            }
            plumbing.traffic.send_modify(|t| t.requests_forwarded += chunk.len());
        }
        self.requests.opened().await;
    }

    async fn write_replies(
        &self,
        mut replies: mpsc::UnboundedReceiver<(Instant, Vec<u8>)>,
        mut client: OwnedWriteHalf,
        plumbing: &Plumbing,
    ) {
        while let Some((at, chunk)) = replies.recv().await {
            sleep_until(at).await;
            self.replies.opened().await;
            if plumbing.lose_next_reply.swap(false, Ordering::Relaxed) {
                plumbing.traffic.send_modify(|t| t.replies_lost += 1);
                // What follows must not be taken for the lost reply: this client hears nothing any more.
                while replies.recv().await.is_some() {}
                return;
            }
            if client.write_all(&chunk).await.is_err() {
                return;
            }
            plumbing.traffic.send_modify(|t| t.replies_forwarded += chunk.len());
        }
        self.replies.opened().await;
    }
}

async fn read_replies(
    mut upstream: OwnedReadHalf,
    replies: mpsc::UnboundedSender<(Instant, Vec<u8>)>,
    plumbing: &Plumbing,
) {
    while let Some(chunk) = next_chunk(&mut upstream).await {
        plumbing.traffic.send_modify(|t| t.replies_received += chunk.len());
        // A client that is gone does not end this: what the upstream still says must be read, or it would stall.
        let delay = Duration::from_micros(plumbing.reply_delay.load(Ordering::Relaxed));
        let _ = replies.send((Instant::now() + delay, chunk));
    }
}

/// `None` at the end of the stream, however it ended.
async fn next_chunk(stream: &mut OwnedReadHalf) -> Option<Vec<u8>> {
    let mut chunk = vec![0; 16 * 1024];
    let length = stream.read(&mut chunk).await.unwrap_or(0);
    chunk.truncate(length);
    (length > 0).then_some(chunk)
}

/// Commands are small and written at once, so the word is not torn between chunks.
fn mentions_subscribe(chunk: &[u8]) -> bool {
    chunk.windows(b"SUBSCRIBE".len()).any(|window| window.eq_ignore_ascii_case(b"SUBSCRIBE"))
}

/// Makes it a command that no server knows. As with SUBSCRIBE, the word is not torn.
fn spoil_hello(chunk: &mut [u8]) {
    const HELLO: &[u8] = b"HELLO\r\n";
    if let Some(at) = chunk.windows(HELLO.len()).position(|window| window == HELLO) {
        chunk[at..at + 5].copy_from_slice(b"HALLO");
    }
}
