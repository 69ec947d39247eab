//! A gateway that streams chat answers and never runs more than N streams at once, cluster-wide,
//! nor more than M for any one API key.
//!
//! ```sh
//! cargo run --release --example llm_gateway     # shows the cap at work, needs nothing else
//! REDIS_URL=redis://127.0.0.1 cargo run --release --example llm_gateway    # shares it by Redis
//! cargo run --release --example llm_gateway -- --serve 127.0.0.1:8080 --limit 1
//! curl -N http://127.0.0.1:8080/chat -d '{"max_tokens": 200}'         # twice, side by side
//! ```

use std::collections::HashMap;
use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::fmt::{Debug, Display};
use std::io::{IsTerminal, Write, stdout};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderName};
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
use zset_semaphore::tower::{Header, Keyed, OutagePolicy, ZSetSemaphoreLayer};
use zset_semaphore::{Client, ClientBuilder, ConnectError, MemoryStore, ZSetSemaphore};

const HELP: &str = "\
Usage: llm_gateway [OPTION]...

Streams chat answers from an upstream, and caps how many streams run at once. Without --serve it
lets a crowd of clients chat through itself, and ends with a table.

  --serve ADDR          serve as a gateway: curl -N http://ADDR/chat -d '{\"max_tokens\": 200}'
  --upstream URL        where the answers come from; without it, a stand-in of its own
  --upstream-only ADDR  serve as a stand-in upstream: POST /chat, GET /stats
  --limit N             how many streams may run at once [16]
  --per-key N           how many of them for one x-api-key, and for all without one [4]
  --name NAME           gateways with the same name share the limits [chat-streams]
  --max-wait SECONDS    how long a request may queue for either before it is turned away [60]
  --outage POLICY       what to do with requests while Redis is away: `closed` turns them away,
                        `open` lets them in, `local:N` lets N at once into this process [closed]
  --clients N           how many clients the crowd has [64]
  --keys N              how many API keys these share [8]
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

fn store() -> ClientBuilder {
    match env::var_os("REDIS_URL") {
        Some(url) => Client::builder().url(url.to_string_lossy()),
        None => Client::builder().memory(&MemoryStore::new()),
    }
}

// ---- The gateway: what to start from -----------------------------------------------------------

/// The routes, and the limit of all together.
fn gateway(
    client: &Client,
    upstream: Upstream,
    options: &Options,
) -> Result<(Router, ZSetSemaphore)> {
    let chats = client.semaphore(&options.name, options.limit).lease(LEASE).build()?;
    let api_key = Header::secret(HeaderName::from_static("x-api-key")); // Redis sees its hash only.
    let of_key = format!("{}-of-key", options.name);
    let of_key = Keyed::builder(client, of_key, api_key, options.per_key)
        .configure_semaphore(|semaphore| semaphore.lease(LEASE))
        .build()?;
    let outage_of_key = match options.outage {
        OutagePolicy::LocalCap(cap) => OutagePolicy::LocalCap(cap.min(options.per_key)),
        policy => policy,
    };
    // Behind these, a request holds a permit of each until the last byte of its answer is out, or
    // its client is gone. The first is the outer one: who queues behind others of the same key is
    // in nobody else's way.
    let caps = ServiceBuilder::new()
        .layer(
            ZSetSemaphoreLayer::keyed(of_key)
                .timeout(options.max_wait)
                .outage_policy(outage_of_key)
                .answer()
                .status(StatusCode::TOO_MANY_REQUESTS),
        )
        .layer(
            ZSetSemaphoreLayer::new(chats.clone())
                .timeout(options.max_wait)
                .outage_policy(options.outage)
                .answer(),
        );
    let routes = Router::new().route("/chat", post(chat)).route_layer(caps).with_state(upstream);
    Ok((routes, chats))
}

/// Asks the upstream and passes on what it says, token by token.
async fn chat(State(upstream): State<Upstream>, question: Bytes) -> Response {
    let ask = upstream.http.post(format!("{}/chat", upstream.url)).body(question);
    let Ok(answer) = ask.header(CONTENT_TYPE, "application/json").send().await else {
        let error = Json(json!({ "error": "the upstream does not answer" }));
        return (StatusCode::BAD_GATEWAY, error).into_response();
    };
    let head = answer.headers().get(CONTENT_TYPE).map(|kind| [(CONTENT_TYPE, kind.clone())]);
    (answer.status(), head, Body::from_stream(answer.bytes_stream())).into_response()
}

#[derive(Clone)]
struct Upstream {
    http: reqwest::Client,
    url: String,
}

