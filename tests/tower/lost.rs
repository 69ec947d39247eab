//! Permits that are lost during a request, and what a handler can do with its permit.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use ::http::{Request, Response, StatusCode};
use axum::body::Body;
use axum::{Extension, Router, routing::get};
use futures_util::{FutureExt, StreamExt, stream};
use http_body_util::BodyExt;
use tokio::task::JoinHandle;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use zset_semaphore::tower::{Admitted, Error, PermitLost, Reason, ZSetSemaphoreLayer};
use zset_semaphore::{Client, LostReason, Released, ZSetSemaphore};

use crate::probe::{Broken, Probe, Script, Step, Tally, ask, idle, semaphore, settled};
use crate::web::{self, Version, Web};
use test_support::wait::{PATIENCE, eventually, within};

/// Kicks the only permit.
pub async fn kick(chats: &ZSetSemaphore) {
    let holder = chats.inspect().await.unwrap().holders[0].id;
    chats.kick(holder).await.unwrap();
}

/// A service that has a request running in it, in a task.
async fn running<S>(chats: &ZSetSemaphore, tally: &Tally, service: S) -> JoinHandle<Ended<S>>
where
    S: Service<Request<()>, Future: Send, Response: Send, Error: Send> + Send + 'static,
{
    let request = tokio::spawn(service.oneshot(ask()));
    settled(chats, 1, 0).await;
    eventually("the inner service runs", PATIENCE, async || tally.running() == 1).await;
    request
}

type Ended<S> = Result<<S as Service<Request<()>>>::Response, <S as Service<Request<()>>>::Error>;

/// The error of a request whose permit was kicked while its inner future hung.
#[track_caller]
fn assert_kicked<R>(ended: Result<R, Error<Broken>>) {
    let Err(Error::Rejected(rejection)) = ended else { panic!("not rejected") };
    assert!(matches!(rejection.reason(), Reason::Lost(LostReason::Kicked)), "{rejection}");
    assert_eq!(rejection.semaphore_name(), "chats");
    assert!(!rejection.is_full() && !rejection.is_too_large());
}

#[tokio::test(start_paused = true)]
async fn an_inner_future_is_dropped_with_its_permit_where_heads_are_held() {
    let chats = semaphore(1);
    let probe = Probe::answering([Step::Hang]);
    let tally = probe.tally.clone();
    let service =
        ZSetSemaphoreLayer::new(chats.clone()).release_on_response().end_when_lost().layer(probe);
    let request = running(&chats, &tally, service).await;
    kick(&chats).await;
    assert_kicked(within(PATIENCE, request).await.unwrap());
    assert_eq!((tally.running(), tally.answered()), (0, 0));
    idle(&chats).await;
}

#[tokio::test(start_paused = true)]
async fn an_inner_future_is_dropped_with_its_permit_where_bodies_are_held() {
    let chats = semaphore(1);
    let probe = Probe::answering([Step::Hang]);
    let tally = probe.tally.clone();
    let service = ZSetSemaphoreLayer::new(chats.clone()).end_when_lost().layer(probe);
    let request = running(&chats, &tally, service).await;
    kick(&chats).await;
    assert_kicked(within(PATIENCE, request).await.unwrap());
    assert_eq!((tally.running(), tally.answered()), (0, 0));
    idle(&chats).await;
}

#[tokio::test(start_paused = true)]
async fn an_inner_future_is_dropped_with_its_permit_and_answered_503() {
    let chats = semaphore(1);
    let probe = Probe::answering([Step::Hang]);
    let tally = probe.tally.clone();
    let layer = ZSetSemaphoreLayer::new(chats.clone()).answer().end_when_lost();
    let service = layer.layer(probe.map_request(|_| ()));
    let request = tokio::spawn(service.oneshot(Request::new(Body::empty())));
    settled(&chats, 1, 0).await;
    eventually("the inner service runs", PATIENCE, async || tally.running() == 1).await;
    kick(&chats).await;
    let response = within(PATIENCE, request).await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.headers().contains_key("retry-after"));
    assert_eq!(tally.running(), 0);
    idle(&chats).await;
}

/// The inner service is not called when the permit is lost before.
#[tokio::test(start_paused = true)]
async fn an_inner_service_that_does_not_get_ready_is_not_waited_for_without_a_permit() {
    let chats = semaphore(1);
    let probe = Probe::readying([Step::Hang]);
    let tally = probe.tally.clone();
    let service = ZSetSemaphoreLayer::new(chats.clone()).end_when_lost().layer(probe);
    let request = tokio::spawn(service.oneshot(ask()));
    settled(&chats, 1, 0).await;
    kick(&chats).await;
    assert_kicked(within(PATIENCE, request).await.unwrap());
    assert_eq!(tally.called(), 0);
    idle(&chats).await;
}

