//! A gateway that streams chat answers and never runs more than N streams at once, cluster-wide.
//!
//! ```sh
//! cargo run --release --example llm_gateway     # shows the cap at work, needs nothing else
//! REDIS_URL=redis://127.0.0.1 cargo run --release --example llm_gateway    # shares it by Redis
//! cargo run --release --example llm_gateway -- --serve 127.0.0.1:8080 --limit 1
//! curl -N http://127.0.0.1:8080/chat -d '{"max_tokens": 200}'         # twice, side by side
//! ```

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::fmt::{Debug, Display};
use std::io::{IsTerminal, Write, stdout};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::error_handling::HandleErrorLayer;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::{Listener, ListenerExt};
use axum::{Json, Router};
use futures_util::stream::{self, Stream, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};
use tower::ServiceBuilder;
use zset_semaphore::tower::ZSetSemaphoreLayer;
use zset_semaphore::{Client, Memory, ZSetSemaphore};

const HELP: &str = "\
Usage: llm_gateway [OPTION]...

Streams chat answers from an upstream, and caps how many streams run at once. Without --serve it
lets a crowd of clients chat through itself, and ends with a table.

  --serve ADDR          serve as a gateway: curl -N http://ADDR/chat -d '{\"max_tokens\": 200}'
  --upstream URL        where the answers come from; without it, a stand-in of its own
  --upstream-only ADDR  serve as a stand-in upstream: POST /chat, GET /stats
  --limit N             how many streams may run at once [16]
  --name NAME           gateways with the same name share the limit [chat-streams]
  --max-wait SECONDS    how long a request may queue before it is turned away [60]
  --clients N           how many clients the crowd has [64]
  --streams N           how many answers they want in total [240]
  --help                print this text

With REDIS_URL=redis://[user:password@]host[:port] the count is in Redis, and the limit is that of
all gateways together. Without it, the count is in this process.";

/// How long streams may go on after ctrl-c or SIGTERM; Kubernetes kills after 30 s.
const GRACE: Duration = Duration::from_secs(10);
/// How long the streams of a gateway that crashed still count.
const LEASE: Duration = Duration::from_secs(10);

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

#[tokio::main]
async fn main() -> ExitCode {
    let args = env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned());
    run(args).await.unwrap_or_else(|error| {
        eprintln!("llm_gateway: {error}");
        ExitCode::from(2)
    })
}

async fn run(args: impl Iterator<Item = String>) -> Result<ExitCode> {
    let options = Options::parse(args)?;
    if options.help {
        say(HELP);
    } else if let Some(addr) = &options.upstream_only {
        let mut background = JoinSet::new();
        say(format_args!("listening on {}", start(addr, stand_in(), &mut background).await?));
        terminated().await;
    } else if let Some(addr) = &options.serve {
        serve(addr, &options).await?;
    } else {
        return show(&options).await;
    }
    Ok(ExitCode::SUCCESS)
}

async fn connect(options: &Options) -> Result<(Client, ZSetSemaphore)> {
    let client = match env::var_os("REDIS_URL") {
        Some(url) => Client::builder().url(url.to_string_lossy()),
        None => Client::builder().memory(&Memory::new()),
    };
    // The default is 500 ms. With more, a start on a very busy machine does not fail.
    let client = client.call_deadline(Duration::from_secs(3)).connect().await;
    let client = client.map_err(|error| format!("REDIS_URL: {error}"))?;
    let chats = client.semaphore(&options.name, options.limit).lease(LEASE).build()?;
    Ok((client, chats))
}

// ---- The gateway: what to start from -----------------------------------------------------------

fn gateway(chats: ZSetSemaphore, upstream: Upstream, max_wait: Duration) -> Router {
    let cap = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(turned_away))
        // Behind this, a request holds a permit until the last byte of its answer is out, or its
        // client is gone. While it waits for one it holds nothing, and leaves with its client, too.
        .layer(ZSetSemaphoreLayer::new(chats).timeout(max_wait));
    Router::new().route("/chat", post(chat)).route_layer(cap).with_state(upstream)
}

/// Asks the upstream and passes on what it says, token by token.
async fn chat(State(upstream): State<Upstream>, question: Bytes) -> Response {
    let ask = upstream.http.post(format!("{}/chat", upstream.url)).body(question);
    let Ok(answer) = ask.header(CONTENT_TYPE, "application/json").send().await else {
        return refusal(StatusCode::BAD_GATEWAY, "the upstream does not answer");
    };
    let head = answer.headers().get(CONTENT_TYPE).map(|kind| [(CONTENT_TYPE, kind.clone())]);
    (answer.status(), head, Body::from_stream(answer.bytes_stream())).into_response()
}

/// What those hear who queued for too long, or still did when the gateway was stopped.
async fn turned_away(_: zset_semaphore::tower::Error<Infallible>) -> Response {
    refusal(StatusCode::SERVICE_UNAVAILABLE, "no stream is free, try again")
}

fn refusal(status: StatusCode, why: &str) -> Response {
    (status, [(RETRY_AFTER, "1")], Json(json!({ "error": why }))).into_response()
}

