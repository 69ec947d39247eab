//! The future of a request: it queues, makes the inner service ready, and runs it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;
use tower_service::Service;

use super::admit::AdmissionFuture;
use super::error::{Reason, Rejection};
use super::hold::{self, HoldBody, OnRequest, OnResponse};
use super::pass::{Pass, UntilLost};

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
/// Dropping it at any point leaves no permit and no queue entry. If the inner service runs, it is
/// dropped before its permit goes back.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<Inner, Req, H = HoldBody>
where
    Inner: Service<<H as OnRequest<Req>>::Request>,
    H: OnRequest<Req>,
{
    hold: H,
    asked: H::Asked,
    #[pin]
    stage: Stage<Inner, H::Request, H::Queued>,
}

/// In each stage the pass is the last field: what it is held for is dropped before it.
#[pin_project(project = StageProj)]
enum Stage<Inner: Service<Req>, Req, Queued> {
    Queued {
        #[pin]
        admit: AdmissionFuture,
        next: Option<(Inner, Queued)>,
    },
    Readying {
        inner: Inner,
        request: Option<Req>,
        /// Resolves when the permit is lost, where that ends the request.
        lost: Option<UntilLost>,
        pass: Option<Pass>,
    },
    Running {
        #[pin]
        response: Inner::Future,
        lost: Option<UntilLost>,
        pass: Option<Pass>,
    },
    Done,
}

impl<Inner, Req, H> ResponseFuture<Inner, Req, H>
where
    Inner: Service<<H as OnRequest<Req>>::Request>,
    H: OnRequest<Req>,
{
    pub(super) fn new(admit: AdmissionFuture, inner: Inner, request: Req, hold: H) -> Self {
        let (asked, queued) = hold.take_in(request);
        Self { hold, asked, stage: Stage::Queued { admit, next: Some((inner, queued)) } }
    }
}

impl<Inner, Req, H> Future for ResponseFuture<Inner, Req, H>
where
    Inner: Service<<H as OnRequest<Req>>::Request>,
    H: OnRequest<Req>
        + OnResponse<
            Req,
            <Inner as Service<<H as OnRequest<Req>>::Request>>::Response,
            <Inner as Service<<H as OnRequest<Req>>::Request>>::Error,
        >,
{
    type Output = Result<H::Response, H::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (hold, asked, mut stage) = (&*this.hold, &*this.asked, this.stage);
        loop {
            match stage.as_mut().project() {
                StageProj::Queued { mut admit, next } => {
                    let Poll::Ready(admitted) = admit.as_mut().poll(cx) else {
                        if let Some((_, queued)) = next
                            && hold.poll_queued(queued, cx).is_ready()
                            && let Some(rejection) = admit.give_up(Reason::RequestBody)
                        {
                            stage.set(Stage::Done);
                            return Poll::Ready(hold.reject(asked, rejection));
                        }
                        return Poll::Pending;
                    };
                    let next = next.take();
                    let pass = match admitted {
                        Ok(pass) => pass,
                        Err(rejection) => {
                            stage.set(Stage::Done);
                            return Poll::Ready(hold.reject(asked, rejection));
                        }
                    };
                    stage.set(match next {
                        Some((inner, queued)) => Stage::Readying {
                            inner,
                            request: Some(hold.let_in(queued, &pass)),
                            lost: hold.ends_when_lost().then(|| pass.until_lost()).flatten(),
                            pass: Some(pass),
                        },
                        None => Stage::Done,
                    });
                }
                StageProj::Readying { inner, request, lost, pass } => {
                    if let Some(rejection) = poll_lost(lost, pass, cx) {
                        stage.set(Stage::Done);
                        return Poll::Ready(hold.reject(asked, rejection));
                    }
                    if let Err(error) = ready!(inner.poll_ready(cx)) {
                        stage.set(Stage::Done);
                        return Poll::Ready(Err(hold.fail(error)));
                    }
                    // `None` after a panic in an earlier `call`.
                    let running = request.take().map(|request| Stage::Running {
                        response: inner.call(request),
                        lost: lost.take(),
                        pass: pass.take(),
                    });
                    stage.set(running.unwrap_or(Stage::Done));
                }
                StageProj::Running { response, lost, pass } => {
                    if let Some(rejection) = poll_lost(lost, pass, cx) {
                        stage.set(Stage::Done);
                        return Poll::Ready(hold.reject(asked, rejection));
                    }
                    let result = ready!(response.poll(cx));
                    let pass = pass.take();
                    // The inner future goes before the permit can.
                    stage.set(Stage::Done);
                    return Poll::Ready(match (result, pass) {
                        (Ok(response), Some(pass)) => Ok(hold.hold(asked, response, pass)),
                        (Ok(response), None) => Ok(hold.hold(asked, response, Pass::weightless())),
                        (Err(error), _) => Err(hold.fail(error)),
                    });
                }
                StageProj::Done => {
                    #[expect(clippy::panic, reason = "the contract of `Future`")]
                    {
                        panic!("`ResponseFuture` polled after it has ended")
                    }
                }
            }
        }
    }
}

/// What a request ends with whose permit is lost, where that ends it.
fn poll_lost(
    lost: &mut Option<UntilLost>,
    pass: &Option<Pass>,
    cx: &mut Context<'_>,
) -> Option<Rejection> {
    match lost.as_mut()?.as_mut().poll(cx) {
        Poll::Ready(reason) => hold::lost(pass.as_ref()?, reason),
        Poll::Pending => None,
    }
}

// By hand: neither the services nor the requests need to be `Debug`.
impl<Inner, Req, H> fmt::Debug for ResponseFuture<Inner, Req, H>
where
    Inner: Service<<H as OnRequest<Req>>::Request>,
    H: OnRequest<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (stage, pass) = match &self.stage {
            Stage::Queued { .. } => ("queued", &None),
            Stage::Readying { pass, .. } => ("readying", pass),
            Stage::Running { pass, .. } => ("running", pass),
            Stage::Done => ("done", &None),
        };
        f.debug_struct("ResponseFuture")
            .field("stage", &stage)
            .field("permit", pass)
            .finish_non_exhaustive()
    }
}
