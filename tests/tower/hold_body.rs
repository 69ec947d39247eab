//! Behaviour 43: the permit is held until the body ends, fails or is dropped, and no longer.

use std::convert::Infallible;

use ::http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use tower::{Layer, ServiceExt, service_fn};
use zset_semaphore::ZSetSemaphore;
use zset_semaphore::tower::{PermitBody, ZSetSemaphoreLayer};

use crate::probe::Step::{Data, Fail, Trailers, Wait};
use crate::probe::{Broken, Script, ask, idle, semaphore, settled};

/// The body as it comes out of the layer.
async fn through<B>(chats: &ZSetSemaphore, body: B) -> PermitBody<B>
where
    B: Body + Send + 'static,
{
    let inner =
        service_fn(async |asked: Request<B>| Ok::<_, Infallible>(Response::new(asked.into_body())));
    let service = ZSetSemaphoreLayer::new(chats.clone()).layer(inner);
    service.oneshot(Request::new(body)).await.unwrap().into_body()
}

#[tokio::test(start_paused = true)]
async fn the_permit_lives_until_the_body_says_that_it_has_ended() {
    let chats = semaphore(1);
    let steps = [Data("to"), Wait, Data("ken")];
    let mut body = through(&chats, Script::of(steps).without_known_end()).await;
    for expected in ["to", "ken"] {
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), expected);
        settled(&chats, 1, 0).await;
    }
    assert!(!body.is_end_stream());
    assert!(body.frame().await.is_none());
    idle(&chats).await;
    assert!(body.is_end_stream());
    assert!(body.frame().await.is_none(), "and goes on saying so");
}

#[tokio::test(start_paused = true)]
async fn the_last_frame_of_a_body_that_knows_its_end_frees_at_once() {
    let chats = semaphore(1);
    let mut body = through(&chats, Script::of([Data("to"), Data("ken")])).await;
    body.frame().await.unwrap().unwrap();
    settled(&chats, 1, 0).await;
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "ken");
    assert!(body.is_end_stream());
    idle(&chats).await;
    assert!(body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn trailers_at_the_end_free_at_once() {
    let chats = semaphore(1);
    let mut body = through(&chats, Script::of([Data("token"), Trailers])).await;
    body.frame().await.unwrap().unwrap();
    settled(&chats, 1, 0).await;
    assert!(body.frame().await.unwrap().unwrap().is_trailers());
    idle(&chats).await;
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_body_is_passed_on_and_frees_at_once() {
    let chats = semaphore(1);
    let steps = [Data("token"), Fail, Data("never")];
    let mut body = through(&chats, Script::of(steps)).await;
    body.frame().await.unwrap().unwrap();
    settled(&chats, 1, 0).await;
    assert_eq!(body.frame().await.unwrap().unwrap_err(), Broken);
    idle(&chats).await;
    assert!(body.frame().await.is_none(), "a body that failed is at its end");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_body_frees_at_once() {
    let chats = semaphore(1);
    let mut body = through(&chats, Script::of([Data("to"), Data("ken")])).await;
    body.frame().await.unwrap().unwrap();
    settled(&chats, 1, 0).await;
    drop(body);
    idle(&chats).await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_never_polled_frees_when_dropped() {
    let chats = semaphore(1);
    let body = through(&chats, Script::of([Data("token")])).await;
    settled(&chats, 1, 0).await;
    drop(body);
    idle(&chats).await;
}

/// Like the body of a `204`, or of a response to `HEAD`.
#[tokio::test(start_paused = true)]
async fn a_body_that_has_ended_from_the_start_holds_nothing() {
    let chats = semaphore(1);
    let service = ZSetSemaphoreLayer::new(chats.clone()).layer(service_fn(
        |asked: Request<StatusCode>| async move {
            let body = Empty::<Bytes>::new();
            Ok::<_, Infallible>(Response::builder().status(*asked.body()).body(body).unwrap())
        },
    ));
    for status in [StatusCode::OK, StatusCode::NO_CONTENT] {
        let response = service.clone().oneshot(Request::new(status)).await.unwrap();
        assert_eq!(response.status(), status);
        assert!(response.body().is_end_stream());
        idle(&chats).await;
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "");
    }
}

/// A body for `HEAD` may have the length that the one for `GET` would have.
#[tokio::test(start_paused = true)]
async fn a_body_that_has_ended_keeps_its_size_hint() {
    struct OfHead;
    impl Body for OfHead {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            std::task::Poll::Ready(None)
        }
        fn is_end_stream(&self) -> bool {
            true
        }
        fn size_hint(&self) -> http_body::SizeHint {
            http_body::SizeHint::with_exact(1234)
        }
    }
    let chats = semaphore(1);
    let body = through(&chats, OfHead).await;
    idle(&chats).await;
    assert_eq!((body.is_end_stream(), body.size_hint().exact()), (true, Some(1234)));
}

#[tokio::test(start_paused = true)]
async fn size_hint_and_end_are_those_of_the_inner_body() {
    let chats = semaphore(1);
    let mut body = through(&chats, Script::of([Data("to"), Data("ken")])).await;
    let told = |body: &PermitBody<Script>| (body.is_end_stream(), body.size_hint().exact());
    assert_eq!(told(&body), (false, Some(5)));
    body.frame().await;
    assert_eq!(told(&body), (false, Some(3)));
    body.frame().await;
    assert_eq!(told(&body), (true, Some(0)));
}

#[tokio::test(start_paused = true)]
async fn frames_pass_unchanged_from_any_kind_of_body() {
    let chats = semaphore(1);
    let full = through(&chats, Full::<Bytes>::from("at once")).await;
    assert_eq!(full.collect().await.unwrap().to_bytes(), "at once");
    idle(&chats).await;

    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    let frames = [Frame::data(Bytes::from("token")), Frame::trailers(trailers.clone())];
    let frames = futures_util::stream::iter(frames.map(Ok::<_, Infallible>));
    let whole = through(&chats, StreamBody::new(frames)).await.collect().await.unwrap();
    assert_eq!(whole.trailers(), Some(&trailers));
    assert_eq!(whole.to_bytes(), "token");
    idle(&chats).await;

    let boxed = through(&chats, Full::<Bytes>::from("boxed").boxed()).await.boxed();
    assert_eq!(boxed.collect().await.unwrap().to_bytes(), "boxed");
    idle(&chats).await;
}

#[tokio::test(start_paused = true)]
async fn status_headers_and_extensions_stay() {
    let chats = semaphore(1);
    let service = ZSetSemaphoreLayer::new(chats).layer(service_fn(|_: Request<()>| async {
        let response = Response::builder().status(StatusCode::CREATED).header("x-model", "small");
        Ok::<_, Infallible>(response.extension(7_u8).body(Full::<Bytes>::from("made")).unwrap())
    }));
    let response = service.oneshot(ask()).await.unwrap();
    assert_eq!(response.status(), StatusCode::CREATED);
    assert_eq!(response.headers()["x-model"], "small");
    assert_eq!(response.extensions().get::<u8>(), Some(&7));
}