#[derive(Clone)]
struct Upstream {
    http: reqwest::Client,
    url: String,
}

async fn serve(addr: &str, options: &Options) -> Result<()> {
    let mut background = JoinSet::new();
    let upstream = options.upstream(&mut background).await?;
    let (client, chats) = connect(options).await?;
    let (listener, url) = listen(addr).await?;
    let app = gateway(chats.clone(), upstream, options.max_wait);
    let drain = async move {
        terminated().await;
        chats.close(); // Those who queue here are turned away, to try another gateway.
    };
    let server = axum::serve(listener, app).with_graceful_shutdown(drain).into_future();
    say(format_args!("listening on {url}"));
    tokio::select! {
        ended = server => ended?, // Every stream has come to its end.
        () = async { terminated().await; sleep(GRACE).await } => client.shutdown_now().await?,
    }
    // Waits until Redis knows of the last releases: else those would count until their leases end.
    Ok(client.shutdown().await?)
}

async fn listen(addr: &str) -> Result<(impl Listener<Addr: Debug>, String)> {
    let bound = TcpListener::bind(addr).await;
    let listener = bound.map_err(|error| format!("cannot listen on `{addr}`: {error}"))?;
    let url = format!("http://{}", listener.local_addr()?);
    // Else the kernel may keep a token back, to send it together with the next one.
    Ok((listener.tap_io(|socket| drop(socket.set_nodelay(true))), url))
}

/// Serves for as long as `background` lives.
async fn start(addr: &str, app: Router, background: &mut JoinSet<()>) -> Result<String> {
    let (listener, url) = listen(addr).await?;
    background.spawn(async { drop(axum::serve(listener, app).await) });
    Ok(url)
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

// ---- A stand-in for the upstream, which counts what it serves at once --------------------------

const WORDS: [&str; 8] = ["first", "come,", "first", "served,", "and", "nobody", "is", "left."];
const TOKEN_EVERY: Duration = Duration::from_millis(20);

#[derive(Default)]
struct Load {
    now: AtomicUsize,
    peak: AtomicUsize,
    served: AtomicUsize,
}

/// One answer; it counts from the question until its last token is out or nobody listens.
struct Answer(Arc<Load>);

impl Drop for Answer {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, SeqCst);
    }
}

fn stand_in() -> Router {
    let load = Arc::new(Load::default());
    Router::new().route("/chat", post(answer)).route("/stats", get(stats)).with_state(load)
}

async fn answer(
    State(load): State<Arc<Load>>,
    question: Bytes,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let question: Value = serde_json::from_slice(&question).unwrap_or_default();
    let tokens = question["max_tokens"].as_u64().unwrap_or(20);
    let words = WORDS.iter().cycle().zip(0..tokens);
    load.peak.fetch_max(load.now.fetch_add(1, SeqCst) + 1, SeqCst);
    Sse::new(stream::unfold((Answer(load), words), move |(answer, mut words)| async move {
        let Some((word, index)) = words.next() else {
            answer.0.served.fetch_add(1, SeqCst);
            return None;
        };
        if index > 0 {
            sleep(TOKEN_EVERY).await;
        }
        let token = json!({ "delta": word, "last": index + 1 == tokens });
        Some((Ok(Event::default().data(token.to_string())), (answer, words)))
    }))
}

async fn stats(State(load): State<Arc<Load>>) -> Json<Value> {
    let [now, peak, served] = [&load.now, &load.peak, &load.served].map(|it| it.load(SeqCst));
    Json(json!({ "now": now, "peak": peak, "served": served }))
}

// ---- The show: a crowd of clients, a live line, a table ----------------------------------------

async fn show(options: &Options) -> Result<ExitCode> {
    let (client, chats) = connect(options).await?;
    let verdict = tokio::select! {
        verdict = crowd(chats, options) => verdict,
        () = terminated() => Err("stopped before the end".into()),
    };
    client.shutdown_now().await?;
    verdict
}

