//! Behaviour 42: whatever becomes of the inner service, the units come back, and never too early.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use http_body_util::BodyExt;
use tower::{Layer, Service, ServiceExt, service_fn};
use zset_semaphore::tower::{Error, ZSetSemaphoreLayer};

use crate::probe::{Broken, Probe, Script, Step, Tally, ask, idle, semaphore, settled, whole};

/// Polls `future` up to `polls` times, waits for `linger`, and drops it. Returns whether it ended.
async fn dropped_after(polls: usize, linger: Duration, future: impl Future) -> bool {
    let mut future = Box::pin(future);
    let mut left = polls;
    let ended = poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending if left == 0 => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    tokio::time::sleep(linger).await;
    ended
}

/// Where a request was when it was dropped.
fn stage(tally: &Tally) -> &'static str {
    match (tally.answered(), tally.called(), tally.readied()) {
        (1.., ..) => "streaming",
        (_, 1.., _) => "running",
        (_, _, 1..) => "readying",
        _ => "queued",
    }
}

async fn every_drop_leaves_nothing(linger: Duration) {
    use Step::{Data, Trailers, Wait};
    let mut stages = BTreeSet::new();
    for polls in 0.. {
        let chats = semaphore(1);
        let before = chats.acquire(1).await.unwrap();
        let probe = Probe {
            ready: [Wait; 3].into(),
            answer: [Wait; 3].into(),
            body: vec![Wait, Data("to"), Wait, Wait, Data("ken"), Wait, Trailers],
            ..Probe::default()
        };
        let tally = probe.tally.clone();
        let service = ZSetSemaphoreLayer::new(chats.clone()).layer(probe);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            drop(before);
        });

        let ended = dropped_after(polls, linger, whole(service)).await;

        assert_eq!(tally.running(), 0, "after {polls} polls");
        idle(&chats).await;
        drop(chats.try_acquire(1).await.unwrap());
        stages.insert(stage(&tally));
        if ended {
            break;
        }
    }
    assert_eq!(stages, BTreeSet::from(["queued", "readying", "running", "streaming"]));
}

#[tokio::test(start_paused = true)]
async fn a_request_dropped_after_any_number_of_polls_leaves_nothing() {
    every_drop_leaves_nothing(Duration::ZERO).await;
}

/// The permit may have come since the last poll.
#[tokio::test(start_paused = true)]
async fn a_request_dropped_a_while_after_its_last_poll_leaves_nothing() {
    every_drop_leaves_nothing(Duration::from_millis(100)).await;
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_inner_service_is_passed_on_and_frees_the_unit() {
    let chats = semaphore(1);
    let layer = ZSetSemaphoreLayer::new(chats.clone());
    for probe in [
        Probe::answering([Step::Fail]),
        Probe::answering([Step::Wait, Step::Fail]),
        Probe::readying([Step::Fail]),
        Probe::readying([Step::Wait, Step::Fail]),
    ] {
        let error = layer.layer(probe).oneshot(ask()).await.unwrap_err();
        assert!(matches!(error, Error::Inner(Broken)));
        idle(&chats).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_inner_service_frees_the_unit() {
    let chats = semaphore(1);
    let layer = ZSetSemaphoreLayer::new(chats.clone());
    for probe in [
        Probe { panics_in_call: true, ..Probe::default() },
        Probe::answering([Step::Panic]),
        Probe::answering([Step::Wait, Step::Panic]),
        Probe::readying([Step::Panic]),
        Probe::readying([Step::Wait, Step::Panic]),
        Probe::streaming([Step::Panic]),
        Probe::streaming([Step::Data("token"), Step::Panic]),
    ] {
        let tally = probe.tally.clone();
        let service = layer.layer(probe);
        let request = tokio::spawn(whole(service));
        assert!(request.await.unwrap_err().is_panic());
        assert_eq!(tally.running(), 0);
        idle(&chats).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_weighing_is_the_callers_and_nothing_is_held() {
    let chats = semaphore(1);
    let layer =
        ZSetSemaphoreLayer::new(chats.clone()).weight(|_: &::http::Request<()>| panic!("as told"));
    let mut service = layer.layer(Probe::default());
    let calling = tokio::spawn(async move { drop(service.call(ask())) });
    assert!(calling.await.unwrap_err().is_panic());
    idle(&chats).await;
}

/// After a panic was caught, the future may still be held, and even be polled.
#[tokio::test(start_paused = true)]
async fn a_request_that_panicked_is_not_called_twice() {
    let chats = semaphore(1);
    let probe = Probe { panics_in_call: true, ..Probe::default() };
    let tally = probe.tally.clone();
    let mut request = Box::pin(ZSetSemaphoreLayer::new(chats.clone()).layer(probe).oneshot(ask()));
    for _ in 0..3 {
        let polled = std::panic::AssertUnwindSafe(request.as_mut());
        assert!(futures_util::FutureExt::catch_unwind(polled).await.is_err());
        assert_eq!(tally.called(), 1);
    }
    drop(request);
    idle(&chats).await;
}

#[tokio::test(start_paused = true)]
async fn clones_and_services_of_one_layer_share_one_semaphore() {
    let chats = semaphore(3);
    let probe = Probe {
        answer: [Step::Wait; 5].into(),
        body: vec![Step::Wait, Step::Data("token"), Step::Wait, Step::Data("token")],
        ..Probe::default()
    };
    let tally = probe.tally.clone();
    let layer = ZSetSemaphoreLayer::new(chats.clone());
    let services = [
        layer.layer(probe.clone()),
        layer.clone().layer(probe.clone()),
        ZSetSemaphoreLayer::new(chats.clone()).layer(probe),
    ];
    let requests: Vec<_> = (0..30)
        .map(|n| services[n % services.len()].clone())
        .map(|service| tokio::spawn(whole(service)))
        .collect();
    for request in requests {
        request.await.unwrap();
    }
    assert_eq!((tally.called(), tally.peak(), tally.running()), (30, 3, 0));
    idle(&chats).await;
}

/// The holder of the response decides when to drop it.
#[tokio::test(start_paused = true)]
async fn a_lost_permit_does_not_end_the_response() {
    let chats = semaphore(1);
    let service = ZSetSemaphoreLayer::new(chats.clone()).layer(Probe::streaming([
        Step::Data("to"),
        Step::Wait,
        Step::Data("ken"),
    ]));
    let response = service.oneshot(ask()).await.unwrap();
    let holder = chats.inspect().await.unwrap().holders[0].id;
    chats.kick_now(holder).await.unwrap();
    settled(&chats, 0, 0).await;
    assert_eq!(response.collect().await.unwrap().to_bytes(), "token");
    idle(&chats).await;
}

#[tokio::test(start_paused = true)]
async fn a_body_moved_elsewhere_takes_its_permit_along() {
    let chats = semaphore(1);
    let service =
        ZSetSemaphoreLayer::new(chats.clone()).layer(service_fn(|_: ::http::Request<()>| async {
            Ok::<_, Broken>(::http::Response::new(Script::of([Step::Hang])))
        }));
    let body = service.oneshot(ask()).await.unwrap().into_body();
    let elsewhere = tokio::spawn(async move { body.collect().await });
    settled(&chats, 1, 0).await;
    elsewhere.abort();
    idle(&chats).await;
}
