//! Behaviour 46: the layer in tonic, around a server, around one service, and around a client.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::Request;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::task::JoinHandle;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::server::{NamedService, ServerStreamingService};
use tonic::service::LayerExt;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::{Layer, Service};
use zset_semaphore::ZSetSemaphore;
use zset_semaphore::tower::{Admitted, ZSetSemaphoreLayer};

use crate::lost::kick;
use crate::probe::{Tally, idle, semaphore, settled};
use test_support::wait::{PATIENCE, POLL_EVERY, within};

const LIMIT: u32 = 3;

#[derive(Clone, PartialEq, prost::Message)]
struct Text {
    #[prost(string, tag = "1")]
    text: String,
}

fn text(text: &str) -> Text {
    Text { text: text.to_owned() }
}

/// What protoc would make of `service Chat { rpc Talk(Text) returns (stream Text); }`, for one call.
#[derive(Clone, Default)]
struct Chat {
    tally: Tally,
}

impl NamedService for Chat {
    const NAME: &'static str = "test.Chat";
}

impl<B> Service<Request<B>> for Chat
where
    B: http_body::Body<Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send>
        + Send
        + 'static,
{
    type Response = ::http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let chat = self.clone();
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(ProstCodec::<Text, Text>::default());
            Ok(grpc.server_streaming(chat, request).await)
        })
    }
}

impl ServerStreamingService<Text> for Chat {
    type Response = Text;
    type ResponseStream = BoxStream<'static, Result<Text, Status>>;
    type Future = Ready<Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<Text>) -> Self::Future {
        let running = self.tally.enter();
        let token = || stream::iter([Ok(text("token"))]);
        let answer: Self::ResponseStream = match &*request.get_ref().text {
            "refuse" => return ready(Err(Status::permission_denied("no"))),
            "fail" => token().chain(stream::iter([Err(Status::internal("upstream"))])).boxed(),
            "limits" => {
                let admitted = request.extensions().get::<Admitted>().unwrap();
                let names = admitted.iter().map(|one| Ok(text(one.limit_name())));
                stream::iter(names.collect::<Vec<_>>()).boxed()
            }
            "endless" => token().chain(stream::pending()).boxed(),
            _ => {
                // The first few wait for each other, which proves that this many can run at once.
                let tally = self.tally.clone();
                let all_here = stream::once(async move {
                    while tally.peak() < LIMIT as usize {
                        tokio::time::sleep(POLL_EVERY).await;
                    }
                    Ok(text("all here"))
                });
                token().chain(all_here).chain(token()).boxed()
            }
        };
        let answer = answer.map(move |token| {
            let _ = &running;
            token
        });
        ready(Ok(tonic::Response::new(answer.boxed())))
    }
}

struct Serving {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn incoming() -> (SocketAddr, TcpIncoming) {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    (incoming.local_addr().unwrap(), incoming)
}

/// The layer around all services of a server.
fn serve<H, S>(layer: ZSetSemaphoreLayer<H, S>, chat: Chat) -> Serving
where
    ZSetSemaphoreLayer<H, S>: Layer<
            tonic::service::Routes,
            Service: Service<
                Request<tonic::body::Body>,
                Response = ::http::Response<zset_semaphore::tower::CappedBody<tonic::body::Body>>,
                Error = Infallible,
                Future: Send,
            > + Clone
                         + Send
                         + 'static,
        > + Clone
        + Send
        + 'static,
{
    let (address, incoming) = incoming();
    let server = Server::builder().layer(layer).add_service(chat);
    let task = tokio::spawn(async move { server.serve_with_incoming(incoming).await.unwrap() });
    Serving { address, task }
}

/// The layer around this service alone.
fn serve_one(layer: &ZSetSemaphoreLayer<zset_semaphore::tower::Answer>, chat: Chat) -> Serving {
    let (address, incoming) = incoming();
    let server = Server::builder().add_service(layer.named_layer(chat));
    let task = tokio::spawn(async move { server.serve_with_incoming(incoming).await.unwrap() });
    Serving { address, task }
}

async fn connect(server: &Serving) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address)).unwrap();
    endpoint.connect().await.unwrap()
}

/// One call over any client.
async fn call<C>(client: C, request: tonic::Request<Text>) -> Result<Streaming<Text>, Status>
where
    C: tonic::client::GrpcService<tonic::body::Body>,
    C::ResponseBody: http_body::Body<Data = hyper::body::Bytes> + Send + 'static,
    <C::ResponseBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut grpc = tonic::client::Grpc::new(client);
    grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
    let path = PathAndQuery::from_static("/test.Chat/Talk");
    let codec = ProstCodec::<Text, Text>::default();
    Ok(grpc.server_streaming(request, path, codec).await?.into_inner())
}

