//! The future of a request: it waits for its permit, makes the inner service ready, and calls it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;
use tower_service::Service;

use super::admission::future::AdmissionFuture;
use super::admission::permit::{RequestPermit, UntilLost};
use super::mode::hold_body::HoldBody;
use super::mode::{OnRequest, OnResponse};
use super::rejection::{Reason, Rejection};

/// The response future of [`ZSetSemaphoreService`](super::ZSetSemaphoreService).
///
/// It does nothing until polled: the request enters the queue with the first poll.
///
/// # Panics
///
/// When polled after it has ended.
///
/// # Cancel safety
///
/// Dropping it at any point leaves no permit and no queue entry. If the inner service runs, its future is
/// dropped before the permit is released.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<Inner, Req, M = HoldBody>
where
    Inner: Service<<M as OnRequest<Req>>::Request>,
    M: OnRequest<Req>,
{
    mode: M,
    info: M::Info,
    #[pin]
    stage: Stage<Inner, M::Request, M::Queued>,
}

/// The permit is the last field of each stage, so it is released after everything else was dropped.
#[expect(clippy::large_enum_variant, reason = "a box would be an allocation per request")]
#[pin_project(project = StageProj)]
enum Stage<Inner: Service<Req>, Req, Queued> {
    Queued {
        #[pin]
        admission: AdmissionFuture,
        next: Option<(Inner, Queued)>,
    },
    Readying {
        inner: Inner,
        request: Option<Req>,
        held: Held,
    },
    Running {
        #[pin]
        response: Inner::Future,
        held: Held,
    },
    Done,
}

/// The permit while the inner service is made ready and runs.
struct Held {
    /// Resolves when the permit is lost, if that ends the request.
    until_lost: Option<UntilLost>,
    permit: Option<RequestPermit>,
}

/// How the inner service ended, or why the request was rejected.
enum End<Res, E> {
    Responded(Res, RequestPermit),
    Failed(E),
    Rejected(Rejection),
}

type EndOf<Inner, Req> = End<<Inner as Service<Req>>::Response, <Inner as Service<Req>>::Error>;

impl<Inner, Req, M> ResponseFuture<Inner, Req, M>
where
    Inner: Service<<M as OnRequest<Req>>::Request>,
    M: OnRequest<Req>,
{
    pub(crate) fn new(admission: AdmissionFuture, inner: Inner, request: Req, mode: M) -> Self {
        let (info, queued) = mode.take_in(request);
        Self { mode, info, stage: Stage::Queued { admission, next: Some((inner, queued)) } }
    }
}

impl<Inner, Req, M> Future for ResponseFuture<Inner, Req, M>
where
    Inner: Service<<M as OnRequest<Req>>::Request>,
    M: OnRequest<Req>
        + OnResponse<
            Req,
            <Inner as Service<<M as OnRequest<Req>>::Request>>::Response,
            <Inner as Service<<M as OnRequest<Req>>::Request>>::Error,
        >,
{
    type Output = Result<M::Response, M::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let mode = &*this.mode;
        let end = ready!(this.stage.as_mut().poll(mode, cx));
        // The inner future is dropped before the mode can release the permit.
        this.stage.set(Stage::Done);
        Poll::Ready(match end {
            End::Responded(response, permit) => Ok(mode.hold(this.info, response, permit)),
            End::Failed(error) => Err(mode.fail(error)),
            End::Rejected(rejection) => mode.reject(this.info, rejection),
        })
    }
}

