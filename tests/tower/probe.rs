//! Services and bodies that count what runs in them, and wait, fail or panic by a script.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::{HeaderMap, Request, Response};
use futures_util::future::BoxFuture;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Bytes;
use tower::{Service, ServiceExt};
use zset_semaphore::tower::PermitBody;
use zset_semaphore::{Client, ZSetSemaphore};

use test_support::wait::{PATIENCE, eventually, within};

pub fn semaphore(limit: u32) -> ZSetSemaphore {
    Client::in_memory().semaphore("chats", limit).build().unwrap()
}

/// Waits until nothing is held and nobody waits.
#[track_caller]
pub fn idle(semaphore: &ZSetSemaphore) -> impl Future<Output = ()> {
    eventually("nothing held, nobody waiting", PATIENCE, async || {
        let now = semaphore.inspect().await.unwrap();
        now.in_use == 0 && now.waiters_total == 0
    })
}

/// Waits until this many units are in use and this many requests wait.
#[track_caller]
pub fn settled(semaphore: &ZSetSemaphore, in_use: u64, waiting: u64) -> impl Future<Output = ()> {
    eventually("units in use and waiters", PATIENCE, async move || {
        let now = semaphore.inspect().await.unwrap();
        (now.in_use, now.waiters_total) == (in_use, waiting)
    })
}

/// An empty request.
pub fn ask() -> Request<()> {
    Request::new(())
}

/// Sends a request and reads the answer to its end.
pub async fn whole<S>(service: S) -> Bytes
where
    S: Service<Request<()>, Response = Response<PermitBody<Script>>, Error: fmt::Debug>,
{
    let response = within(PATIENCE, service.oneshot(ask())).await.unwrap();
    response.into_body().collect().await.unwrap().to_bytes()
}

/// What an inner service has counted; clones count together.
#[derive(Clone, Default)]
pub struct Tally(Arc<Counts>);

#[derive(Default)]
struct Counts {
    readied: AtomicUsize,
    called: AtomicUsize,
    answered: AtomicUsize,
    running: AtomicUsize,
    peak: AtomicUsize,
}

impl Tally {
    /// How often `poll_ready` was called.
    pub fn readied(&self) -> usize {
        self.0.readied.load(SeqCst)
    }

    pub fn called(&self) -> usize {
        self.0.called.load(SeqCst)
    }

    pub fn answered(&self) -> usize {
        self.0.answered.load(SeqCst)
    }

    pub fn running(&self) -> usize {
        self.0.running.load(SeqCst)
    }

    /// The most requests that ran at once.
    pub fn peak(&self) -> usize {
        self.0.peak.load(SeqCst)
    }

    /// Counts as running until the guard has been dropped.
    pub fn enter(&self) -> Running {
        let running = self.0.running.fetch_add(1, SeqCst) + 1;
        self.0.peak.fetch_max(running, SeqCst);
        Running { tally: self.clone(), leaves_in: Duration::ZERO }
    }
}

pub struct Running {
    tally: Tally,
    leaves_in: Duration,
}

impl Running {
    /// Blocks for this long when dropped, and counts as running meanwhile, so that a request that was let
    /// through too early is seen.
    pub fn leaves_in(mut self, duration: Duration) -> Self {
        self.leaves_in = duration;
        self
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        std::thread::sleep(self.leaves_in);
        self.tally.0.running.fetch_sub(1, SeqCst);
    }
}

/// One step of a future or body.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Pending once, woken at once.
    Wait,
    /// Pending for ever.
    Hang,
    Data(&'static str),
    Trailers,
    Fail,
    Panic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("broken as told")
    }
}

impl std::error::Error for Broken {}

/// Waits, hangs, fails or panics; `Ready(Ok)` for a step that is for bodies.
fn take(step: Step, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
    match step {
        Step::Wait => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
        Step::Hang => Poll::Pending,
        Step::Fail => Poll::Ready(Err(Broken)),
        Step::Panic => panic!("panics as told"),
        Step::Data(_) | Step::Trailers => Poll::Ready(Ok(())),
    }
}

/// A service that goes through its script, once per clone.
#[derive(Clone, Default)]
pub struct Probe {
    pub tally: Tally,
    pub ready: VecDeque<Step>,
    pub panics_in_call: bool,
    pub answer: VecDeque<Step>,
    pub body: Vec<Step>,
    pub leaves_in: Duration,
}

impl Probe {
    /// Answers at once with a body of these steps.
    pub fn streaming(body: impl Into<Vec<Step>>) -> Self {
        Self { body: body.into(), ..Self::default() }
    }

    /// Goes through these steps before it answers.
    pub fn answering(steps: impl Into<VecDeque<Step>>) -> Self {
        Self { answer: steps.into(), ..Self::default() }
    }

    /// Goes through these steps before it is ready.
    pub fn readying(steps: impl Into<VecDeque<Step>>) -> Self {
        Self { ready: steps.into(), ..Self::default() }
    }
}

impl<Req> Service<Req> for Probe {
    type Response = Response<Script>;
    type Error = Broken;
    type Future = BoxFuture<'static, Result<Self::Response, Broken>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.tally.0.readied.fetch_add(1, SeqCst);
        match self.ready.front() {
            Some(Step::Hang) => Poll::Pending,
            _ => self.ready.pop_front().map_or(Poll::Ready(Ok(())), |step| take(step, cx)),
        }
    }

    fn call(&mut self, _: Req) -> Self::Future {
        assert!(self.ready.is_empty(), "called before it was ready");
        self.tally.0.called.fetch_add(1, SeqCst);
        let running = self.tally.enter().leaves_in(self.leaves_in);
        assert!(!self.panics_in_call, "panics as told");
        let (tally, mut steps) = (self.tally.clone(), self.answer.clone());
        let body = Script::of(self.body.clone()).with(running);
        Box::pin(async move {
            poll_fn(|cx| match steps.front() {
                Some(Step::Hang) => Poll::Pending,
                _ => steps.pop_front().map_or(Poll::Ready(Ok(())), |step| take(step, cx)),
            })
            .await?;
            tally.0.answered.fetch_add(1, SeqCst);
            Ok(Response::new(body))
        })
    }
}

/// A body that goes through its steps.
#[derive(Default)]
pub struct Script {
    steps: VecDeque<Step>,
    knows_its_end: bool,
    _running: Option<Running>,
}

impl Script {
    pub fn of(steps: impl Into<VecDeque<Step>>) -> Self {
        Self { steps: steps.into(), knows_its_end: true, _running: None }
    }

    /// `is_end_stream` is always false, as with most streams.
    pub fn without_known_end(mut self) -> Self {
        self.knows_its_end = false;
        self
    }

    fn with(self, running: Running) -> Self {
        Self { _running: Some(running), ..self }
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Some(Step::Hang) = self.steps.front() {
            return Poll::Pending;
        }
        let Some(step) = self.steps.pop_front() else { return Poll::Ready(None) };
        take(step, cx).map(|done| {
            Some(done.map(|()| match step {
                Step::Data(data) => Frame::data(Bytes::from_static(data.as_bytes())),
                _ => Frame::trailers(HeaderMap::new()),
            }))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.knows_its_end && self.steps.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let lengths = self.steps.iter().map(|step| match step {
            Step::Data(data) => data.len() as u64,
            _ => 0,
        });
        SizeHint::with_exact(lengths.sum())
    }
}
