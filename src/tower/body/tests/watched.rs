use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::tower::admission::limiter::Limiter;
use crate::tower::admission::permit::RequestPermit;
use crate::tower::body::end::{EndReason, EndWhen};
use crate::tower::body::permit::PermitBody;
use crate::tower::body::slot::Slot;
use crate::tower::body::watched::WatchedBody;
use crate::{Client, Permit, ZSetSemaphore};

const STALL_TIMEOUT: Duration = Duration::from_secs(5);

/// A body without end. On request it is ended from outside while it is polled.
#[derive(Default)]
struct Endless {
    ends: Option<Arc<OnceLock<Weak<Slot<Self>>>>>,
    _lives: Arc<()>,
}

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;
    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(slot) = self.ends.as_ref().and_then(|ends| ends.get()?.upgrade()) {
            slot.end(EndReason::Stalled(STALL_TIMEOUT));
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"token")))))
    }
}

fn semaphore() -> ZSetSemaphore {
    Client::in_memory().semaphore("chats", 1).build().unwrap()
}

fn watched(chats: &ZSetSemaphore, body: Endless, permit: Permit) -> WatchedBody<Endless> {
    let limiter = Limiter::new(chats.clone(), "chats".into(), Arc::default());
    let permit = RequestPermit::granted(permit, limiter, Duration::ZERO, Instant::now());
    let end_when = EndWhen { lost: true, stall_timeout: Some(STALL_TIMEOUT) };
    let body = PermitBody::new(body, permit);
    assert!(end_when.concerns(&body));
    WatchedBody::new(body, end_when)
}

fn polled(body: &mut WatchedBody<Endless>) -> Option<Result<Bytes, String>> {
    match body.poll_frame(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(frame) => frame.map(|frame| match frame {
            Ok(frame) => Ok(frame.into_data().unwrap()),
            Err(error) => Err(error.to_string()),
        }),
        Poll::Pending => panic!("pending"),
    }
}

#[tokio::test]
async fn a_body_that_is_ended_while_it_is_polled_is_dropped_with_its_last_frame() {
    let chats = semaphore();
    let (ends, lives) = (Arc::new(OnceLock::new()), Arc::new(()));
    let body = Endless { ends: Some(Arc::clone(&ends)), _lives: Arc::clone(&lives) };
    let mut body = watched(&chats, body, chats.acquire(1).await.unwrap());
    assert_eq!(polled(&mut body), Some(Ok("token".into())));
    ends.set(Arc::downgrade(&body.slot)).unwrap();
    let end = Some(Err("the reader took nothing of the body for 5s".to_owned()));
    assert_eq!(polled(&mut body), end);
    assert_eq!(Arc::strong_count(&lives), 1, "it is dropped");
    assert_eq!(polled(&mut body), None);
    drop(chats.acquire(1).await.unwrap());
}

/// There is neither a task nor a timer.
#[test]
fn outside_a_runtime_a_poll_notices_the_loss() {
    let (runtime, chats) = (Runtime::new().unwrap(), semaphore());
    let permit = runtime.block_on(async { chats.acquire(1).await.unwrap() });
    let id = permit.id();
    let mut body = watched(&chats, Endless::default(), permit);
    assert_eq!(polled(&mut body), Some(Ok("token".into())));
    runtime.block_on(async { chats.kick(id).await.unwrap() });
    while chats.last_known().in_use != Some(0) {
        runtime.block_on(tokio::task::yield_now());
    }
    let end = Some(Err("the permit was lost: it was kicked".to_owned()));
    assert_eq!(polled(&mut body), end);
    assert_eq!(polled(&mut body), None);
}

/// The watcher may live on for a while.
#[tokio::test]
async fn a_watched_body_that_is_dropped_drops_the_inner_body_at_once() {
    let chats = semaphore();
    let lives = Arc::new(());
    let body = Endless { _lives: Arc::clone(&lives), ends: None };
    drop(watched(&chats, body, chats.acquire(1).await.unwrap()));
    assert_eq!(Arc::strong_count(&lives), 1);
}
