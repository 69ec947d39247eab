//! A tonic service that streams at most 2 answers at once, over all its processes.
//!
//! ```sh
//! cargo run --example tonic                         # needs a Redis; REDIS_URL tells where
//! grpcurl -plaintext -proto echo.proto -d '{"text": "a b c"}' 127.0.0.1:50051 example.Echo/Words
//! ```
//!
//! ```toml
//! [dependencies]
//! zset-semaphore = "0.1"
//! tonic = "0.14"
//! tonic-prost = "0.14"
//! prost = "0.14"
//! tokio = { version = "1", features = ["full"] }
//! futures-util = "0.3"
//! ```

use std::time::Duration;

use tonic::transport::{Server, server::TcpIncoming};
use zset_semaphore::{Client, tower::ZSetSemaphoreLayer};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned());
    let client = Client::connect(url).await?;
    let calls = client.semaphore("tonic-calls", 2).build()?;

    // A call waits for its permit, and holds it until its stream has ended. After 10 s in the queue
    // it is answered with RESOURCE_EXHAUSTED, and told when to come back.
    let limit = ZSetSemaphoreLayer::new(calls).timeout(Duration::from_secs(10)).answer();

    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:50051".to_owned());
    let incoming = TcpIncoming::bind(addr.parse()?)?;
    println!("listening on http://{}", incoming.local_addr()?);
    let ctrl_c = async { drop(tokio::signal::ctrl_c().await) };
    Server::builder()
        .layer(limit)
        .add_service(echo::EchoServer)
        .serve_with_incoming_shutdown(incoming, ctrl_c)
        .await?;
    client.shutdown().await?; // Waits until Redis knows of the last permits.
    Ok(())
}

/// `service Echo { rpc Words(Text) returns (stream Text); }` of the package `example`, with
/// `message Text { string text = 1; }`: by hand, so that no build script is needed. Put yours here:
/// `tonic::include_proto!("example")`.
mod echo {
    use std::convert::Infallible;
    use std::future::{Ready, ready};

    use futures_util::stream::{self, BoxStream, StreamExt};
    use tonic::codegen::{Body, BoxFuture, Context, Poll, Service, StdError, http};
    use tonic::server::{Grpc, NamedService, ServerStreamingService};
    use tonic::{Request, Response, Status};

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Text {
        #[prost(string, tag = "1")]
        text: String,
    }

    #[derive(Clone)]
    pub(crate) struct EchoServer;

    impl ServerStreamingService<Text> for EchoServer {
        type Response = Text;
        type ResponseStream = BoxStream<'static, Result<Text, Status>>;
        type Future = Ready<Result<Response<Self::ResponseStream>, Status>>;

        fn call(&mut self, request: Request<Text>) -> Self::Future {
            let text = request.into_inner().text;
            let words: Vec<_> =
                text.split(' ').map(|word| Ok(Text { text: word.into() })).collect();
            ready(Ok(Response::new(stream::iter(words).boxed())))
        }
    }

    impl NamedService for EchoServer {
        const NAME: &'static str = "example.Echo";
    }

    impl<B> Service<http::Request<B>> for EchoServer
    where
        B: Body<Error: Into<StdError> + Send> + Send + 'static,
    {
        type Response = http::Response<tonic::body::Body>;
        type Error = Infallible;
        type Future = BoxFuture<Self::Response, Infallible>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: http::Request<B>) -> Self::Future {
            let echo = self.clone();
            let mut grpc = Grpc::new(tonic_prost::ProstCodec::default());
            Box::pin(async move { Ok(grpc.server_streaming(echo, request).await) })
        }
    }
}