/// A permit can be lost without a kick: this one was held for too long.
#[tokio::test(start_paused = true)]
async fn max_hold_ends_a_request_that_hangs() {
    let hold = Duration::from_secs(90);
    let chats = Client::in_memory().semaphore("chats", 1).max_hold(hold).build().unwrap();
    let probe = Probe::answering([Step::Hang]);
    let tally = probe.tally.clone();
    let service = ZSetSemaphoreLayer::new(chats.clone()).end_when_lost().layer(probe);
    let start = tokio::time::Instant::now();
    let Err(Error::Rejected(rejection)) = service.oneshot(ask()).await else { panic!("answered") };
    assert!(matches!(rejection.reason(), Reason::Lost(LostReason::MaxHold)), "{rejection}");
    assert_eq!(start.elapsed().as_secs(), 90);
    assert_eq!(tally.running(), 0);
    idle(&chats).await;
}

/// Reads the first token, kicks the permit, and reads on.
async fn kicked_mid_body<B>(chats: &ZSetSemaphore, tally: &Tally, response: Response<B>)
where
    B: http_body::Body<Data: std::fmt::Debug, Error = Box<dyn std::error::Error + Send + Sync>>,
{
    let mut body = pin!(response.into_body());
    assert!(within(PATIENCE, body.frame()).await.unwrap().unwrap().is_data());
    assert_eq!(tally.running(), 1);
    kick(chats).await;
    let end = within(PATIENCE, body.frame()).await.unwrap().unwrap_err();
    assert_eq!(*end.downcast::<PermitLost>().unwrap(), PermitLost(LostReason::Kicked));
    assert_eq!(tally.running(), 0, "the body of the inner service is gone");
    assert!(body.is_end_stream());
    assert!(body.frame().await.is_none());
    idle(chats).await;
}

#[tokio::test(start_paused = true)]
async fn a_body_ends_with_an_error_when_its_permit_is_lost() {
    let chats = semaphore(1);
    let probe = Probe::streaming([Step::Data("token"), Step::Hang]);
    let tally = probe.tally.clone();
    let service = ZSetSemaphoreLayer::new(chats.clone()).end_when_lost().layer(probe);
    kicked_mid_body(&chats, &tally, service.oneshot(ask()).await.unwrap()).await;
}

#[tokio::test(start_paused = true)]
async fn an_answered_body_ends_with_an_error_when_its_permit_is_lost() {
    let chats = semaphore(1);
    let probe = Probe::streaming([Step::Data("token"), Step::Hang]);
    let tally = probe.tally.clone();
    let layer = ZSetSemaphoreLayer::new(chats.clone()).answer().end_when_lost();
    let service = layer.layer(probe.map_request(|_| ()));
    let request = Request::new(Body::empty());
    kicked_mid_body(&chats, &tally, service.oneshot(request).await.unwrap()).await;
}

/// A body whose permit is not lost goes on, and one that has ended has no permit to lose.
#[tokio::test(start_paused = true)]
async fn bodies_that_may_end_when_lost_end_as_they_do_otherwise() {
    let chats = semaphore(1);
    let layer = ZSetSemaphoreLayer::new(chats.clone()).end_when_lost();
    let steps = [Step::Data("to"), Step::Wait, Step::Data("ken"), Step::Trailers];
    let whole = layer.layer(Probe::streaming(steps)).oneshot(ask()).await.unwrap();
    let whole = whole.into_body().collect().await.unwrap();
    assert!(whole.trailers().is_some());
    assert_eq!(whole.to_bytes(), "token");
    idle(&chats).await;

    let broken = layer.layer(Probe::streaming([Step::Data("to"), Step::Fail]));
    let error = broken.oneshot(ask()).await.unwrap().into_body().collect().await.unwrap_err();
    assert_eq!(*error.downcast::<Broken>().unwrap(), Broken);
    idle(&chats).await;

    let empty = layer.layer(Probe::default()).oneshot(ask()).await.unwrap();
    idle(&chats).await;
    assert_eq!(empty.into_body().collect().await.unwrap().to_bytes(), "");
}

