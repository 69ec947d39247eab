//! A gRPC service that streams chat answers, never more than N at once, cluster-wide.
//!
//! ```sh
//! cargo run --example tonic_service                                # a crowd chats; needs no Redis
//! REDIS_URL=redis://127.0.0.1 cargo run --example tonic_service    # shares the limit by Redis
//! cargo run --example tonic_service -- --serve 127.0.0.1:50051 --limit 1
//! cargo run --example tonic_service -- --call http://127.0.0.1:50051 --tokens 200  # twice
//! ```

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::fmt::Display;
use std::future::{self, Ready};
use std::io::{Write, stdout};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt};
use http::uri::PathAndQuery;
use prost::Message;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tonic::body::Body;
use tonic::server::{NamedService, ServerStreamingService};
use tonic::service::LayerExt;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::Service;
use zset_semaphore::tower::ZSetSemaphoreLayer;
use zset_semaphore::{Client, MemoryStore, ZSetSemaphore};

const HELP: &str = "\
Usage: tonic_service [OPTION]...

A gRPC service that streams chat answers, and caps how many stream at once. Without --serve and
--call it lets a crowd of clients chat with itself, and ends with a table.

  --serve ADDR        serve
  --call URL          chat once with the service there, and print what it says
  --mount WHERE       what the cap is for: the whole `server`, or this `service` alone [server]
  --limit N           how many answers may stream at once [4]
  --name NAME         services with the same name share the limit [grpc-chats]
  --max-wait SECONDS  how long a call may queue before it is turned away [3]
  --clients N         how many clients the crowd has, with a channel each [16]
  --chats N           how many answers they want in total [48]
  --tokens N          how many tokens an answer has [10]
  --help              print this text

With REDIS_URL=redis://[user:password@]host[:port] the count is in Redis, and the limit is that of
all services together. Without it, the count is in this process.";

/// How long answers may stream on after ctrl-c or SIGTERM; Kubernetes kills after 30 s.
const GRACE: Duration = Duration::from_secs(10);
/// How long the answers of a service that crashed still count.
const LEASE: Duration = Duration::from_secs(10);
const TOKEN_EVERY: Duration = Duration::from_millis(20);

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

#[tokio::main]
async fn main() -> ExitCode {
    let args = env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned());
    run(args).await.unwrap_or_else(|error| {
        eprintln!("tonic_service: {error}");
        ExitCode::from(2)
    })
}

async fn run(args: impl Iterator<Item = String>) -> Result<ExitCode> {
    let options = Options::parse(args)?;
    if options.help {
        say(HELP);
        return Ok(ExitCode::SUCCESS);
    } else if let Some(url) = &options.call {
        return call(url, &options).await;
    }
    let client = match env::var_os("REDIS_URL") {
        Some(url) => Client::builder().url(url.to_string_lossy()),
        None => Client::builder().memory(&MemoryStore::new()),
    };
    // The default is 500 ms. With more, a start on a very busy machine does not fail.
    let client = client.call_timeout(Duration::from_secs(3)).connect().await;
    let client = client.map_err(|error| format!("REDIS_URL: {error}"))?;
    let chats = client.semaphore(&options.name, options.limit).lease(LEASE).build()?;
    match &options.serve {
        Some(addr) => serve(addr, &client, chats, &options).await,
        None => show(&client, chats, &options).await,
    }
}

// ---- The service: what to start from -----------------------------------------------------------

/// Serves until the process is told to end, and then until no answer streams any more.
async fn start(
    incoming: TcpIncoming,
    chats: ZSetSemaphore,
    load: Arc<Load>,
    options: &Options,
) -> Result<(), tonic::transport::Error> {
    // Behind this, a call holds a permit until its answer has ended or its client is gone. Those
    // who wait too long are told RESOURCE_EXHAUSTED, and when to come back.
    let cap = ZSetSemaphoreLayer::new(chats).timeout(options.max_wait).answer();
    let chat = Chat { load };
    match options.mount {
        Mount::Server => {
            let server = Server::builder().layer(cap).add_service(chat);
            server.serve_with_incoming_shutdown(incoming, terminated()).await
        }
        Mount::Service => {
            let server = Server::builder().add_service(cap.named_layer(chat));
            server.serve_with_incoming_shutdown(incoming, terminated()).await
        }
    }
}

