//! What the layer adds to a request, where the permit comes from Redis.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::oneshot;

use crate::cores::{Cores, Placement};
use crate::layer_child::ROLE;
use crate::report::{Must, Table, say, title};
use closed_loop::measure::{Rounds, Times};
use test_support::processes::Child;

const ROUNDS: usize = 9;
/// Each asks for one request of each kind, in either order.
const STEPS: usize = 1500;
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy)]
enum Kind {
    Plain,
    Layer,
    Bare,
}

impl Kind {
    /// Both orders in turn: each kind then follows each other one as often.
    const ORDERS: [[Self; 3]; 2] =
        [[Self::Plain, Self::Layer, Self::Bare], [Self::Plain, Self::Bare, Self::Layer]];

    fn path(self) -> &'static str {
        match self {
            Self::Plain => "/plain",
            Self::Layer => "/layer",
            Self::Bare => "/bare",
        }
    }
}

pub(crate) async fn run(cores: &Cores) -> Vec<Must> {
    title(
        "layer",
        &format!(
            "Requests of one client over one keep-alive connection (HTTP/1.1 on loopback) to an axum server in
             a process of its own. {}.
             With the layer: acquire from Redis, answer, release after the body. Without: the same handler.
             Bare: the handler times one EVALSHA of \"return 1\" by redis-rs in place of the layer's calls.
             {ROUNDS} rounds of {STEPS} requests of each kind, which take turns; medians (lowest..highest).
             Added: p50 with the layer, less p50 without it. The ratio: added / p50 of the bare call.",
            cores.explain(Placement::Unpinned),
        ),
    );
    let server = cores.server(Placement::Unpinned).start().await;
    let mut child = Child::spawn(ROLE, &[("URL", server.url())]);
    let address = child.expect_line("@ready", PATIENCE).await.parse().expect("an address");
    let figures = on_a_thread(move || measure(address)).await;
    figures.print();
    let ratio = figures.added.over(&figures.bare).median();
    let what = "layer: p50 that it adds to a request, unpinned / p50 of a bare call";
    vec![Must::at_most(1.4, what, ratio, "")]
}

/// The client has a thread of its own, so that its connection's task wakes no other.
async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, result) = oneshot::channel();
    thread::spawn(move || {
        let _ = sender.send(work()); // the receiver waits
    });
    result.await.expect("the client does not panic")
}

fn measure(address: SocketAddr) -> Figures {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut client = connect(address).await;
        let mut figures = Figures::default();
        for _ in 0..ROUNDS {
            figures.round(&mut client).await;
        }
        figures
    })
}

async fn connect(address: SocketAddr) -> SendRequest<Empty<Bytes>> {
    let socket = TcpStream::connect(address).await.expect("connecting");
    socket.set_nodelay(true).expect("a fresh socket");
    let (sender, connection) = http1::handshake(TokioIo::new(socket)).await.expect("HTTP/1.1");
    tokio::spawn(connection);
    sender
}

/// How long the request took, and what the server has answered.
async fn ask(client: &mut SendRequest<Empty<Bytes>>, path: &str) -> (u64, Bytes) {
    let start = Instant::now();
    client.ready().await.expect("the server keeps the connection");
    let request = Request::get(path).header("host", "here").body(Empty::new());
    let response = client.send_request(request.expect("a request")).await.expect("a response");
    assert!(response.status().is_success(), "{path}: {}", response.status());
    let body = response.into_body().collect().await.expect("a whole body").to_bytes();
    (u64::try_from(start.elapsed().as_nanos()).expect("milliseconds"), body)
}

/// By round, in microseconds.
#[derive(Default)]
struct Figures {
    plain: Rounds,
    layer: Rounds,
    bare_request: Rounds,
    bare: Rounds,
    added: Rounds,
}

impl Figures {
    async fn round(&mut self, client: &mut SendRequest<Empty<Bytes>>) {
        let (mut plain, mut layer) = (Vec::new(), Vec::new());
        let (mut bare_request, mut bare) = (Vec::new(), Vec::new());
        for order in Kind::ORDERS.into_iter().cycle().take(STEPS) {
            for kind in order {
                let (took, body) = ask(client, kind.path()).await;
                match kind {
                    Kind::Plain => plain.push(took),
                    Kind::Layer => layer.push(took),
                    Kind::Bare => {
                        bare_request.push(took);
                        let nanos = std::str::from_utf8(&body).ok().and_then(|it| it.parse().ok());
                        bare.push(nanos.expect("nanoseconds"));
                    }
                }
            }
        }
        let [plain, layer, bare_request, bare] =
            [plain, layer, bare_request, bare].map(|nanos| Times::new(nanos).p50());
        self.plain.push(plain);
        self.layer.push(layer);
        self.bare_request.push(bare_request);
        self.bare.push(bare);
        self.added.push(layer - plain);
    }

    fn print(&self) {
        let mut table = Table::new(&["p50 us, unpinned", "", "", "/ the bare call", ""]);
        for (label, figure) in [
            ("request without the layer", &self.plain),
            ("request with the layer", &self.layer),
            ("request that makes one bare call", &self.bare_request),
            ("the bare call, timed in its handler", &self.bare),
            ("added by the layer", &self.added),
        ] {
            let ratio = figure.over(&self.bare);
            table.row(
                label,
                &[
                    format!("{:.1}", figure.median()),
                    figure.spread(1),
                    format!("{:.2}", ratio.median()),
                    ratio.spread(2),
                ],
            );
        }
        table.print();
        let in_place = self.added.over(&self.bare_request.minus(&self.plain));
        say(format_args!(
            "\n  Added by the layer / added by one bare call: {:.2} ({})",
            in_place.median(),
            in_place.spread(2)
        ));
    }
}
