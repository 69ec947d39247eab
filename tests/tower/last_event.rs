//! Streams of server-sent events that end with an event when their permit was lost.

use std::time::Duration;

use ::http::Request;
use axum::Router;
use axum::body::Body;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;
use zset_semaphore::tower::{Answer, Dialect, ZSetSemaphoreLayer};
use zset_semaphore::{Client, ZSetSemaphore};

use crate::lost::kick;
use crate::probe::{idle, semaphore};
use crate::web::{self, Web};
use test_support::wait::{PATIENCE, within};

/// Two events, and then nothing for ever.
async fn events() -> Response {
    let events =
        ["one", "two"].map(|text| Ok::<_, std::convert::Infallible>(Event::default().data(text)));
    Sse::new(stream::iter(events).chain(stream::pending())).into_response()
}

fn ending(chats: &ZSetSemaphore) -> ZSetSemaphoreLayer<Answer> {
    ZSetSemaphoreLayer::new(chats.clone()).end_when_lost().answer().sse_error_event()
}

#[tokio::test]
async fn a_stream_of_events_whose_permit_is_lost_ends_with_an_event_that_says_so() {
    let message = "the permit of this stream was lost";
    for (dialect, expected) in [
        (Dialect::Plain, json!({ "error": message })),
        (
            Dialect::OpenAi,
            json!({ "error": {
            "message": message, "type": "server_error", "param": null, "code": "permit_lost",
        } }),
        ),
        (
            Dialect::Anthropic,
            json!({ "type": "error", "error": {
            "type": "overloaded_error", "message": message,
        } }),
        ),
    ] {
        let chats = semaphore(1);
        let app = Router::new().route("/", get(events)).layer(ending(&chats).dialect(dialect));
        let server = Web::serve(app).await;
        for version in web::VERSIONS {
            let mut client = web::Client::open(version, &server).await;
            let mut body = within(PATIENCE, client.get("/")).await.into_body();
            let mut text = Vec::new();
            while !text.ends_with(b"two\n\n") {
                text.extend(body.frame().await.unwrap().unwrap().into_data().unwrap());
            }
            kick(&chats).await;
            let rest = within(PATIENCE, body.collect()).await.unwrap().to_bytes();
            let rest = std::str::from_utf8(&rest).unwrap();
            let event = rest.trim_start_matches('\n').strip_prefix("event: error\ndata: ").unwrap();
            let data = event.strip_suffix("\n\n").unwrap();
            assert_eq!(serde_json::from_str::<Value>(data).unwrap(), expected, "{version:?}");
            idle(&chats).await;
        }
    }
}

#[tokio::test]
async fn what_is_no_plain_stream_of_events_breaks_off_still() {
    for (name, value) in [("content-type", "text/plain"), ("content-encoding", "br")] {
        let chats = semaphore(1);
        let handler = async move || {
            let mut response = events().await;
            response.headers_mut().insert(name, value.parse().unwrap());
            response
        };
        let server = Web::serve(Router::new().route("/", get(handler)).layer(ending(&chats))).await;
        let mut client = web::Client::open(web::Version::Http2, &server).await;
        let mut body = within(PATIENCE, client.get("/")).await.into_body();
        body.frame().await.unwrap().unwrap();
        kick(&chats).await;
        assert!(within(PATIENCE, body.collect()).await.is_err(), "{name}: {value}");
    }
}

/// A stream that ends by itself gets no further event.
#[tokio::test(start_paused = true)]
async fn a_stream_that_is_whole_has_no_event_more() {
    let chats = Client::in_memory().semaphore("chats", 1);
    let chats = chats.max_hold(Duration::from_secs(60)).build().unwrap();
    let whole = async || ([("content-type", "text/event-stream")], "data: all\n\n");
    let app = Router::new().route("/", get(whole)).layer(ending(&chats));
    let response = app.oneshot(Request::new(Body::empty())).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "data: all\n\n");
    idle(&chats).await;
}