async fn serve(
    addr: &str,
    client: &Client,
    chats: ZSetSemaphore,
    options: &Options,
) -> Result<ExitCode> {
    let (incoming, url) = listen(addr)?;
    let server = start(incoming, chats, Arc::default(), options);
    say(format_args!("listening on {url}"));
    // Turns those away who queue here, to try another server, and waits until every stream has
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
    Ok(ExitCode::SUCCESS)
}

fn listen(addr: &str) -> Result<(TcpIncoming, String)> {
    let refused = |error: &dyn Display| format!("cannot listen on `{addr}`: {error}");
    let parsed = addr.parse().map_err(|error| refused(&error))?;
    let incoming = TcpIncoming::bind(parsed).map_err(|error| refused(&error))?;
    let url = format!("http://{}", incoming.local_addr()?);
    // Else the kernel may keep a token back, to send it together with the next one.
    Ok((incoming.with_nodelay(Some(true)), url))
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

// ---- What a build script would make of a .proto file -------------------------------------------

const STREAM: &str = "/example.Chat/Stream";

#[derive(Clone, PartialEq, Message)]
struct Question {
    #[prost(uint32, tag = "1")]
    tokens: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Token {
    #[prost(string, tag = "1")]
    text: String,
}

/// `service Chat { rpc Stream(Question) returns (stream Token); }` in the package `example`.
#[derive(Clone)]
struct Chat {
    load: Arc<Load>,
}

impl NamedService for Chat {
    const NAME: &'static str = "example.Chat";
}

// For any body: the layer reads that of a queued request ahead, and hands on a body of its own.
impl<B> Service<http::Request<B>> for Chat
where
    B: http_body::Body<Error: Into<Box<dyn Error + Send + Sync>> + Send> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let chat = self.clone();
        Box::pin(async move {
            if request.uri().path() != STREAM {
                return Ok(Status::unimplemented("there is only Stream").into_http());
            }
            let mut grpc = tonic::server::Grpc::new(ProstCodec::default());
            Ok(grpc.server_streaming(chat, request).await)
        })
    }
}

impl ServerStreamingService<Question> for Chat {
    type Response = Token;
    type ResponseStream = BoxStream<'static, Result<Token, Status>>;
    type Future = Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, question: Request<Question>) -> Self::Future {
        const WORDS: [&str; 8] =
            ["first", "come,", "first", "served,", "and", "nobody", "is", "left."];
        let words = WORDS.iter().cycle().zip(0..question.into_inner().tokens);
        let answer = (Answer::begin(&self.load), words);
        let tokens = stream::unfold(answer, |(answer, mut words)| async {
            let (word, index) = words.next()?;
            if index > 0 {
                sleep(TOKEN_EVERY).await;
            }
            Some((Ok(Token { text: (*word).to_owned() }), (answer, words)))
        });
        future::ready(Ok(Response::new(tokens.boxed())))
    }
}

#[derive(Default)]
struct Load {
    now: AtomicUsize,
    peak: AtomicUsize,
}

/// One answer; it counts until its last token is out or nobody listens.
struct Answer(Arc<Load>);

impl Answer {
    fn begin(load: &Arc<Load>) -> Self {
        load.peak.fetch_max(load.now.fetch_add(1, SeqCst) + 1, SeqCst);
        Self(Arc::clone(load))
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, SeqCst);
    }
}

// ---- A client ----------------------------------------------------------------------------------

/// Chats once, and tells how long the first token took to come.
async fn chat(
    channel: Channel,
    tokens: u32,
    mut hear: impl FnMut(String),
) -> Result<Duration, Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
    let (path, codec) = (PathAndQuery::from_static(STREAM), ProstCodec::<_, Token>::default());
    let (asked, mut waited, mut heard) = (Instant::now(), Duration::ZERO, 0);
    let answer = grpc.server_streaming(Request::new(Question { tokens }), path, codec).await?;
    let mut answer = answer.into_inner();
    while let Some(token) = answer.message().await? {
        if heard == 0 {
            waited = asked.elapsed();
        }
        heard += 1;
        hear(token.text);
    }
    let cut = || Status::data_loss(format!("{heard} of {tokens} tokens came"));
    if heard == tokens { Ok(waited) } else { Err(cut()) }
}