/// A client over a socket sees that the body is not complete.
#[tokio::test]
async fn a_client_sees_that_a_body_was_cut_short_when_its_permit_was_lost() {
    for version in web::VERSIONS {
        let chats = semaphore(1);
        let tally = Tally::default();
        let layer = ZSetSemaphoreLayer::new(chats.clone()).answer().end_when_lost();
        let handler = {
            let tally = tally.clone();
            async move || chat(&tally)
        };
        let app = Router::new().route("/", get(handler)).layer(layer);
        let server = Web::serve(app).await;
        let mut client = web::Client::open(version, &server).await;
        let mut body = client.get("/").await.into_body();
        body.frame().await.unwrap().unwrap();
        kick(&chats).await;
        assert!(within(PATIENCE, body.frame()).await.unwrap().is_err(), "{version:?}");
        idle(&chats).await;
        assert_eq!(tally.running(), 0);
    }
}

/// By then a holder was told that it was kicked: a renewal follows after a third of its lease.
const TOLD: Duration = Duration::from_secs(15);

#[tokio::test(start_paused = true)]
async fn a_lost_permit_ends_nothing_unless_it_is_asked_to() {
    let chats = semaphore(1);
    let probe = Probe {
        answer: [Step::Wait; 20].into(),
        body: vec![Step::Data("to"), Step::Wait, Step::Data("ken")],
        ..Probe::default()
    };
    let held = ZSetSemaphoreLayer::new(chats.clone()).layer(probe.clone());
    let answered =
        ZSetSemaphoreLayer::new(chats.clone()).answer().layer(probe.clone().map_request(|_| ()));
    for _ in 0..2 {
        let mut request = Box::pin(held.clone().oneshot(ask()));
        // Polls until the inner service runs, and no further.
        while probe.tally.running() == 0 {
            assert!((&mut request).now_or_never().is_none());
            tokio::task::yield_now().await;
        }
        kick(&chats).await;
        tokio::time::sleep(TOLD).await;
        settled(&chats, 1, 0).await; // a kicked permit is in use until it is given back
        assert_eq!(probe.tally.running(), 1);
        let body = request.await.unwrap().into_body();
        assert_eq!(body.collect().await.unwrap().to_bytes(), "token");
        idle(&chats).await;
    }
    let mut body = answered.oneshot(Request::new(Body::empty())).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    kick(&chats).await;
    tokio::time::sleep(TOLD).await;
    settled(&chats, 1, 0).await;
    assert_eq!(probe.tally.running(), 1);
    assert_eq!(body.collect().await.unwrap().to_bytes(), "ken");
    assert_eq!((probe.tally.peak(), probe.tally.running()), (1, 0));
    idle(&chats).await;
}

/// A chat that begins and never ends.
fn chat(tally: &Tally) -> Body {
    let running = tally.enter();
    let tokens = stream::iter(["token "]).chain(stream::pending());
    Body::from_stream(tokens.map(move |token| {
        let _ = &running;
        Ok::<_, Infallible>(token)
    }))
}

#[tokio::test]
async fn a_handler_reads_the_fencing_token_and_finds_the_permit_by_the_name_of_the_limit() {
    let chats = semaphore(1);
    let tell = async |Extension(admitted): Extension<Admitted>| {
        assert!(admitted.permit("others").is_none());
        let admission = admitted.iter().next().unwrap();
        assert_eq!((admission.semaphore_name(), admission.limit_name()), ("chats", "chats"));
        assert!(!admission.is_uncounted());
        admitted.permit("chats").unwrap().fencing_token().to_string()
    };
    let layer = ZSetSemaphoreLayer::new(chats.clone()).answer();
    let server = Web::serve(Router::new().route("/", get(tell)).layer(layer)).await;
    let mut last = 0_u64;
    for version in web::VERSIONS.repeat(2) {
        let mut client = web::Client::open(version, &server).await;
        let text = client.get("/").await.into_body().collect().await.unwrap().to_bytes();
        let token = std::str::from_utf8(&text).unwrap().parse().unwrap();
        assert!(last < token, "{last}, then {token}");
        last = token;
    }
    idle(&chats).await;
}

#[tokio::test]
async fn a_handler_learns_that_its_permit_is_lost() {
    let chats = semaphore(1);
    let watch = async |Extension(admitted): Extension<Admitted>| {
        let permit = admitted.permit("chats").unwrap();
        assert!(!permit.is_lost());
        let why = permit.lost().await;
        assert!(permit.is_lost());
        format!("{why:?}")
    };
    let layer = ZSetSemaphoreLayer::new(chats.clone()).answer();
    let server = Web::serve(Router::new().route("/", get(watch)).layer(layer)).await;
    let client = web::Client::open(Version::Http2, &server).await;
    let asked = client.sending(::http::Method::GET, "/", web::Upload::none());
    settled(&chats, 1, 0).await;
    kick(&chats).await;
    let (_client, response) = within(PATIENCE, asked).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "Kicked");
    idle(&chats).await;
}

