//! Behaviour 42: what a permit is held for is dropped before the permit. Drops are slow here, so that a
//! request that is let through too early would run beside the one that is being dropped.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt;
use tokio::sync::Notify;
use tower::{Layer, ServiceExt, service_fn};
use zset_semaphore::tower::{Error, ZSetSemaphoreLayer};

use crate::probe::{Broken, Probe, Running, Step, Tally, ask, idle, semaphore};
use test_support::wait::{PATIENCE, within};

const LEAVES_IN: Duration = Duration::from_millis(2);

/// Ends at once or never, and keeps its guard until it is dropped.
struct Kept {
    _running: Running,
    outcome: Poll<Result<(), Broken>>,
}

impl Kept {
    fn new(tally: &Tally, outcome: Poll<Result<(), Broken>>) -> Self {
        Self { _running: tally.enter().leaves_in(LEAVES_IN), outcome }
    }
}

impl Future for Kept {
    type Output = Result<(), Broken>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        self.outcome
    }
}

/// Runs twenty requests at once.
async fn one_at_a_time<F>(tally: &Tally, request: impl Fn() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let crowd: Vec<_> = (0..20).map(|_| tokio::spawn(request())).collect();
    for request in crowd {
        within(PATIENCE, request).await.unwrap();
    }
    assert_eq!((tally.peak(), tally.running()), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_future_that_is_dropped_goes_before_its_permit() {
    let (chats, tally) = (semaphore(1), Tally::default());
    let inner = {
        let tally = tally.clone();
        service_fn(move |started: Arc<Notify>| {
            started.notify_one();
            Kept::new(&tally, Poll::Pending)
        })
    };
    let service = ZSetSemaphoreLayer::new(chats.clone()).release_on_response().layer(inner);
    one_at_a_time(&tally, || {
        let service = service.clone();
        async move {
            let started = Arc::new(Notify::new());
            tokio::select! {
                _ = service.oneshot(Arc::clone(&started)) => panic!("ended"),
                () = started.notified() => {}
            }
        }
    })
    .await;
    idle(&chats).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_future_that_has_answered_or_failed_goes_before_its_permit() {
    for outcome in [Ok(()), Err(Broken)] {
        let (chats, tally) = (semaphore(1), Tally::default());
        let inner = {
            let tally = tally.clone();
            service_fn(move |()| Kept::new(&tally, Poll::Ready(outcome)))
        };
        let service = ZSetSemaphoreLayer::new(chats.clone()).release_on_response().layer(inner);
        one_at_a_time(&tally, || {
            let service = service.clone();
            async move {
                match service.oneshot(()).await {
                    Ok(()) => assert_eq!(outcome, Ok(())),
                    Err(Error::Inner(error)) => assert_eq!(outcome, Err(error)),
                    Err(other) => panic!("{other}"),
                }
            }
        })
        .await;
        idle(&chats).await;
    }
}

async fn a_body_goes_before_its_permit(read_to_the_end: bool) {
    let chats = semaphore(1);
    let probe = Probe { leaves_in: LEAVES_IN, ..Probe::streaming([Step::Data("token")]) };
    let tally = probe.tally.clone();
    let service = ZSetSemaphoreLayer::new(chats.clone()).layer(probe);
    one_at_a_time(&tally, || {
        let service = service.clone();
        async move {
            let mut body = service.oneshot(ask()).await.unwrap().into_body();
            if read_to_the_end {
                body.frame().await.unwrap().unwrap();
                // It is still in our hands.
                tokio::task::yield_now().await;
            }
            drop(body);
        }
    })
    .await;
    idle(&chats).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_dropped_goes_before_its_permit() {
    a_body_goes_before_its_permit(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_at_its_end_goes_before_its_permit() {
    a_body_goes_before_its_permit(true).await;
}
