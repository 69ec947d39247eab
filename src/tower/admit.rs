//! The wait of one request for its permit.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;

use super::error::Rejection;
use super::select::Terms;
use crate::{Acquire, Permit, ZSetSemaphore};

/// Waits for the permit of a request, or lets it through without one if it weighs nothing.
///
/// # Cancel safety
///
/// As that of [`Acquire`]: dropping it at any point leaves no permit and no queue entry.
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Admit {
    semaphore: ZSetSemaphore,
    #[pin]
    acquire: Option<Acquire>,
}

impl Admit {
    pub(super) fn new(semaphore: ZSetSemaphore, terms: Terms) -> Self {
        let acquire = (terms.units > 0).then(|| {
            let acquire = semaphore.acquire(terms.units);
            match terms.timeout {
                Some(timeout) => acquire.timeout(timeout),
                None => acquire,
            }
        });
        Self { semaphore, acquire }
    }
}

impl Future for Admit {
    type Output = Result<Option<Permit>, Rejection>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        Poll::Ready(match this.acquire.as_pin_mut() {
            Some(acquire) => match ready!(acquire.poll(cx)) {
                Ok(permit) => Ok(Some(permit)),
                Err(reason) => Err(Rejection::new(this.semaphore.name(), reason)),
            },
            None => Ok(None),
        })
    }
}