impl<Inner: Service<Req>, Req, Queued> Stage<Inner, Req, Queued> {
    /// Runs stage after stage, until one is pending or the request has ended.
    fn poll<In, M>(
        mut self: Pin<&mut Self>,
        mode: &M,
        cx: &mut Context<'_>,
    ) -> Poll<EndOf<Inner, Req>>
    where
        M: OnRequest<In, Request = Req, Queued = Queued>,
    {
        loop {
            match self.as_mut().project() {
                StageProj::Queued { admission, next } => {
                    let queued = next.as_mut().map(|(_, queued)| queued);
                    let permit = match ready!(poll_queued(mode, admission, queued, cx)) {
                        Ok(permit) => permit,
                        Err(rejection) => return Poll::Ready(End::Rejected(rejection)),
                    };
                    let next = next.take();
                    self.set(next.map_or(Self::Done, |(inner, queued)| Self::Readying {
                        inner,
                        request: Some(mode.let_in(queued, &permit)),
                        held: Held::new(permit, mode.ends_when_lost()),
                    }));
                }
                StageProj::Readying { inner, request, held } => {
                    if let Some(rejection) = held.poll_lost(cx) {
                        return Poll::Ready(End::Rejected(rejection));
                    }
                    if let Err(error) = ready!(inner.poll_ready(cx)) {
                        return Poll::Ready(End::Failed(error));
                    }
                    // `None` after a panic in an earlier `call`.
                    let request = request.take();
                    let running = request.map_or(Self::Done, |request| Self::Running {
                        response: inner.call(request),
                        held: held.take(),
                    });
                    self.set(running);
                }
                StageProj::Running { response, held } => return poll_running(response, held, cx),
                StageProj::Done => polled_after_end(),
            }
        }
    }
}

/// Waits for the permit, and polls the queued request during the wait. If the request body fails, most
/// likely because the client has gone, the request is rejected and leaves the queue.
fn poll_queued<In, M: OnRequest<In>>(
    mode: &M,
    mut admission: Pin<&mut AdmissionFuture>,
    queued: Option<&mut M::Queued>,
    cx: &mut Context<'_>,
) -> Poll<Result<RequestPermit, Rejection>> {
    if let Poll::Ready(admitted) = admission.as_mut().poll(cx) {
        return Poll::Ready(admitted);
    }
    let Some(queued) = queued else { return Poll::Pending };
    ready!(mode.poll_queued(queued, cx));
    match admission.give_up(Reason::RequestBody) {
        Some(rejection) => Poll::Ready(Err(rejection)),
        None => Poll::Pending,
    }
}

/// Runs the inner service. The permit stays in `held` until there is a response. So the future of the inner
/// service is always dropped before the permit.
fn poll_running<F, Res, E>(
    response: Pin<&mut F>,
    held: &mut Held,
    cx: &mut Context<'_>,
) -> Poll<End<Res, E>>
where
    F: Future<Output = Result<Res, E>>,
{
    if let Some(rejection) = held.poll_lost(cx) {
        return Poll::Ready(End::Rejected(rejection));
    }
    Poll::Ready(match ready!(response.poll(cx)) {
        Ok(response) => {
            let permit = held.permit.take().unwrap_or_else(RequestPermit::weightless);
            End::Responded(response, permit)
        }
        Err(error) => End::Failed(error),
    })
}

#[expect(clippy::panic, reason = "the contract of `Future`")]
fn polled_after_end() -> ! {
    panic!("`ResponseFuture` polled after it has ended")
}

impl Held {
    fn new(permit: RequestPermit, ends_when_lost: bool) -> Self {
        let until_lost = ends_when_lost.then(|| permit.until_lost()).flatten();
        Self { until_lost, permit: Some(permit) }
    }

    fn take(&mut self) -> Self {
        Self { until_lost: self.until_lost.take(), permit: self.permit.take() }
    }

    /// Returns the rejection of a request whose permit is lost, if that ends it.
    fn poll_lost(&mut self, cx: &mut Context<'_>) -> Option<Rejection> {
        match self.until_lost.as_mut()?.as_mut().poll(cx) {
            Poll::Ready(reason) => self.permit.as_ref()?.reject_lost(reason),
            Poll::Pending => None,
        }
    }
}

// By hand: neither the services nor the requests need to be `Debug`.
impl<Inner, Req, M> fmt::Debug for ResponseFuture<Inner, Req, M>
where
    Inner: Service<<M as OnRequest<Req>>::Request>,
    M: OnRequest<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (stage, permit) = match &self.stage {
            Stage::Queued { .. } => ("queued", &None),
            Stage::Readying { held, .. } => ("readying", &held.permit),
            Stage::Running { held, .. } => ("running", &held.permit),
            Stage::Done => ("done", &None),
        };
        f.debug_struct("ResponseFuture")
            .field("stage", &stage)
            .field("permit", permit)
            .finish_non_exhaustive()
    }
}
