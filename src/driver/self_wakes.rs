//! A future that is polled again at once if it wakes itself.
//!
//! # Implementation
//!
//! The driver talks to its connection through channels, so it wakes itself several times in each turn. For
//! the runtime, such a wake-up is a task to schedule. It may wake another worker thread, which costs system
//! calls on both sides. Here a wake-up during a poll only sets a flag, and the future is polled again.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;
use tokio::task::coop::has_budget_remaining;

/// The maximum number of polls in a row. Then other tasks get their turn.
const POLLS: usize = 64;

/// Polls `future` again, within one poll, as long as it wakes itself.
pub(super) struct WithoutSelfWakes<F> {
    future: F,
    flag: Arc<Flag>,
    waker: Waker,
}

impl<F: Future + Unpin> WithoutSelfWakes<F> {
    pub(super) fn new(future: F) -> Self {
        let flag = Arc::<Flag>::default();
        Self { future, waker: Waker::from(Arc::clone(&flag)), flag }
    }
}

impl<F: Future + Unpin> Future for WithoutSelfWakes<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        this.flag.task.register(cx.waker());
        for _ in 0..POLLS {
            this.flag.begin_poll();
            let polled = Pin::new(&mut this.future).poll(&mut Context::from_waker(&this.waker));
            if polled.is_ready() {
                return polled;
            }
            if this.flag.end_poll() {
                return Poll::Pending;
            }
            if !has_budget_remaining() {
                break; // the resources of tokio would only wake it again
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// What is told of the wake-ups of a future.
#[derive(Default)]
struct Flag {
    stage: AtomicU8,
    /// The task that polls the future.
    task: AtomicWaker,
}

impl Flag {
    /// No poll is under way, and none is wanted.
    const ASLEEP: u8 = 0;
    const POLLING: u8 = 1;
    /// Another poll is wanted.
    const WOKEN: u8 = 2;

    fn begin_poll(&self) {
        // Not a store: the poll has to see what was written before the last wake-up.
        self.stage.swap(Self::POLLING, Ordering::SeqCst);
    }

    /// Returns false if the future was woken during the poll.
    fn end_poll(&self) -> bool {
        let (from, to) = (Self::POLLING, Self::ASLEEP);
        self.stage.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.stage.swap(Self::WOKEN, Ordering::SeqCst) == Self::ASLEEP {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Counts the wake-ups that reach the task.
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn polls_of(self_wakes: usize) -> (usize, usize) {
        let (count, mut polls) = (Arc::<Count>::default(), 0);
        let task = Waker::from(Arc::clone(&count));
        let mut future = WithoutSelfWakes::new(poll_fn(|cx| {
            polls += 1;
            if polls <= self_wakes {
                cx.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        }));
        assert!(Pin::new(&mut future).poll(&mut Context::from_waker(&task)).is_pending());
        drop(future);
        (polls, count.0.load(Ordering::SeqCst))
    }

    #[test]
    fn a_self_wake_is_another_poll_and_does_not_reach_the_task() {
        assert_eq!(polls_of(0), (1, 0));
        assert_eq!(polls_of(3), (4, 0));
    }

    #[test]
    fn endless_self_wakes_yield_to_other_tasks() {
        assert_eq!(polls_of(usize::MAX), (POLLS, 1));
    }

    #[test]
    fn a_wake_up_between_polls_reaches_the_task_each_time_it_is_polled() {
        let (count, mut kept) = (Arc::<Count>::default(), None);
        let task = Waker::from(Arc::clone(&count));
        for nth in 1..4 {
            let mut future = WithoutSelfWakes::new(poll_fn(|cx| {
                kept = Some(cx.waker().clone());
                Poll::<()>::Pending
            }));
            assert!(Pin::new(&mut future).poll(&mut Context::from_waker(&task)).is_pending());
            let waker: Waker = kept.take().unwrap();
            waker.wake_by_ref();
            waker.wake(); // it is to be polled already
            assert_eq!(count.0.load(Ordering::SeqCst), nth);
        }
    }
}