async fn crowd(chats: ZSetSemaphore, options: &Options) -> Result<ExitCode> {
    let (clients, streams, mut background) = (options.clients, options.streams, JoinSet::new());
    let upstream = options.upstream(&mut background).await?;
    peak(&upstream).await?; // Tells at once if nobody is there.
    let app = gateway(chats.clone(), upstream.clone(), options.max_wait);
    let url = start("127.0.0.1:0", app, &mut background).await?;
    background.spawn(show_live(chats.clone()));
    say(format_args!("{clients} clients want {streams} answers through {url}"));

    let (began, mut crowd) = (Instant::now(), JoinSet::new());
    for number in 0..clients {
        let answers = stream::iter((number..streams).step_by(clients));
        let (http, url) = (upstream.http.clone(), format!("{url}/chat"));
        let one_by_one = answers.then(move |_| one_answer(http.clone(), url.clone()));
        crowd.spawn(one_by_one.collect::<Vec<_>>());
    }
    let outcomes = crowd.join_all().await.into_iter().flatten();
    let (served, failed): (Vec<_>, Vec<_>) = outcomes.partition(Result::is_ok);
    let mut waits: Vec<_> = served.into_iter().flatten().collect();
    let rate = waits.len() as f64 / began.elapsed().as_secs_f64();
    let (peak, limit) = (peak(&upstream).await?, chats.inspect().await?.limit);
    background.shutdown().await;

    waits.sort_unstable();
    let wait = |percent| waits.get(waits.len() * percent / 100).copied().unwrap_or_default();
    say(format_args!("\nstreams served    {} of {streams}", waits.len()));
    say(format_args!("peak in parallel  {peak}, as the upstream counted"));
    say(format_args!("limit             {limit}"));
    say(format_args!("wait p50, p99     {:.1?}, {:.1?}", wait(50), wait(99)));
    say(format_args!("throughput        {rate:.1} streams/s"));
    if peak > u64::from(limit) {
        eprintln!("llm_gateway: {peak} streams ran at once, more than the limit of {limit}");
    } else if let Some(Err(error)) = failed.first() {
        eprintln!("llm_gateway: {} streams failed; one of them: {error}", failed.len());
    } else {
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}

/// Chats once; tells how long the first token took to come.
async fn one_answer(http: reqwest::Client, url: String) -> Result<Duration> {
    let (asked, mut waited, mut text) = (Instant::now(), Duration::ZERO, String::new());
    let mut answer = http.post(url).body(r#"{"max_tokens": 20}"#).send().await?;
    while let Some(chunk) = answer.chunk().await? {
        if text.is_empty() {
            waited = asked.elapsed();
        }
        text += &String::from_utf8_lossy(&chunk);
    }
    let whole = answer.status().is_success() && text.contains(r#""last":true"#);
    if whole { Ok(waited) } else { Err(format!("{}: {text}", answer.status()).into()) }
}

/// The most that the upstream has served at once.
async fn peak(upstream: &Upstream) -> Result<u64> {
    let url = format!("{}/stats", upstream.url);
    let stats = async { upstream.http.get(&url).send().await?.bytes().await };
    let stats = stats.await.map_err(|error| format!("cannot ask the upstream: {error}"))?;
    let stats: Value = serde_json::from_slice(&stats).unwrap_or_default();
    Ok(stats["peak"].as_u64().ok_or_else(|| format!("{url} tells no peak"))?)
}

async fn show_live(chats: ZSetSemaphore) {
    let terminal = stdout().is_terminal();
    let mut ticks = interval(Duration::from_millis(if terminal { 100 } else { 1000 }));
    let end = if terminal { "\x1b[K\r" } else { "\n" };
    loop {
        ticks.tick().await;
        let Ok(now) = chats.inspect().await else { continue };
        let (in_use, limit, queue) = (now.in_use, now.limit, now.waiters_total);
        print(format_args!("in use {in_use:>4} / limit {limit:>4}   queue {queue:>5}{end}"));
    }
}

fn say(line: impl Display) {
    print(format_args!("{line}\n"));
}

/// As `print!`, which would panic when nobody reads any more.
fn print(text: impl Display) {
    let mut out = stdout().lock();
    let _ = write!(out, "{text}").and_then(|()| out.flush());
}

// ---- The command line --------------------------------------------------------------------------

struct Options {
    help: bool,
    serve: Option<String>,
    upstream_only: Option<String>,
    upstream: Option<String>,
    name: String,
    limit: u32,
    max_wait: Duration,
    clients: usize,
    streams: usize,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            help: false,
            serve: None,
            upstream_only: None,
            upstream: None,
            name: "chat-streams".to_owned(),
            limit: 16,
            max_wait: Duration::from_secs(60),
            clients: 64,
            streams: 240,
        };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            match &*arg {
                "--help" | "-h" => options.help = true,
                "--serve" => options.serve = Some(value()?),
                "--upstream-only" => options.upstream_only = Some(value()?),
                "--upstream" => options.upstream = Some(value()?),
                "--name" => options.name = value()?,
                "--limit" => options.limit = number(&arg, &value()?)?,
                "--max-wait" => options.max_wait = Duration::from_secs(number(&arg, &value()?)?),
                "--clients" => options.clients = number(&arg, &value()?)?,
                "--streams" => options.streams = number(&arg, &value()?)?,
                _ => return Err(format!("unknown argument `{arg}`; try --help").into()),
            }
        }
        Ok(options)
    }

    /// The upstream that was named, else a stand-in.
    async fn upstream(&self, background: &mut JoinSet<()>) -> Result<Upstream> {
        let url = match &self.upstream {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => start("127.0.0.1:0", stand_in(), background).await?,
        };
        if !reqwest::Url::parse(&url).is_ok_and(|url| url.scheme() == "http") {
            return Err(format!("--upstream is `{url}`; it must be like http://host:port").into());
        }
        let http = reqwest::Client::builder().no_proxy().connect_timeout(Duration::from_secs(5));
        Ok(Upstream { http: http.build()?, url })
    }
}

fn number<N: FromStr + Default + PartialEq>(arg: &str, value: &str) -> Result<N> {
    match value.parse() {
        Ok(number) if number != N::default() => Ok(number),
        _ => Err(format!("{arg} is `{value}`; it must be a whole number above 0").into()),
    }
}
