//! Outgoing calls, never more than N at once, cluster-wide: for a provider that allows no more.
//!
//! ```sh
//! cargo run --features reqwest --example outbound    # a stand-in provider; needs no Redis
//! REDIS_URL=redis://127.0.0.1 cargo run --features reqwest --example outbound    # shares the limit by Redis
//! ```

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::fmt::Display;
use std::io::{Write, stdout};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tower::{Layer, Service, ServiceExt};
use zset_semaphore::tower::{Error as CapError, PermitBody, ZSetSemaphoreLayer};
use zset_semaphore::{Client, MemoryStore};

const HELP: &str = "\
Usage: outbound [OPTION]...

Calls a provider that answers 429 to who calls too often at once: without a cap, then with capped
clients, one of hyper-util and one of reqwest. Ends with a table.

  --provider URL        the provider; without it, a stand-in for each client
  --provider-only ADDR  serve as a stand-in provider: POST /complete, GET /stats
  --allowed N           how many calls at once the stand-in allows [4]
  --limit N             how many calls the cap lets out at once [4]
  --name NAME           processes with the same name share the limit [provider-calls]
  --callers N           how many callers there are [12]
  --calls N             how many calls they make in total [60]
  --help                print this text

With REDIS_URL=redis://[user:password@]host[:port] the count is in Redis, and the limit is that of
all processes together. Without it, the count is in this process.";

/// How long the calls of a process that crashed still count.
const LEASE: Duration = Duration::from_secs(10);

type BoxError = Box<dyn Error + Send + Sync>;
type Result<T, E = BoxError> = std::result::Result<T, E>;

#[tokio::main]
async fn main() -> ExitCode {
    let args = env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned());
    run(args).await.unwrap_or_else(|error| {
        eprintln!("outbound: {error}");
        ExitCode::from(2)
    })
}

async fn run(args: impl Iterator<Item = String>) -> Result<ExitCode> {
    let options = Options::parse(args)?;
    if options.help {
        say(HELP);
        return Ok(ExitCode::SUCCESS);
    } else if let Some(addr) = &options.provider_only {
        let mut background = JoinSet::new();
        let url = start(addr, stand_in(options.allowed), &mut background).await?;
        say(format_args!("listening on {url}"));
        terminated().await;
        return Ok(ExitCode::SUCCESS);
    }
    let client = match env::var_os("REDIS_URL") {
        Some(url) => Client::builder().url(url.to_string_lossy()),
        None => Client::builder().memory(&MemoryStore::new()),
    };
    // The default is 500 ms. With more, a start on a very busy machine does not fail.
    let client = client.call_timeout(Duration::from_secs(3)).connect().await;
    let client = client.map_err(|error| format!("REDIS_URL: {error}"))?;
    let verdict = tokio::select! {
        verdict = show(&client, &options) => verdict,
        () = terminated() => Err("stopped before the end".into()),
    };
    // Waits until Redis knows of the last releases: else those would count until their leases end.
    client.shutdown_now().await?;
    verdict
}

// ---- The capped clients: what to start from ----------------------------------------------------

type HyperClient = legacy::Client<HttpConnector, Full<Bytes>>;

/// Calls wait here, and not at the provider. A permit is held until the answer was read to its end,
/// or dropped.
fn capped_hyper(
    cap: ZSetSemaphoreLayer,
    http: HyperClient,
) -> impl Service<
    Request<Full<Bytes>>,
    Response = http::Response<PermitBody<hyper::body::Incoming>>,
    Error = CapError<legacy::Error>,
    Future: Send,
> + Clone {
    cap.layer(http)
}

/// The same for reqwest, by the feature `reqwest`.
fn capped_reqwest(
    cap: ZSetSemaphoreLayer,
    http: reqwest::Client,
) -> impl Service<
    reqwest::Request,
    Response = reqwest::Response,
    Error = CapError<reqwest::Error>,
    Future: Send,
> + Clone {
    cap.layer(http)
}

// ---- A stand-in for the provider ---------------------------------------------------------------

/// An answer comes in so many pieces, with a pause before each.
const PIECES: usize = 4;
const PAUSE: Duration = Duration::from_millis(15);

struct Provider {
    allowed: usize,
    now: AtomicUsize,
    peak: AtomicUsize,
}

/// One call; it counts until its answer is out.
struct Call(Arc<Provider>);

impl Drop for Call {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, SeqCst);
    }
}