/// As [`chat`], but comes back for as often as the service says so. Also tells how often it did.
async fn chat_until_served(channel: Channel, tokens: u32) -> Result<(Duration, usize), Status> {
    let mut came_back = 0;
    loop {
        let outcome = chat(channel.clone(), tokens, drop).await;
        match outcome.map_err(|status| (pushback(&status), status)) {
            Ok(waited) => return Ok((waited, came_back)),
            Err((None, status)) => return Err(status),
            Err((Some(pause), _)) => sleep(pause).await,
        }
        came_back += 1;
    }
}

/// When to come back; gRPC clients that retry by themselves obey it, too.
fn pushback(status: &Status) -> Option<Duration> {
    let millis = status.metadata().get("grpc-retry-pushback-ms")?;
    Some(Duration::from_millis(millis.to_str().ok()?.parse().ok()?))
}

/// The same as [`pushback`], in whole milliseconds, from `grpc-status-details-bin`, where most libraries look for it.
fn retry_info(status: &Status) -> Option<Duration> {
    let status = GoogleStatus::decode(status.details()).ok()?;
    let info = status.details.iter().find(|any| any.type_url.ends_with("/google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(&*info.value).ok()?.retry_delay?;
    let delay = Duration::new(delay.seconds.try_into().ok()?, delay.nanos.try_into().ok()?);
    Some(Duration::from_millis(delay.as_millis().try_into().ok()?))
}

/// `google.rpc.Status`; the crate `tonic-types` has it, too, with all that may be in it.
#[derive(Clone, PartialEq, Message)]
struct GoogleStatus {
    #[prost(message, repeated, tag = "3")]
    details: Vec<GoogleAny>,
}

#[derive(Clone, PartialEq, Message)]
struct GoogleAny {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<GoogleDuration>,
}

#[derive(Clone, PartialEq, Message)]
struct GoogleDuration {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

async fn connect(url: &str) -> Result<Channel> {
    let wrong = |_| format!("--call is `{url}`; it must be like http://host:port");
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(wrong)?;
    let channel = endpoint.connect_timeout(Duration::from_secs(5)).connect().await;
    Ok(channel.map_err(|error| format!("cannot reach {url}: {}", innermost(&error)))?)
}

fn innermost(mut error: &dyn Error) -> &dyn Error {
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

async fn call(url: &str, options: &Options) -> Result<ExitCode> {
    let channel = connect(url).await?;
    let Err(status) = chat(channel, options.tokens, say).await else {
        return Ok(ExitCode::SUCCESS);
    };
    let again = pushback(&status).map(|pause| format!("; come back in {pause:?}"));
    let (code, message) = (status.code(), status.message());
    eprintln!("tonic_service: {code:?}: {message}{}", again.unwrap_or_default());
    Ok(ExitCode::FAILURE)
}

// ---- The show: a crowd of clients, a table -----------------------------------------------------

async fn show(client: &Client, chats: ZSetSemaphore, options: &Options) -> Result<ExitCode> {
    let load = Arc::default();
    let (incoming, url) = listen("127.0.0.1:0")?;
    let verdict = tokio::select! {
        biased;
        () = terminated() => Err("stopped before the end".into()),
        ended = start(incoming, chats.clone(), Arc::clone(&load), options) => {
            ended?;
            Err("the server has ended".into())
        }
        verdict = crowd(&url, chats, &load, options) => verdict,
    };
    client.shutdown_now().await?;
    verdict
}

async fn crowd(
    url: &str,
    chats: ZSetSemaphore,
    load: &Load,
    options: &Options,
) -> Result<ExitCode> {
    let &Options { clients, chats: wanted, tokens, limit, .. } = options;
    say(format_args!("{clients} clients want {wanted} answers from {url}"));
    let (began, mut crowd) = (Instant::now(), JoinSet::new());
    for number in 0..clients {
        let channel = connect(url).await?; // a connection of its own
        let answers = stream::iter((number..wanted).step_by(clients));
        let one_by_one = answers.then(move |_| chat_until_served(channel.clone(), tokens));
        crowd.spawn(one_by_one.collect::<Vec<_>>());
    }
    let outcomes = crowd.join_all().await.into_iter().flatten();
    let (served, failed): (Vec<_>, Vec<_>) = outcomes.partition(Result::is_ok);
    let (mut waits, came_back): (Vec<_>, Vec<_>) = served.into_iter().flatten().unzip();
    let rate = waits.len() as f64 / began.elapsed().as_secs_f64();

    let all = chats.acquire(limit).await?;
    let turned_away = match chat(connect(url).await?, tokens, drop).await {
        Ok(_) => Status::ok("it was served, though nothing was free"),
        Err(status) => status,
    };
    drop(all);

    waits.sort_unstable();
    let wait = |percent| waits.get(waits.len() * percent / 100).copied().unwrap_or_default();
    let peak = load.peak.load(SeqCst);
    let (code, message) = (turned_away.code(), turned_away.message());
    let (again, info) = (pushback(&turned_away), retry_info(&turned_away));
    say(format_args!("\nanswers served    {} of {wanted}", waits.len()));
    say(format_args!("came back later   {} times", came_back.iter().sum::<usize>()));
    say(format_args!("peak in parallel  {peak}, as the server counted"));
    say(format_args!("limit             {limit}"));
    say(format_args!("wait p50, p99     {:.1?}, {:.1?}", wait(50), wait(99)));
    say(format_args!("throughput        {rate:.1} answers/s"));
    say(format_args!("when it is full   {code:?}: {message}"));
    let shown = |delay: Option<Duration>| delay.map_or("?".to_owned(), |it| format!("{it:?}"));
    say(format_args!("retry header      {}", shown(again)));
    say(format_args!("retry details     {}", shown(info)));
    if u32::try_from(peak).is_ok_and(|peak| peak > limit) {
        eprintln!("tonic_service: {peak} answers streamed at once, more than the limit of {limit}");
    } else if let Some(Err(error)) = failed.first() {
        eprintln!("tonic_service: {} chats failed; one of them: {error}", failed.len());
    } else if code != Code::ResourceExhausted || again.is_none() || again != info {
        eprintln!("tonic_service: a full service said {turned_away:?}");
    } else {
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}

/// As `println!`, which would panic when nobody reads any more.
fn say(line: impl Display) {
    let _ = writeln!(stdout(), "{line}");
}

// ---- The command line --------------------------------------------------------------------------

enum Mount {
    Server,
    Service,
}

struct Options {
    help: bool,
    serve: Option<String>,
    call: Option<String>,
    mount: Mount,
    limit: u32,
    name: String,
    max_wait: Duration,
    clients: usize,
    chats: usize,
    tokens: u32,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            help: false,
            serve: None,
            call: None,
            mount: Mount::Server,
            limit: 4,
            name: "grpc-chats".to_owned(),
            max_wait: Duration::from_secs(3),
            clients: 16,
            chats: 48,
            tokens: 10,
        };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            match &*arg {
                "--help" | "-h" => options.help = true,
                "--serve" => options.serve = Some(value()?),
                "--call" => options.call = Some(value()?),
                "--mount" => options.mount = mount(&value()?)?,
                "--limit" => options.limit = number(&arg, &value()?)?,
                "--name" => options.name = value()?,
                "--max-wait" => options.max_wait = Duration::from_secs(number(&arg, &value()?)?),
                "--clients" => options.clients = number(&arg, &value()?)?,
                "--chats" => options.chats = number(&arg, &value()?)?,
                "--tokens" => options.tokens = number(&arg, &value()?)?,
                _ => return Err(format!("unknown argument `{arg}`; try --help").into()),
            }
        }
        Ok(options)
    }
}

fn mount(value: &str) -> Result<Mount> {
    match value {
        "server" => Ok(Mount::Server),
        "service" => Ok(Mount::Service),
        _ => Err(format!("--mount is `{value}`; it must be server or service").into()),
    }
}

fn number<N: FromStr + Default + PartialEq>(arg: &str, value: &str) -> Result<N> {
    match value.parse() {
        Ok(number) if number != N::default() => Ok(number),
        _ => Err(format!("{arg} is `{value}`; it must be a whole number above 0").into()),
    }
}