async fn serve(addr: &str, options: &Options) -> Result<()> {
    let mut background = JoinSet::new();
    let upstream = options.upstream(&mut background).await?;
    let client = connect_or_go_on(options.outage).await?;
    let (app, _) = gateway(&client, upstream, options)?;
    let (listener, url) = listen(addr).await?;
    let server = axum::serve(listener, app).with_graceful_shutdown(terminated()).into_future();
    say(format_args!("listening on {url}"));
    // Turns those away who queue here, to try another gateway, and waits until every stream has
    // ended and Redis knows of it: else the last ones would count until their leases end.
    let drain = async {
        terminated().await;
        client.shutdown().await
    };
    tokio::select! {
        (ended, drained) = async { tokio::join!(server, drain) } => {
            ended?;
            drained?;
        }
        () = async { terminated().await; sleep(GRACE).await } => client.shutdown_now().await?,
    }
    Ok(())
}

/// Goes on without Redis if that is just not there yet. What no waiting will mend, say a wrong
/// password, is an error.
async fn connect_or_go_on(outage: OutagePolicy) -> Result<Client> {
    match store().connect().await {
        Ok(client) => return Ok(client),
        Err(ConnectError::Store(error)) if error.is_transient() => {
            say(format_args!("no Redis yet, the policy meanwhile is {outage:?}: {error}"));
        }
        Err(error) => return Err(format!("REDIS_URL: {error}").into()),
    }
    Ok(store().build()?)
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
    now: usize,
    peak: usize,
    served: usize,
    now_of: HashMap<String, usize>,
    peak_of_user: usize,
}

type SharedLoad = Arc<Mutex<Load>>;

fn lock(load: &SharedLoad) -> MutexGuard<'_, Load> {
    load.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One answer; it counts from the question until its last token is out or nobody listens.
struct Answer {
    load: SharedLoad,
    user: Option<String>,
}

impl Answer {
    fn begin(load: SharedLoad, user: Option<String>) -> Self {
        let mut books = lock(&load);
        books.now += 1;
        books.peak = books.peak.max(books.now);
        if let Some(user) = &user {
            let now = books.now_of.entry(user.clone()).or_default();
            *now += 1;
            let now = *now;
            books.peak_of_user = books.peak_of_user.max(now);
        }
        drop(books);
        Self { load, user }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let mut books = lock(&self.load);
        books.now -= 1;
        if let Some(now) = self.user.as_ref().and_then(|user| books.now_of.get_mut(user)) {
            *now -= 1;
        }
    }
}

fn stand_in() -> Router {
    let load = SharedLoad::default();
    Router::new().route("/chat", post(answer)).route("/stats", get(stats)).with_state(load)
}

async fn answer(
    State(load): State<SharedLoad>,
    question: Bytes,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let question: Value = serde_json::from_slice(&question).unwrap_or_default();
    let tokens = question["max_tokens"].as_u64().unwrap_or(20);
    let words = WORDS.iter().cycle().zip(0..tokens);
    let answer = Answer::begin(load, question["user"].as_str().map(str::to_owned));
    Sse::new(stream::unfold((answer, words), move |(answer, mut words)| async move {
        let Some((word, index)) = words.next() else {
            lock(&answer.load).served += 1;
            return None;
        };
        if index > 0 {
            sleep(TOKEN_EVERY).await;
        }
        let token = json!({ "delta": word, "last": index + 1 == tokens });
        Some((Ok(Event::default().data(token.to_string())), (answer, words)))
    }))
}

async fn stats(State(load): State<SharedLoad>) -> Json<Value> {
    let Load { now, peak, served, peak_of_user, .. } = &*lock(&load);
    Json(json!({ "now": now, "peak": peak, "served": served, "peak_of_user": peak_of_user }))
}

// ---- The show: a crowd of clients, a live line, a table ----------------------------------------

async fn show(options: &Options) -> Result<ExitCode> {
    // The default is 500 ms. With more, a start on a very busy machine does not fail.
    let client = store().call_timeout(Duration::from_secs(3)).connect().await;
    let client = client.map_err(|error| format!("REDIS_URL: {error}"))?;
    let verdict = tokio::select! {
        verdict = crowd(&client, options) => verdict,
        () = terminated() => Err("stopped before the end".into()),
    };
    client.shutdown_now().await?;
    verdict
}

