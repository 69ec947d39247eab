//! The effects of replies: all of them run, once, and where the runtime has other workers only after the
//! task that caused them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use crate::driver::burst::{Burst, Yielded};
use crate::driver::deferred::Effect;

#[derive(Default)]
struct Counted(AtomicUsize);

impl Wake for Counted {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Counted {
    fn woken(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// A burst that wakes the same caller `times` times.
fn burst(caller: &Arc<Counted>, times: usize) -> Burst {
    let mut burst = Burst::default();
    for _ in 0..times {
        burst.add(vec![Effect::Wake(Waker::from(Arc::clone(caller)))]);
    }
    burst
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_callers_are_woken_after_the_poll_that_has_an_answer_for_them() {
    let caller = Arc::new(Counted::default());
    let woken = Arc::clone(&caller);
    let before = tokio::spawn(async move {
        burst(&woken, 3).run();
        let before = woken.woken();
        tokio::task::yield_now().await;
        (before, woken.woken())
    });
    assert_eq!(before.await.unwrap(), (0, 3));
    assert_eq!(caller.woken(), 3, "each once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_caller_is_woken_at_once() {
    let caller = Arc::new(Counted::default());
    let woken = Arc::clone(&caller);
    let task = tokio::spawn(async move {
        burst(&woken, 1).run();
        woken.woken()
    });
    assert_eq!(task.await.unwrap(), 1);
}

#[tokio::test]
async fn callers_are_woken_at_once_where_no_other_worker_sleeps() {
    let caller = Arc::new(Counted::default());
    burst(&caller, 3).run();
    assert_eq!(caller.woken(), 3);
}

#[test]
fn callers_are_woken_if_the_runtime_drops_their_wakers_unused() {
    let caller = Arc::new(Counted::default());
    let unused = Yielded::new(vec![Effect::Wake(Waker::from(Arc::clone(&caller)))]);
    drop(Waker::from(Arc::new(unused)));
    assert_eq!(caller.woken(), 1);
}

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("a waker of somebody else");
    }
}

/// A burst whose first waker panics.
fn burst_with_a_panic(caller: &Arc<Counted>) -> Burst {
    let mut burst = Burst::default();
    for waker in [Waker::from(Arc::new(Panics)), Waker::from(Arc::clone(caller))] {
        burst.add(vec![Effect::Wake(waker)]);
    }
    burst
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waker_that_panics_harms_neither_the_others_nor_the_worker() {
    let caller = Arc::new(Counted::default());
    let woken = Arc::clone(&caller);
    let task = tokio::spawn(async move {
        burst_with_a_panic(&woken).run();
        tokio::task::yield_now().await;
        woken.woken()
    });
    assert_eq!(task.await.unwrap(), 1);
}

#[tokio::test]
async fn a_waker_that_panics_does_not_keep_the_others_asleep_where_they_run_at_once() {
    let caller = Arc::new(Counted::default());
    burst_with_a_panic(&caller).run();
    assert_eq!(caller.woken(), 1);
}

#[tokio::test]
async fn a_burst_that_ran_is_empty() {
    let caller = Arc::new(Counted::default());
    let mut burst = burst(&caller, 2);
    burst.run();
    burst.run();
    assert_eq!(caller.woken(), 2);
}
