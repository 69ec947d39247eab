//! Stacked limits: one deadline for all waits, and requests that are exempt.

use std::convert::Infallible;
use std::time::Duration;

use ::http::{Request, Response};
use http_body_util::Full;
use hyper::body::Bytes;
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};
use zset_semaphore::tower::{
    Error, KeyLimit, Keyed, OutagePolicy, Paths, Reason, Rejection, WaitDeadline,
    ZSetSemaphoreLayer,
};
use zset_semaphore::{Client, ZSetSemaphore};

use crate::probe::idle;
use test_support::wait::{PATIENCE, within};

const TEN: Duration = Duration::from_secs(10);

type Ask = Request<Full<Bytes>>;

fn ask() -> Ask {
    Request::new(Full::default())
}

fn semaphore(name: &str) -> ZSetSemaphore {
    Client::in_memory().semaphore(name, 1).build().unwrap()
}

async fn upstream<B>(_: Request<B>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from("token")))
}

/// Returns which of two stacked limits rejects a request, and after how long.
async fn fails<S, B, E>(service: S, request: Ask) -> (String, u64)
where
    S: Service<Ask, Response = Response<B>, Error = Error<Error<E>>>,
    E: std::fmt::Debug,
{
    let start = Instant::now();
    let rejection: Rejection = match service.oneshot(request).await {
        Err(Error::Rejected(rejection) | Error::Inner(Error::Rejected(rejection))) => rejection,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("let in"),
    };
    (rejection.limit_name().to_owned(), start.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn the_layers_of_a_stack_share_one_time_to_wait() {
    let (user, all) = (semaphore("user"), semaphore("all"));
    let _full = all.acquire(1).await.unwrap();
    let outer = ZSetSemaphoreLayer::new(user.clone());
    let inner = ZSetSemaphoreLayer::new(all.clone());
    let stacks = [
        // Each layer has its own timeout: they add up.
        (outer.clone().timeout(TEN), inner.clone().timeout(TEN), 16),
        (outer.clone().total_timeout(TEN), inner.clone(), 10),
        (outer.clone().total_timeout(TEN), inner.clone().timeout(TEN), 10),
        (outer.clone().total_timeout(TEN), inner.clone().total_timeout(TEN), 10),
        // The shorter timeout counts.
        (outer.clone().total_timeout(TEN), inner.clone().timeout(TEN / 5), 8),
        (outer.clone().total_timeout(TEN), inner.clone().reject_when_full(), 6),
        (outer.clone().timeout(TEN).total_timeout(2 * TEN), inner.clone(), 20),
    ];
    for (number, (outer, inner, seconds)) in stacks.into_iter().enumerate() {
        let held = user.acquire(1).await.unwrap();
        let service = outer.layer(inner.layer(service_fn(upstream)));
        let release = async {
            sleep(Duration::from_secs(6)).await;
            drop(held);
        };
        let (failed, ()) = tokio::join!(fails(service, ask()), release);
        assert_eq!(failed, ("all".to_owned(), seconds), "stack {number}");
        idle(&user).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_stack_runs_out_at_the_outer_limit_too_and_is_told_in_the_request() {
    let (user, all) = (semaphore("user"), semaphore("all"));
    let full = user.acquire(1).await.unwrap();
    let inner = ZSetSemaphoreLayer::new(all.clone()).layer(service_fn(upstream));
    let layer = ZSetSemaphoreLayer::new(user).total_timeout(TEN);
    let failed = fails(layer.layer(inner.clone()), ask()).await;
    assert_eq!(failed, ("user".to_owned(), 10));
    // Of two deadlines the earlier one counts.
    let mut hasty = ask();
    hasty.extensions_mut().insert(WaitDeadline::after(TEN / 5));
    assert_eq!(fails(layer.layer(inner), hasty).await, ("user".to_owned(), 2));
    drop(full);

    let handler = service_fn(|request: Ask| async move {
        let left = request.extensions().get::<WaitDeadline>().map(WaitDeadline::remaining);
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(format!("{left:?}"))))
    });
    let told = async |layer: ZSetSemaphoreLayer, request| {
        use http_body_util::BodyExt;
        let response = layer.layer(handler).oneshot(request).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    };
    let outer = ZSetSemaphoreLayer::new(all);
    assert_eq!(told(outer.clone(), ask()).await, "None");
    assert_eq!(told(outer.clone().total_timeout(TEN), ask()).await, "Some(10s)");
    let mut hasty = ask();
    hasty.extensions_mut().insert(WaitDeadline::after(TEN / 5));
    assert_eq!(told(outer.total_timeout(TEN), hasty).await, "Some(2s)");
}

/// The request needs no permit of the outer limit, but may wait for an inner one.
#[tokio::test(start_paused = true)]
async fn what_weighs_nothing_at_the_outer_limit_has_the_time_of_the_stack_too() {
    let (user, all) = (semaphore("user"), semaphore("all"));
    let _full = all.acquire(1).await.unwrap();
    let inner = ZSetSemaphoreLayer::new(all).layer(service_fn(upstream));
    let outer = ZSetSemaphoreLayer::new(user).total_timeout(TEN).weight(|_: &Ask| 0);
    let failed = within(10 * TEN, fails(outer.layer(inner), ask())).await;
    assert_eq!(failed, ("all".to_owned(), 10));
}

#[tokio::test(start_paused = true)]
async fn looking_up_a_limit_is_part_of_the_time_of_the_stack() {
    let user = semaphore("user");
    let held = user.acquire(1).await.unwrap();
    let limit = KeyLimit::lookup(|_| std::future::pending::<Result<u32, Infallible>>());
    let key = |_: &Ask| None;
    let keyed = Keyed::builder(&Client::in_memory(), "plans", key, limit).build().unwrap();
    let inner = ZSetSemaphoreLayer::keyed(keyed).layer(service_fn(upstream));
    let service = ZSetSemaphoreLayer::new(user).total_timeout(TEN).layer(inner);
    let release = async {
        sleep(Duration::from_secs(6)).await;
        drop(held);
    };
    let (failed, ()) = tokio::join!(fails(service, ask()), release);
    assert_eq!(failed, ("plans".to_owned(), 10));
}

#[tokio::test]
async fn the_local_cap_is_waited_for_no_longer_than_the_stack_has_time() {
    let client = Client::open("redis://127.0.0.1:1").unwrap(); // nobody listens there
    let semaphore = client.semaphore("local", 1).build().unwrap();
    let layer = ZSetSemaphoreLayer::new(semaphore)
        .outage_after(Duration::from_millis(1))
        .outage_policy(OutagePolicy::LocalCap(1));
    let service = layer.layer(service_fn(upstream));
    let _held = within(PATIENCE, service.clone().oneshot(ask())).await.unwrap();
    let mut hasty = ask();
    hasty.extensions_mut().insert(WaitDeadline::after(Duration::from_millis(100)));
    let ended = within(PATIENCE, service.oneshot(hasty)).await;
    let Err(Error::Rejected(rejection)) = ended else { panic!("let in") };
    assert!(matches!(rejection.reason(), Reason::Unavailable { .. }), "{rejection:?}");
}

#[tokio::test(start_paused = true)]
async fn exempt_requests_pass_a_full_limit_and_take_nothing_whatever_else_is_said() {
    let all = semaphore("all");
    let full = all.acquire(1).await.unwrap();
    let layer = || ZSetSemaphoreLayer::new(all.clone()).reject_when_full();
    let probe = |request: &Ask| request.headers().contains_key("x-probe");
    let weigh = |request: &Ask| match request.uri().path() {
        "/healthz" => panic!("weighed"),
        _ => 1,
    };
    let health = Request::get("/healthz?full=1").body(Full::default()).unwrap();
    let probing = Request::get("/").header("x-probe", "1").body(Full::default()).unwrap();
    let chat = Request::get("/healthz/not").body(Full::default()).unwrap();

    macro_rules! check {
        ($layer:expr) => {
            let service = $layer.layer(service_fn(upstream));
            for request in [&health, &probing] {
                let response = service.clone().oneshot(request.clone()).await.unwrap();
                assert_eq!(all.inspect().await.unwrap().in_use, 1);
                drop(response);
            }
            assert!(service.oneshot(chat.clone()).await.is_err(), "exempt");
        };
    }
    let paths = Paths::new(["/healthz", "/readyz"]);
    check!(layer().exempt(paths.clone()).exempt(probe));
    check!(layer().exempt(probe).exempt(paths.clone()).weight(weigh));
    check!(layer().exempt(probe).weight(weigh).exempt(paths.clone()));
    check!(layer().weight(weigh).exempt(probe).exempt(paths).timeout(Duration::ZERO));
    drop(full);
    idle(&all).await;
}

/// Neither the key nor the limit of an exempt request is looked up.
#[tokio::test(start_paused = true)]
async fn exempt_requests_of_any_type_need_no_key() {
    let key = |n: &u32| -> Option<String> { panic!("key of {n}") };
    let keyed = Keyed::builder(&Client::in_memory(), "plans", key, 1).build().unwrap();
    let layer =
        ZSetSemaphoreLayer::keyed(keyed.clone()).exempt(|n: &u32| *n < 10).release_on_response();
    let service = layer.layer(service_fn(async |n: u32| Ok::<_, Infallible>(n)));
    assert_eq!(service.oneshot(7).await.unwrap(), 7);
    assert_eq!(keyed.cached_keys(), 0);
}

#[tokio::test(start_paused = true)]
async fn of_several_weights_the_last_one_counts() {
    let chats = Client::in_memory().semaphore("chats", 9).build().unwrap();
    let layer = ZSetSemaphoreLayer::new(chats.clone())
        .weight(|_: &Ask| 7)
        .exempt(|_: &Ask| false)
        .weight(|_: &Ask| 3);
    let held = layer.layer(service_fn(upstream)).oneshot(ask()).await.unwrap();
    assert_eq!(chats.inspect().await.unwrap().in_use, 3);
    drop(held);
}
