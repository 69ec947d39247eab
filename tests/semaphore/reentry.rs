//! Wakers are somebody else's code: they may own permits, and give them back wherever they are run, cloned or dropped.

use std::future::Future;
use std::pin::pin;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use tokio::runtime::{Builder, Runtime};
use zset_semaphore::{Client, Permit, Renew, ZSetSemaphore};

use test_support::wait::PATIENCE;

/// Owns a permit until it is woken or nobody has it any more.
struct Owner(Mutex<Option<Permit>>);

impl Wake for Owner {
    fn wake(self: Arc<Self>) {
        let permit = self.0.lock().unwrap().take();
        drop(permit); // which may wake this once more
    }
}

fn owner(runtime: &Runtime, semaphore: &ZSetSemaphore) -> Waker {
    let permit = runtime.block_on(semaphore.acquire(1)).unwrap();
    Arc::new(Owner(Mutex::new(Some(permit)))).into()
}

/// Polls once with that waker, which nobody else keeps.
fn poll<F: Future>(future: std::pin::Pin<&mut F>, waker: Waker) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(&waker))
}

/// Runs `play` with a semaphore of 16 on a runtime that it has to itself; a deadlock fails instead of hanging.
fn within_time(play: impl FnOnce(&Runtime, &ZSetSemaphore) + Send + 'static) {
    let (done, ended) = channel();
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().start_paused(true).build();
        let runtime = runtime.unwrap();
        let _inside = runtime.enter();
        let client = Client::in_memory();
        let semaphore = client.semaphore("s", 16).renew(Renew::Manual).build().unwrap();
        play(&runtime, &semaphore);
        done.send(()).unwrap();
    });
    ended.recv_timeout(PATIENCE).expect("no deadlock, and no panic above");
}

/// Leaves no unit, so that acquires wait.
fn fill(runtime: &Runtime, semaphore: &ZSetSemaphore, taken: u32) -> Permit {
    runtime.block_on(semaphore.acquire(16 - taken)).unwrap()
}

#[test]
fn a_waker_that_owns_a_permit_is_replaced() {
    within_time(|runtime, semaphore| {
        let waker = owner(runtime, semaphore);
        let _full = fill(runtime, semaphore, 1);
        let mut waiting = pin!(semaphore.acquire(16));
        assert!(poll(waiting.as_mut(), waker).is_pending());
        assert!(poll(waiting.as_mut(), Waker::noop().clone()).is_pending());
        assert_eq!(runtime.block_on(semaphore.inspect()).unwrap().in_use, 15);
    });
}

#[test]
fn a_waiter_is_dropped_with_its_waker_that_owns_a_permit() {
    within_time(|runtime, semaphore| {
        let waker = owner(runtime, semaphore);
        let _full = fill(runtime, semaphore, 1);
        let mut waiting = Box::pin(semaphore.acquire(16));
        assert!(poll(waiting.as_mut(), waker).is_pending());
        drop(waiting);
        assert_eq!(runtime.block_on(semaphore.inspect()).unwrap().in_use, 15);
    });
}

#[test]
fn a_grant_wakes_a_waker_that_owns_a_permit() {
    within_time(|runtime, semaphore| {
        let waker = owner(runtime, semaphore);
        let full = fill(runtime, semaphore, 1);
        let mut waiting = pin!(semaphore.acquire(1));
        assert!(poll(waiting.as_mut(), waker).is_pending());
        drop(full);
        assert_eq!(runtime.block_on(semaphore.inspect()).unwrap().in_use, 1);
    });
}

#[test]
fn the_end_of_a_lease_wakes_a_waker_that_owns_a_permit_of_the_same_name() {
    within_time(|runtime, semaphore| {
        let watched = runtime.block_on(semaphore.acquire(1)).unwrap();
        let waker = owner(runtime, semaphore);
        let mut lost = pin!(watched.lost());
        assert!(poll(lost.as_mut(), waker).is_pending());
        runtime.block_on(tokio::time::sleep(PATIENCE * 6));
        assert!(poll(lost, Waker::noop().clone()).is_ready());
    });
}

#[test]
fn a_kick_wakes_a_waker_that_owns_a_permit_of_the_same_name() {
    within_time(|runtime, semaphore| {
        let watched = runtime.block_on(semaphore.acquire(1)).unwrap();
        let waker = owner(runtime, semaphore);
        let mut lost = pin!(watched.lost());
        assert!(poll(lost.as_mut(), waker).is_pending());
        runtime.block_on(semaphore.kick(watched.id())).unwrap();
        runtime.block_on(watched.lost());
        // The one that was kicked is still held; that of the waker is not.
        assert_eq!(runtime.block_on(semaphore.inspect()).unwrap().in_use, 1);
    });
}
