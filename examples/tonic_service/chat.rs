//! `service Chat { rpc Stream(Question) returns (stream Token); }` in the package `example`: what a
//! build script would make of a .proto file, and the service itself.

use std::convert::Infallible;
use std::error::Error;
use std::future::{self, Ready};
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, StreamExt};
use prost::Message;
use tonic::body::Body;
use tonic::server::{NamedService, ServerStreamingService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::Service;

use crate::common::in_flight::InFlight;
use crate::common::words::words;

pub(crate) const STREAM: &str = "/example.Chat/Stream";

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Question {
    #[prost(uint32, tag = "1")]
    pub(crate) tokens: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Token {
    #[prost(string, tag = "1")]
    pub(crate) text: String,
}

#[derive(Clone)]
pub(crate) struct Chat {
    /// Counts an answer until its last token is out or nobody listens.
    pub(crate) load: InFlight,
}

impl ServerStreamingService<Question> for Chat {
    type Response = Token;
    type ResponseStream = BoxStream<'static, Result<Token, Status>>;
    type Future = Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, question: Request<Question>) -> Self::Future {
        let in_flight = self.load.enter(1);
        let tokens = usize::try_from(question.into_inner().tokens).unwrap_or(usize::MAX);
        let tokens = words(tokens).map(move |word| {
            let _counted = &in_flight; // the stream owns it
            Ok(Token { text: word.to_owned() })
        });
        future::ready(Ok(Response::new(tokens.boxed())))
    }
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