#[tokio::test]
async fn a_handler_that_gives_its_permit_back_early_lets_the_next_one_in_while_it_streams() {
    for ends_when_lost in [false, true] {
        let chats = semaphore(1);
        let tally = Tally::default();
        let early = {
            let tally = tally.clone();
            async move |Extension(admitted): Extension<Admitted>| {
                let released = admitted.permit("chats").unwrap().release().await;
                assert_eq!(released.unwrap(), Released::Freed);
                chat(&tally)
            }
        };
        let layer = ZSetSemaphoreLayer::new(chats.clone()).answer();
        let layer = if ends_when_lost { layer.end_when_lost() } else { layer };
        let server = Web::serve(Router::new().route("/", get(early)).layer(layer)).await;
        let mut clients = Vec::new();
        for n in 1..=3 {
            let mut client = web::Client::open(Version::Http1, &server).await;
            let mut body = within(PATIENCE, client.get("/")).await.into_body();
            body.frame().await.unwrap().unwrap();
            clients.push((client, body));
            settled(&chats, 0, 0).await;
            assert_eq!(tally.running(), n, "given back is not lost");
        }
        drop(clients);
        eventually("all ended", PATIENCE, async || tally.running() == 0).await;
        idle(&chats).await;
    }
}

#[tokio::test]
async fn with_stacked_layers_all_admissions_are_listed_outermost_first() {
    let store = Client::in_memory();
    let of = |name: &str| store.semaphore(name, 4).build().unwrap();
    let (user, cluster) = (of("per-user"), of("cluster"));
    let stack = ServiceBuilder::new()
        .layer(ZSetSemaphoreLayer::new(user.clone()).answer())
        .layer(ZSetSemaphoreLayer::new(cluster.clone()).answer());
    let both = {
        let (user, cluster) = (user.clone(), cluster.clone());
        async move |Extension(admitted): Extension<Admitted>| {
            for semaphore in [&user, &cluster] {
                let holder = semaphore.inspect().await.unwrap().holders[0].id;
                assert_eq!(admitted.permit(semaphore.name()).unwrap().id(), holder);
            }
            // The outer permit is released at once, the inner one is kept.
            admitted.permit("per-user").unwrap().release().await.unwrap();
            assert_eq!(user.inspect().await.unwrap().in_use, 0);
            assert_eq!(cluster.inspect().await.unwrap().in_use, 1);
            let names: Vec<_> = admitted.iter().map(|one| one.limit_name().to_owned()).collect();
            names.join(", ")
        }
    };
    let server = Web::serve(Router::new().route("/", get(both)).layer(stack)).await;
    let mut client = web::Client::open(Version::Http1, &server).await;
    let text = client.get("/").await.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(text, "per-user, cluster");
    idle(&user).await;
    idle(&cluster).await;
}

/// The layer without `answer` adds the extension as well.
#[tokio::test(start_paused = true)]
async fn every_layer_that_holds_bodies_tells_what_it_let_in_with() {
    let chats = semaphore(1);
    let tell = service_fn(async |request: Request<()>| {
        let admitted = request.extensions().get::<Admitted>().unwrap();
        assert_eq!(admitted.iter().count(), 1);
        assert!(!admitted.permit("chats").unwrap().is_lost());
        Ok::<_, Infallible>(Response::new(Script::of([])))
    });
    let layer = ZSetSemaphoreLayer::new(chats.clone());
    layer.clone().layer(tell).oneshot(ask()).await.unwrap();
    layer.end_when_lost().layer(tell).oneshot(ask()).await.unwrap();
    idle(&chats).await;
}

#[test]
fn a_lost_permit_names_its_reason() {
    let error = PermitLost(LostReason::Expired);
    assert!(error.to_string().starts_with("the permit was lost: "), "{error}");
}

/// The order of the settings does not matter.
#[tokio::test(start_paused = true)]
async fn a_layer_that_was_told_to_end_requests_does_so_though_it_answers_by_itself() {
    let chats = Client::in_memory().semaphore("chats", 1);
    let chats = chats.max_hold(Duration::from_secs(1)).build().unwrap();
    let layer = ZSetSemaphoreLayer::new(chats.clone()).end_when_lost();
    let hang = service_fn(async |_: Request<_>| {
        std::future::pending::<Result<Response<Body>, Infallible>>().await
    });
    let answered = layer.answer().layer(hang).oneshot(Request::new(Body::empty()));
    let answered = within(PATIENCE, answered).await.unwrap();
    assert_eq!(answered.status(), StatusCode::SERVICE_UNAVAILABLE);
    idle(&chats).await;
}