fn stand_in(allowed: usize) -> Router {
    let provider = Provider { allowed, now: AtomicUsize::new(0), peak: AtomicUsize::new(0) };
    Router::new()
        .route("/complete", post(complete))
        .route("/stats", get(stats))
        .with_state(Arc::new(provider))
}

async fn complete(State(provider): State<Arc<Provider>>) -> Response {
    let now = provider.now.fetch_add(1, SeqCst) + 1;
    let call = Call(provider);
    call.0.peak.fetch_max(now, SeqCst);
    if now > call.0.allowed {
        return (StatusCode::TOO_MANY_REQUESTS, "too many calls at once").into_response();
    }
    let pieces = stream::unfold((call, 0..PIECES), |(call, mut pieces)| async {
        let piece = pieces.next()?;
        sleep(PAUSE).await;
        Some((Ok::<_, Infallible>(format!("piece {piece}\n")), (call, pieces)))
    });
    Body::from_stream(pieces).into_response()
}

async fn stats(State(provider): State<Arc<Provider>>) -> Json<Value> {
    let Provider { allowed, now, peak } = &*provider;
    Json(json!({ "allowed": allowed, "now": now.load(SeqCst), "peak": peak.load(SeqCst) }))
}

/// Serves for as long as `background` lives.
async fn start(addr: &str, app: Router, background: &mut JoinSet<()>) -> Result<String> {
    let bound = TcpListener::bind(addr).await;
    let listener = bound.map_err(|error| format!("cannot listen on `{addr}`: {error}"))?;
    let url = format!("http://{}", listener.local_addr()?);
    background.spawn(async { drop(axum::serve(listener, app).await) });
    Ok(url)
}

// ---- The show: the same calls by three clients -------------------------------------------------

