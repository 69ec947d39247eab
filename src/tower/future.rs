//! The future of a request: it queues, makes the inner service ready, and runs it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;
use tower_service::Service;

use super::hold::{Hold, HoldBody};
use super::select::{Select, Single};
use crate::Permit;

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
pub struct ResponseFuture<Inner, Req, H = HoldBody, S = Single>
where
    Inner: Service<Req>,
    S: Select<Req>,
{
    hold: H,
    #[pin]
    stage: Stage<Inner, Req, S::Admit>,
}

/// In each stage the permit is the last field: what it is held for is dropped before it.
#[pin_project(project = StageProj)]
enum Stage<Inner: Service<Req>, Req, Admit> {
    Queued {
        #[pin]
        admit: Admit,
        next: Option<(Inner, Req)>,
    },
    Readying {
        inner: Inner,
        request: Option<Req>,
        permit: Option<Permit>,
    },
    Running {
        #[pin]
        response: Inner::Future,
        permit: Option<Permit>,
    },
    Done,
}

impl<Inner, Req, H, S> ResponseFuture<Inner, Req, H, S>
where
    Inner: Service<Req>,
    S: Select<Req>,
{
    pub(super) fn new(admit: S::Admit, inner: Inner, request: Req, hold: H) -> Self {
        Self { hold, stage: Stage::Queued { admit, next: Some((inner, request)) } }
    }
}

impl<Inner, Req, H, S> Future for ResponseFuture<Inner, Req, H, S>
where
    Inner: Service<Req>,
    H: Hold<Inner::Response, Inner::Error>,
    S: Select<Req>,
{
    type Output = Result<H::Response, H::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut stage = this.stage;
        loop {
            match stage.as_mut().project() {
                StageProj::Queued { admit, next } => {
                    let admitted = ready!(admit.poll(cx));
                    let next = next.take();
                    let permit = match admitted {
                        Ok(permit) => permit,
                        Err(rejection) => {
                            stage.set(Stage::Done);
                            return Poll::Ready(this.hold.reject(rejection));
                        }
                    };
                    stage.set(match next {
                        Some((inner, request)) => {
                            Stage::Readying { inner, request: Some(request), permit }
                        }
                        None => Stage::Done,
                    });
                }
                StageProj::Readying { inner, request, permit } => {
                    if let Err(error) = ready!(inner.poll_ready(cx)) {
                        stage.set(Stage::Done);
                        return Poll::Ready(Err(this.hold.fail(error)));
                    }
                    // `None` after a panic in an earlier `call`.
                    let running = request.take().map(|request| Stage::Running {
                        response: inner.call(request),
                        permit: permit.take(),
                    });
                    stage.set(running.unwrap_or(Stage::Done));
                }
                StageProj::Running { response, permit } => {
                    let result = ready!(response.poll(cx));
                    let permit = permit.take();
                    // The inner future goes before the permit can.
                    stage.set(Stage::Done);
                    return Poll::Ready(match result {
                        Ok(response) => Ok(this.hold.hold(response, permit)),
                        Err(error) => Err(this.hold.fail(error)),
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

// By hand: neither the services nor the requests need to be `Debug`.
impl<Inner, Req, H, S> fmt::Debug for ResponseFuture<Inner, Req, H, S>
where
    Inner: Service<Req>,
    S: Select<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (stage, permit) = match &self.stage {
            Stage::Queued { .. } => ("queued", &None),
            Stage::Readying { permit, .. } => ("readying", permit),
            Stage::Running { permit, .. } => ("running", permit),
            Stage::Done => ("done", &None),
        };
        f.debug_struct("ResponseFuture")
            .field("stage", &stage)
            .field("permit", permit)
            .finish_non_exhaustive()
    }
}