async fn crowd(client: &Client, options: &Options) -> Result<ExitCode> {
    let (clients, streams, mut background) = (options.clients, options.streams, JoinSet::new());
    let upstream = options.upstream(&mut background).await?;
    peaks(&upstream).await?; // Tells at once if nobody is there.
    let (app, chats) = gateway(client, upstream.clone(), options)?;
    let url = start("127.0.0.1:0", app, &mut background).await?;
    background.spawn(show_live(chats.clone()));
    say(format_args!("{clients} clients want {streams} answers through {url}"));

    let (began, mut crowd) = (Instant::now(), JoinSet::new());
    for number in 0..clients {
        let answers = stream::iter((number..streams).step_by(clients));
        let (http, url) = (upstream.http.clone(), format!("{url}/chat"));
        let key = format!("key-{}", number % options.keys);
        let question = json!({ "max_tokens": 20, "user": key }).to_string();
        let ask = move |_| http.post(&url).header("x-api-key", &key).body(question.clone());
        let one_by_one = answers.map(ask).then(one_answer);
        crowd.spawn(one_by_one.collect::<Vec<_>>());
    }
    let outcomes = crowd.join_all().await.into_iter().flatten();
    let (served, failed): (Vec<_>, Vec<_>) = outcomes.partition(Result::is_ok);
    let mut waits: Vec<_> = served.into_iter().flatten().collect();
    let rate = waits.len() as f64 / began.elapsed().as_secs_f64();
    let ((peak, peak_of_key), limit) = (peaks(&upstream).await?, chats.inspect().await?.limit);
    let (keys, per_key) = (options.keys, options.per_key);
    background.shutdown().await;

    waits.sort_unstable();
    let wait = |percent| waits.get(waits.len() * percent / 100).copied().unwrap_or_default();
    say(format_args!("\nstreams served    {} of {streams}", waits.len()));
    say(format_args!("peak in parallel  {peak}, as the upstream counted"));
    say(format_args!("limit             {limit}"));
    say(format_args!("peak of one key   {peak_of_key}, of {keys} keys"));
    say(format_args!("limit per key     {per_key}"));
    say(format_args!("wait p50, p99     {:.1?}, {:.1?}", wait(50), wait(99)));
    say(format_args!("throughput        {rate:.1} streams/s"));
    if peak > u64::from(limit) {
        eprintln!("llm_gateway: {peak} streams ran at once, more than the limit of {limit}");
    } else if peak_of_key > u64::from(per_key) {
        eprintln!("llm_gateway: {peak_of_key} streams of one key ran at once, not {per_key}");
    } else if let Some(Err(error)) = failed.first() {
        eprintln!("llm_gateway: {} streams failed; one of them: {error}", failed.len());
    } else {
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}

/// Chats once; tells how long the first token took to come.
async fn one_answer(question: reqwest::RequestBuilder) -> Result<Duration> {
    let (asked, mut waited, mut text) = (Instant::now(), Duration::ZERO, String::new());
    let mut answer = question.send().await?;
    while let Some(chunk) = answer.chunk().await? {
        if text.is_empty() {
            waited = asked.elapsed();
        }
        text += &String::from_utf8_lossy(&chunk);
    }
    let whole = answer.status().is_success() && text.contains(r#""last":true"#);
    if whole { Ok(waited) } else { Err(format!("{}: {text}", answer.status()).into()) }
}

/// The most that the upstream has served at once, in all and for one user.
async fn peaks(upstream: &Upstream) -> Result<(u64, u64)> {
    let url = format!("{}/stats", upstream.url);
    let stats = async { upstream.http.get(&url).send().await?.bytes().await };
    let stats = stats.await.map_err(|error| format!("cannot ask the upstream: {error}"))?;
    let stats: Value = serde_json::from_slice(&stats).unwrap_or_default();
    let peak = stats["peak"].as_u64().ok_or_else(|| format!("{url} tells no peak"))?;
    Ok((peak, stats["peak_of_user"].as_u64().unwrap_or_default()))
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
    per_key: u32,
    max_wait: Duration,
    outage: OutagePolicy,
    clients: usize,
    keys: usize,
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
            per_key: 4,
            max_wait: Duration::from_secs(60),
            outage: OutagePolicy::FailClosed,
            clients: 64,
            keys: 8,
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
                "--per-key" => options.per_key = number(&arg, &value()?)?,
                "--outage" => options.outage = outage(&value()?)?,
                "--keys" => options.keys = number(&arg, &value()?)?,
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

fn outage(value: &str) -> Result<OutagePolicy> {
    match value.split_once(':') {
        None if value == "closed" => Ok(OutagePolicy::FailClosed),
        None if value == "open" => Ok(OutagePolicy::FailOpen),
        Some(("local", cap)) => Ok(OutagePolicy::LocalCap(number("--outage local", cap)?)),
        _ => Err(format!("--outage is `{value}`; it must be closed, open or local:N").into()),
    }
}

fn number<N: FromStr + Default + PartialEq>(arg: &str, value: &str) -> Result<N> {
    match value.parse() {
        Ok(number) if number != N::default() => Ok(number),
        _ => Err(format!("{arg} is `{value}`; it must be a whole number above 0").into()),
    }
}
