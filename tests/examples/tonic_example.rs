//! The short gRPC service.

use axum::http::uri::PathAndQuery;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually};
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;
use zset_semaphore::Client;

use crate::process::{Example, held_and_queued};

#[derive(Clone, PartialEq, prost::Message)]
struct Text {
    #[prost(string, tag = "1")]
    text: String,
}

#[tokio::test]
async fn a_call_of_the_tonic_service_waits_while_all_is_held() {
    let redis = RedisServer::start().await;
    let service = Example::start("tonic", "127.0.0.1:0", Some(redis.url()));
    let url = service.says("listening on ").await;
    let client = Client::connect(redis.url()).await.unwrap();
    let all = client.semaphore("tonic-calls", 2).build().unwrap().acquire(2).await.unwrap();
    let call = tokio::spawn(words(url, "first come, first served"));
    eventually("it waits", PATIENCE, async || {
        held_and_queued(&redis, "tonic-calls").await == (1, 1)
    })
    .await;
    assert!(!call.is_finished());
    all.release().await.unwrap();
    assert_eq!(call.await.unwrap(), ["first", "come,", "first", "served"]);

    service.interrupt();
    let (code, _, err) = service.end().await;
    assert_eq!((code, &*err), (Some(0), ""));
    assert_eq!(held_and_queued(&redis, "tonic-calls").await, (0, 0));
}

async fn words(url: String, text: &str) -> Vec<String> {
    let channel = Endpoint::from_shared(url).unwrap().connect().await.unwrap();
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let path = PathAndQuery::from_static("/example.Echo/Words");
    let question = tonic::Request::new(Text { text: text.to_owned() });
    let answer = grpc.server_streaming(question, path, ProstCodec::<_, Text>::default()).await;
    let (mut answer, mut words) = (answer.unwrap().into_inner(), Vec::new());
    while let Some(word) = answer.message().await.unwrap() {
        words.push(word.text);
    }
    words
}