async fn talk(channel: Channel, about: &str) -> Result<Streaming<Text>, Status> {
    within(PATIENCE, call(channel, tonic::Request::new(text(about)))).await
}

/// The code of a rejected call.
async fn refused(channel: Channel, about: &str) -> Status {
    match talk(channel, about).await {
        Ok(_) => panic!("{about}: let in"),
        Err(status) => status,
    }
}

fn answering(chats: &ZSetSemaphore) -> ZSetSemaphoreLayer<zset_semaphore::tower::Answer> {
    ZSetSemaphoreLayer::new(chats.clone()).answer()
}

async fn streams_are_capped(chats: &ZSetSemaphore, tally: &Tally, server: &Serving) {
    let (one, other) = (connect(server).await, connect(server).await);
    let crowd = (0..30).map(|n| talk(if n % 2 == 0 { one.clone() } else { other.clone() }, "chat"));
    let crowd = crowd.map(async |call| {
        let tokens: Vec<_> = call.await.unwrap().map(|token| token.unwrap().text).collect().await;
        assert_eq!(tokens, ["token", "all here", "token"]);
    });
    within(PATIENCE, futures_util::future::join_all(crowd)).await;
    idle(chats).await;
    assert_eq!((tally.peak(), tally.running()), (LIMIT as usize, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_streams_of_a_server_reach_the_limit_and_never_pass_it() {
    let (chats, chat) = (semaphore(LIMIT), Chat::default());
    let server = serve(answering(&chats), chat.clone());
    streams_are_capped(&chats, &chat.tally, &server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_streams_of_one_service_reach_the_limit_and_never_pass_it() {
    let (chats, chat) = (semaphore(LIMIT), Chat::default());
    let server = serve_one(&answering(&chats), chat.clone());
    streams_are_capped(&chats, &chat.tally, &server).await;
}

/// The service has no limit; the clients limit themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_calls_of_a_client_reach_the_limit_and_never_pass_it() {
    let (unlimited, calls, chat) = (semaphore(1000), semaphore(LIMIT), Chat::default());
    let server = serve(answering(&unlimited), chat.clone());
    let client = ZSetSemaphoreLayer::new(calls.clone()).layer(connect(&server).await);
    let crowd = (0..30).map(async |_| {
        let tokens = call(client.clone(), tonic::Request::new(text("chat"))).await.unwrap();
        assert_eq!(tokens.count().await, 3);
    });
    within(PATIENCE, futures_util::future::join_all(crowd)).await;
    idle(&calls).await;
    assert_eq!((chat.tally.peak(), chat.tally.running()), (LIMIT as usize, 0));
}

#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Delay>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[tokio::test]
async fn a_call_that_finds_it_full_is_told_so_and_when_to_come_again() {
    use prost::Message;
    let (chats, chat) = (semaphore(1), Chat::default());
    let layer = answering(&chats).reject_when_full();
    for server in [serve(layer.clone(), chat.clone()), serve_one(&layer, chat.clone())] {
        let held = chats.acquire(1).await.unwrap();
        let channel = connect(&server).await;
        let status = refused(channel.clone(), "chat").await;
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(status.message(), "chats: too many requests at once");
        let pushback = status.metadata().get("grpc-retry-pushback-ms").unwrap().to_str().unwrap();
        let pushback: u64 = pushback.parse().unwrap();
        assert!((1000..3000).contains(&pushback), "{pushback}");
        let details = RpcStatus::decode(status.details()).unwrap();
        assert_eq!(details.code, Code::ResourceExhausted as i32);
        assert_eq!(details.message, status.message());
        assert_eq!(details.details.len(), 1);
        assert_eq!(details.details[0].type_url, "type.googleapis.com/google.rpc.RetryInfo");
        let info = RetryInfo::decode(&*details.details[0].value).unwrap();
        let Delay { seconds, nanos } = info.retry_delay.unwrap();
        assert_eq!(seconds as u64 * 1000 + nanos as u64 / 1_000_000, pushback);

        drop(held);
        let mut tokens = talk(channel, "endless").await.unwrap();
        assert_eq!(tokens.message().await.unwrap(), Some(text("token")));
        settled(&chats, 1, 0).await;
        drop(tokens);
        idle(&chats).await;
    }
    assert_eq!(chat.tally.running(), 0);
}

#[tokio::test]
async fn a_call_that_weighs_more_than_the_limit_is_an_invalid_argument() {
    let (chats, chat) = (semaphore(2), Chat::default());
    let layer = answering(&chats).weight(|request: &Request<tonic::body::Body>| {
        let weight = request.headers().get("x-weight");
        weight.map_or(1, |weight| weight.to_str().unwrap().parse().unwrap())
    });
    let server = serve(layer, chat);
    let weighing = |weight: &'static str| {
        let mut request = tonic::Request::new(text("endless"));
        request.metadata_mut().insert("x-weight", weight.parse().unwrap());
        request
    };
    let channel = connect(&server).await;
    let status = call(channel.clone(), weighing("3")).await.map(drop).unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.message(), "chats: the request weighs more than the limit");
    assert!(status.details().is_empty());
    let tokens = call(channel, weighing("2")).await.unwrap();
    settled(&chats, 2, 0).await;
    drop(tokens);
    idle(&chats).await;
}

#[tokio::test]
async fn a_closed_semaphore_is_told_as_unavailable() {
    let chats = semaphore(1);
    let server = serve(answering(&chats), Chat::default());
    chats.close();
    let status = refused(connect(&server).await, "chat").await;
    assert_eq!(status.code(), Code::Unavailable);
    assert!(!status.details().is_empty());
}

#[tokio::test]
async fn a_call_that_is_cancelled_while_queued_leaves_the_queue() {
    let (chats, chat) = (semaphore(1), Chat::default());
    let layer = answering(&chats);
    for server in [serve(layer.clone(), chat.clone()), serve_one(&layer, chat.clone())] {
        let held = chats.acquire(1).await.unwrap();
        let kept = connect(&server).await;
        for whole_connection in [false, true] {
            let channel = if whole_connection { connect(&server).await } else { kept.clone() };
            let queued = tokio::spawn(async move { talk(channel, "chat").await.map(drop) });
            settled(&chats, 1, 1).await;
            queued.abort();
            settled(&chats, 1, 0).await;
        }
        // Ended by its deadline.
        let mut request = tonic::Request::new(text("chat"));
        request.set_timeout(Duration::from_millis(500));
        let late = tokio::spawn(call(kept.clone(), request));
        settled(&chats, 1, 1).await;
        assert!(within(PATIENCE, late).await.unwrap().is_err());
        settled(&chats, 1, 0).await;
        assert_eq!(chat.tally.peak(), 0);
        drop(held);
        idle(&chats).await;
    }
}

#[tokio::test]
async fn calls_that_fail_or_are_dropped_mid_stream_leave_nothing_held() {
    let (chats, chat) = (semaphore(1), Chat::default());
    let server = serve(answering(&chats), chat.clone());
    let channel = connect(&server).await;
    for _ in 0..3 {
        assert_eq!(refused(channel.clone(), "refuse").await.code(), Code::PermissionDenied);
        idle(&chats).await;

        let mut tokens = talk(channel.clone(), "fail").await.unwrap();
        assert_eq!(tokens.message().await.unwrap(), Some(text("token")));
        assert_eq!(tokens.message().await.unwrap_err().code(), Code::Internal);
        idle(&chats).await;

        let mut tokens = talk(channel.clone(), "endless").await.unwrap();
        assert_eq!(tokens.message().await.unwrap(), Some(text("token")));
        settled(&chats, 1, 0).await;
        drop(tokens);
        idle(&chats).await;
        assert_eq!(chat.tally.running(), 0);
    }
    assert_eq!(chat.tally.peak(), 1);
}

#[tokio::test]
async fn a_stream_whose_permit_is_lost_ends_with_an_error_where_it_is_asked_to() {
    let (chats, chat) = (semaphore(1), Chat::default());
    let server = serve(answering(&chats).end_when_lost(), chat.clone());
    let channel = connect(&server).await;
    for _ in 0..2 {
        let mut tokens = talk(channel.clone(), "endless").await.unwrap();
        assert_eq!(tokens.message().await.unwrap(), Some(text("token")));
        kick(&chats).await;
        within(PATIENCE, tokens.message()).await.unwrap_err();
        idle(&chats).await;
        assert_eq!(chat.tally.running(), 0);
    }
}

/// Around the server and around the service.
#[tokio::test]
async fn a_service_is_told_of_all_that_its_call_was_let_in_with() {
    let (all, own) = (semaphore(1), semaphore(1));
    let (address, incoming) = incoming();
    let server = Server::builder()
        .layer(answering(&all))
        .add_service(answering(&own).named_layer(Chat::default()));
    let task = tokio::spawn(async move { server.serve_with_incoming(incoming).await.unwrap() });
    let server = Serving { address, task };
    for _ in 0..3 {
        let tokens = talk(connect(&server).await, "limits").await.unwrap();
        let names: Vec<_> = tokens.map(|name| name.unwrap().text).collect().await;
        assert_eq!(names, ["chats", "chats"]);
        idle(&all).await;
        idle(&own).await;
    }
}