async fn show(client: &Client, options: &Options) -> Result<ExitCode> {
    let calls = client.semaphore(&options.name, options.limit).lease(LEASE).build()?;
    let cap = ZSetSemaphoreLayer::new(calls);
    let http: HyperClient = legacy::Client::builder(TokioExecutor::new()).build_http();
    let hyper_capped = capped_hyper(cap.clone(), http.clone());
    let reqwest_capped = capped_reqwest(cap, reqwest::Client::builder().no_proxy().build()?);

    if let Some(url) = &options.provider {
        ask_stats(url).await?; // Tells at once if nobody is there.
    }
    let (callers, calls) = (options.callers, options.calls);
    say(format_args!("{callers} callers make {calls} calls, with each client\n"));
    say("client       answered   refused   peak at the provider");
    // Without a cap first; but not at a provider that others call meanwhile.
    if options.provider.is_none() {
        let ask = move |url| by_hyper(http.clone(), url);
        crowd("no cap", options, ask).await?;
    }
    let by_hyper = move |url| by_hyper(hyper_capped.clone(), url);
    let by_reqwest = move |url| by_reqwest(reqwest_capped.clone(), url);
    let capped = [
        ("hyper-util", crowd("hyper-util", options, by_hyper).await?),
        ("reqwest", crowd("reqwest", options, by_reqwest).await?),
    ];
    for (name, Tally { refused, peak, allowed, failed, .. }) in &capped {
        if *refused > 0 || peak > allowed {
            eprintln!("outbound: {name}: {refused} refused, {peak} at once where {allowed} may be");
        } else if let Some(error) = failed.first() {
            eprintln!("outbound: {name}: {} calls failed; one of them: {error}", failed.len());
        } else {
            continue;
        }
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Calls once, and reads the answer to its end.
async fn by_hyper<S, B>(service: S, url: String) -> Result<StatusCode>
where
    S: Service<Request<Full<Bytes>>, Response = http::Response<B>, Error: Into<BoxError>>,
    B: http_body::Body<Error: Into<BoxError>>,
{
    let question = Request::post(url).body(Full::default())?;
    let answer = service.oneshot(question).await.map_err(Into::into)?;
    let status = answer.status();
    answer.into_body().collect().await.map_err(Into::into)?; // Here the permit goes back.
    Ok(status)
}

async fn by_reqwest<S>(service: S, url: String) -> Result<StatusCode>
where
    S: Service<reqwest::Request, Response = reqwest::Response, Error: Into<BoxError>>,
{
    let question = reqwest::Request::new(reqwest::Method::POST, url.parse()?);
    let answer = service.oneshot(question).await.map_err(Into::into)?;
    let status = answer.status();
    answer.bytes().await?; // Here the permit goes back.
    Ok(status)
}

struct Tally {
    answered: usize,
    refused: usize,
    peak: u64,
    allowed: u64,
    failed: Vec<BoxError>,
}

/// Lets all callers call with one client, and tells what came of it.
async fn crowd<F>(
    name: &str,
    options: &Options,
    ask: impl Fn(String) -> F + Clone + Send + 'static,
) -> Result<Tally>
where
    F: Future<Output = Result<StatusCode>> + Send + 'static,
{
    let mut background = JoinSet::new();
    let provider = match &options.provider {
        Some(url) => url.clone(),
        None => start("127.0.0.1:0", stand_in(options.allowed), &mut background).await?,
    };
    let mut callers = JoinSet::new();
    for caller in 0..options.callers {
        let (ask, url) = (ask.clone(), format!("{provider}/complete"));
        let calls = stream::iter((caller..options.calls).step_by(options.callers));
        let one_by_one = calls.then(move |_| ask(url.clone()));
        callers.spawn(one_by_one.collect::<Vec<_>>());
    }
    let (peak, allowed) = (0, 0);
    let mut tally = Tally { answered: 0, refused: 0, peak, allowed, failed: Vec::new() };
    for outcome in callers.join_all().await.into_iter().flatten() {
        match outcome {
            Ok(status) if status.is_success() => tally.answered += 1,
            Ok(StatusCode::TOO_MANY_REQUESTS) => tally.refused += 1,
            Ok(status) => tally.failed.push(format!("the provider answers {status}").into()),
            Err(error) => tally.failed.push(error),
        }
    }
    (tally.peak, tally.allowed) = ask_stats(&provider).await?;
    let Tally { answered, refused, peak, allowed, .. } = &tally;
    say(format_args!("{name:<12} {answered:>8}   {refused:>7}   {peak}, where {allowed} may be"));
    background.shutdown().await;
    Ok(tally)
}

/// How many calls the provider has had at once at the most, and how many it allows.
async fn ask_stats(provider: &str) -> Result<(u64, u64)> {
    let url = format!("{provider}/stats");
    let http = reqwest::Client::builder().no_proxy().build()?;
    let stats = async { http.get(&url).send().await?.bytes().await };
    let stats = stats.await.map_err(|error| format!("cannot ask the provider: {error}"))?;
    let stats: Value = serde_json::from_slice(&stats).unwrap_or_default();
    let numbers = stats["peak"].as_u64().zip(stats["allowed"].as_u64());
    Ok(numbers.ok_or_else(|| format!("{url} tells no peak"))?)
}

/// Resolves at ctrl-c or SIGTERM.
async fn terminated() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut term) = signal(SignalKind::terminate()) {
            tokio::select! { _ = term.recv() => {}, _ = tokio::signal::ctrl_c() => {} }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}

/// As `println!`, which would panic when nobody reads any more.
fn say(line: impl Display) {
    let _ = writeln!(stdout(), "{line}");
}

// ---- The command line --------------------------------------------------------------------------

struct Options {
    help: bool,
    provider: Option<String>,
    provider_only: Option<String>,
    allowed: usize,
    limit: u32,
    name: String,
    callers: usize,
    calls: usize,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            help: false,
            provider: None,
            provider_only: None,
            allowed: 4,
            limit: 4,
            name: "provider-calls".to_owned(),
            callers: 12,
            calls: 60,
        };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            match &*arg {
                "--help" | "-h" => options.help = true,
                "--provider" => options.provider = Some(provider(&value()?)?),
                "--provider-only" => options.provider_only = Some(value()?),
                "--allowed" => options.allowed = number(&arg, &value()?)?,
                "--limit" => options.limit = number(&arg, &value()?)?,
                "--name" => options.name = value()?,
                "--callers" => options.callers = number(&arg, &value()?)?,
                "--calls" => options.calls = number(&arg, &value()?)?,
                _ => return Err(format!("unknown argument `{arg}`; try --help").into()),
            }
        }
        Ok(options)
    }
}

fn provider(url: &str) -> Result<String> {
    let parsed = url.parse::<http::Uri>();
    if parsed.is_ok_and(|url| url.scheme_str() == Some("http")) {
        return Ok(url.trim_end_matches('/').to_owned());
    }
    Err(format!("--provider is `{url}`; it must be like http://host:port").into())
}

fn number<N: FromStr + Default + PartialEq>(arg: &str, value: &str) -> Result<N> {
    match value.parse() {
        Ok(number) if number != N::default() => Ok(number),
        _ => Err(format!("{arg} is `{value}`; it must be a whole number above 0").into()),
    }
}
