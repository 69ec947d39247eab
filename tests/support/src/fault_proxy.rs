//! A TCP proxy that breaks a network on demand: bytes late, lost, stuck, or connections gone.
//!
//! Every switch applies to present connections and to new ones, unless it says otherwise. A switch takes effect on
//! all that reaches the proxy after the call. Holds add up; [`FaultProxy::pass`] lifts them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::timeout;

pub use crate::fault_link::Traffic;
use crate::fault_link::{Gate, Link, Plumbing};
use crate::wait::PATIENCE;

/// A proxy in front of one address, on the runtime that started it. Dropping it closes all its connections.
pub struct FaultProxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    plumbing: Plumbing,
    switches: Mutex<Switches>,
}

#[derive(Default)]
struct Switches {
    hold_requests: bool,
    hold_replies: bool,
    refuse: bool,
    links: Vec<(Arc<Link>, AbortHandle)>,
}

impl FaultProxy {
    pub async fn start(upstream: SocketAddr) -> Self {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("listening on a free port");
        let addr = listener.local_addr().expect("a listener has an address");
        let shared = Arc::new(Shared {
            plumbing: Plumbing {
                upstream: Mutex::new(upstream),
                traffic: watch::Sender::new(Traffic::default()),
                lose_next_reply: AtomicBool::new(false),
                reply_delay: AtomicU64::new(0),
                without_resp3: AtomicBool::new(false),
            },
            switches: Mutex::default(),
        });
        let accepting = tokio::spawn(accept_all(listener, Arc::clone(&shared)));
        Self { addr, shared, accepting }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.addr)
    }

    /// Lets everything pass, beginning with the bytes that were held.
    pub fn pass(&self) {
        self.hold(false, false);
    }

    /// Nothing moves in either direction, while every socket stays open and new ones are accepted.
    pub fn black_hole(&self) {
        self.hold(true, true);
    }

    /// Holds what clients send.
    pub fn hold_requests(&self) {
        let hold_replies = self.switches().hold_replies;
        self.hold(true, hold_replies);
    }

    /// Holds what the server sends: requests are executed, and nobody hears of it.
    pub fn hold_replies(&self) {
        let hold_requests = self.switches().hold_requests;
        self.hold(hold_requests, true);
    }

    /// Everything that the server sends from now on comes so much later.
    pub fn delay_replies(&self, delay: Duration) {
        let micros = u64::try_from(delay.as_micros()).expect("a delay for a test");
        self.shared.plumbing.reply_delay.store(micros, Ordering::Relaxed);
    }

    /// Holds what the server sends on those present connections that have subscribed to something.
    pub fn hold_wake_ups(&self) {
        for (link, _) in &self.switches().links {
            if link.subscribed.load(Ordering::Relaxed) {
                link.replies.switch(true);
            }
        }
    }

    /// Drops the next bytes that the server sends, and all that it sends on that connection later.
    ///
    /// What comes later would else be read as the answer that was lost. Requests still pass there. The next bytes are
    /// those of any connection: a handshake, if one is about to be made.
    pub fn lose_next_reply(&self) {
        self.shared.plumbing.lose_next_reply.store(true, Ordering::Relaxed);
    }

    /// From now on the server seems not to know HELLO: who connects must speak RESP2.
    pub fn without_resp3(&self) {
        self.shared.plumbing.without_resp3.store(true, Ordering::Relaxed);
    }

    /// Holds both directions of the present connections, while new ones pass.
    ///
    /// A request sent into one of them runs once they are released, even if its sender has closed the socket by then.
    /// This hold is apart from the others: [`pass`](Self::pass) does not lift it.
    pub fn freeze_existing(&self) -> FrozenConnections {
        let switches = self.switches();
        let links: Vec<_> = switches.links.iter().map(|(link, _)| Arc::clone(link)).collect();
        for link in &links {
            link.requests.freeze(true);
            link.replies.freeze(true);
        }
        FrozenConnections { links }
    }

    /// Leads new connections to another server.
    pub fn lead_to(&self, upstream: SocketAddr) {
        *self.shared.plumbing.upstream.lock().expect("nobody panics while it is locked") = upstream;
    }

    /// Closes all present connections; what they held is lost.
    pub fn cut(&self) {
        for (_, task) in self.switches().links.drain(..) {
            task.abort();
        }
    }

    /// Whether new connections are closed as soon as they are made.
    pub fn refuse(&self, refuse: bool) {
        self.switches().refuse = refuse;
    }

    /// What has come and gone so far.
    pub fn traffic(&self) -> Traffic {
        *self.shared.plumbing.traffic.borrow()
    }

    /// Connections accepted so far, refused ones included.
    pub fn connections_total(&self) -> usize {
        self.traffic().connections
    }

    /// Bytes forwarded from clients to the server so far.
    pub fn bytes_up(&self) -> usize {
        self.traffic().requests_forwarded
    }

    /// Bytes forwarded from the server to clients so far.
    pub fn bytes_down(&self) -> usize {
        self.traffic().replies_forwarded
    }

    /// Waits until so many connections have been accepted.
    pub async fn wait_for_connections(&self, total: usize) {
        self.wait_for("connections", |traffic| traffic.connections >= total).await;
    }

    /// Waits until the traffic meets `condition`; panics naming `what` if it does not in 10 s.
    pub async fn wait_for(&self, what: &str, condition: impl Fn(&Traffic) -> bool) {
        let mut traffic = self.shared.plumbing.traffic.subscribe();
        if timeout(PATIENCE, traffic.wait_for(condition)).await.is_err() {
            panic!("waited {PATIENCE:?} for {what}; the traffic is {:?}", self.traffic());
        }
    }

    fn hold(&self, requests: bool, replies: bool) {
        let mut switches = self.switches();
        switches.hold_requests = requests;
        switches.hold_replies = replies;
        for (link, _) in &switches.links {
            link.requests.switch(requests);
            link.replies.switch(replies);
        }
    }

    fn switches(&self) -> MutexGuard<'_, Switches> {
        self.shared.switches()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.refuse(true);
        self.cut();
    }
}

/// Connections held by [`FaultProxy::freeze_existing`]; dropped, it leaves them held for good.
#[must_use]
pub struct FrozenConnections {
    links: Vec<Arc<Link>>,
}

impl FrozenConnections {
    /// Lets the held bytes go on.
    pub fn release(self) {
        for link in self.links {
            link.requests.freeze(false);
            link.replies.freeze(false);
        }
    }
}

impl Shared {
    fn switches(&self) -> MutexGuard<'_, Switches> {
        // A test that panicked elsewhere must not make the drop of its proxy panic.
        self.switches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_link(self: &Arc<Self>, client: TcpStream) {
        let mut switches = self.switches();
        if !switches.refuse {
            let link = Arc::new(Link {
                requests: Gate::new(switches.hold_requests),
                replies: Gate::new(switches.hold_replies),
                subscribed: AtomicBool::new(false),
            });
            let task = tokio::spawn({
                let (link, shared) = (Arc::clone(&link), Arc::clone(self));
                async move { link.carry(client, &shared.plumbing).await }
            });
            switches.links.retain(|(_, task)| !task.is_finished());
            switches.links.push((link, task.abort_handle()));
        }
        // Counted under the lock: who has seen the connection counted finds it under every switch.
        self.plumbing.traffic.send_modify(|t| t.connections += 1);
    }
}

async fn accept_all(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => shared.open_link(client),
            // This one connection broke while it waited, or the process is out of sockets for the moment.
            Err(_) => tokio::task::yield_now().await,
        }
    }
}
