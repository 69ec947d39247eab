//! Whether the next turns wait for callers that are about to speak.
//!
//! # Implementation
//!
//! The callers that the answers of one poll have woken run one after the other, and each may want something
//! at once. The driver runs after them, so that they share one turn, or at least the bytes that go out
//! together. A caller that was alone is not waited for.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::task::yield_now;

/// The number of tasks that the runtime polls at most before it looks after those that have yielded: the
/// default `event_interval` of tokio.
const AT_ONCE: usize = 61;

#[derive(Default)]
pub(super) enum Gathering {
    /// Nobody is expected.
    #[default]
    No,
    /// This number of callers was woken. None of them has spoken yet.
    Expected(usize),
    /// The first of them has spoken.
    Now {
        /// The runtime polls this after other tasks.
        others: Pin<Box<dyn Future<Output = ()> + Send>>,
        /// How many callers are perhaps not among those tasks.
        more: usize,
    },
}

impl Gathering {
    fn begin(callers: usize) -> Self {
        Self::Now { others: Box::pin(yield_now()), more: callers.saturating_sub(AT_ONCE) }
    }

    /// Notes how many callers the answers of one poll have woken.
    pub(super) fn expect(&mut self, callers: usize) {
        if callers > 1 && matches!(self, Self::No) {
            *self = Self::Expected(callers);
        }
    }

    /// Returns whether it waits for callers now.
    pub(super) fn is_under_way(&self) -> bool {
        matches!(self, Self::Now { .. })
    }

    /// Ready when turns may go out. `has_spoken` returns whether a caller has spoken.
    pub(super) fn poll(
        &mut self,
        has_spoken: impl FnOnce() -> bool,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        if let &mut Self::Expected(callers) = self
            && has_spoken()
        {
            *self = Self::begin(callers);
        }
        while let Self::Now { others, more } = self {
            if others.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            *self = match *more {
                0 => Self::No,
                more => Self::begin(more),
            };
        }
        Poll::Ready(())
    }
}
