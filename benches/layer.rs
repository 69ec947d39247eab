//! What the layer adds to a request: beside a bare service and tower's own concurrency limit, which
//! counts in this process alone, and on a whole request over a loopback socket.
//!
//! `cargo bench --bench layer`; the store is that in memory, so it is the layer and the driver that
//! are measured.

#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tower::limit::ConcurrencyLimitLayer;
use tower::{Layer, Service, ServiceExt, service_fn};
use zset_semaphore::tower::{Header, Keyed, ZSetSemaphoreLayer};
use zset_semaphore::{Client, ZSetSemaphore};

const LIMIT: u32 = 64;

fn semaphore() -> ZSetSemaphore {
    Client::in_memory().semaphore("bench", LIMIT).build().unwrap()
}

fn inner() -> impl Service<
    Request<Full<Bytes>>,
    Response = Response<Full<Bytes>>,
    Error = Infallible,
    Future = impl Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send,
> + Clone {
    service_fn(|_: Request<Full<Bytes>>| async {
        Ok::<_, Infallible>(Response::new(Full::from("token")))
    })
}

/// One request after the other, each with its body read to the end.
fn requests<S, B>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    runtime: &Runtime,
    name: &str,
    service: S,
) where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error: std::fmt::Debug> + Clone,
    B: http_body::Body<Error: std::fmt::Debug>,
{
    group.bench_function(name, |bencher| {
        bencher.to_async(runtime).iter(async || {
            let request = Request::new(Full::from("question"));
            let response = service.clone().oneshot(request).await.unwrap();
            response.into_body().collect().await.unwrap().to_bytes()
        });
    });
}

fn added(criterion: &mut Criterion) {
    for (flavour, runtime) in [
        ("current thread", tokio::runtime::Builder::new_current_thread().enable_all().build()),
        ("multi thread", tokio::runtime::Builder::new_multi_thread().enable_all().build()),
    ] {
        let runtime = runtime.unwrap();
        let _inside = runtime.enter();
        let mut group = criterion.benchmark_group(format!("a request, {flavour}"));
        requests(&mut group, &runtime, "bare", inner());
        let tower = ConcurrencyLimitLayer::new(LIMIT as usize).layer(inner());
        requests(&mut group, &runtime, "tower's ConcurrencyLimit", tower);
        let plain = ZSetSemaphoreLayer::new(semaphore());
        requests(&mut group, &runtime, "ours", plain.clone().layer(inner()));
        group.finish();
    }
}

fn features(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let mut group = criterion.benchmark_group("a request, by what the layer does");
    let plain = ZSetSemaphoreLayer::new(semaphore());
    requests(&mut group, &runtime, "hold the body", plain.clone().layer(inner()));
    let answering = service_fn(|_: Request<zset_semaphore::tower::ReadAhead<Full<Bytes>>>| async {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("token")))
    });
    requests(&mut group, &runtime, "answer rejections", plain.answer().layer(answering));
    let key = Header::new(http::HeaderName::from_static("x-tenant"));
    let keyed = Keyed::builder(&Client::in_memory(), "bench", key, LIMIT).build().unwrap();
    requests(&mut group, &runtime, "by key", ZSetSemaphoreLayer::keyed(keyed).layer(inner()));
    group.finish();
}

async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

async fn connect(address: SocketAddr) -> SendRequest<Empty<Bytes>> {
    let socket = TcpStream::connect(address).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let (sender, connection) = http1::handshake(TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn one_request(sender: &mut SendRequest<Empty<Bytes>>) {
    sender.ready().await.unwrap();
    let request = Request::get("/").header("host", "here").body(Empty::new()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    response.into_body().collect().await.unwrap();
}

/// The client has a thread of its own, as if it were another process. Both servers are asked in every
/// iteration, so that both see the same neighbours.
fn loopback(criterion: &mut Criterion) {
    let servers = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let client = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let app = || Router::new().route("/", get(|| async { Body::from("token") }));
    let (bare, capped) = servers.block_on(async {
        let capped = app().layer(ZSetSemaphoreLayer::new(semaphore()).answer());
        (serve(app()).await, serve(capped).await)
    });
    let mut group = criterion.benchmark_group("a request over loopback");
    for (name, measured, other) in [("bare", bare, capped), ("capped", capped, bare)] {
        group.bench_function(name, |bencher| {
            bencher.to_async(&client).iter_custom(async |iterations| {
                let (mut measured, mut other) = (connect(measured).await, connect(other).await);
                let mut took = Duration::ZERO;
                for _ in 0..iterations {
                    one_request(&mut other).await;
                    took += timed(&mut measured).await;
                }
                took
            });
        });
    }
    group.finish();
    client.block_on(medians(bare, capped));
}

async fn timed(sender: &mut SendRequest<Empty<Bytes>>) -> Duration {
    let start = Instant::now();
    one_request(sender).await;
    start.elapsed()
}

/// The means above are at the mercy of threads that fell asleep; medians of requests that take turns
/// are less so.
async fn medians(bare: SocketAddr, capped: SocketAddr) {
    const ROUNDS: usize = 7;
    const REQUESTS: usize = 4000;
    let (mut bare, mut capped) = (connect(bare).await, connect(capped).await);
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let (mut bares, mut cappeds) = (Vec::new(), Vec::new());
        for _ in 0..REQUESTS {
            bares.push(timed(&mut bare).await);
            cappeds.push(timed(&mut capped).await);
        }
        let [bare, capped] = [bares, cappeds].map(|mut times| {
            times.sort_unstable();
            times[REQUESTS / 2].as_secs_f64() * 1e6
        });
        println!("  medians of {REQUESTS}: bare {bare:.1} us, capped {capped:.1} us");
        ratios.push(capped / bare);
    }
    ratios.sort_by(f64::total_cmp);
    let (low, median, high) = (ratios[0], ratios[ROUNDS / 2], ratios[ROUNDS - 1]);
    println!("  capped / bare, {ROUNDS} rounds: {median:.3} ({low:.3}..{high:.3}), asked <= 1.05");
}

criterion_group! {
    name = layer;
    config = Criterion::default().sample_size(60).measurement_time(Duration::from_secs(4));
    targets = added, features, loopback
}
criterion_main!(layer);
