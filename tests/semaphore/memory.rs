//! The store inside this process: names cost nothing but while they are in use.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Builder;
use zset_semaphore::{Client, MemoryStore, Permit, Renew};

const NAMES: u32 = 30_000;
/// Far above what a call takes in a debug build, far below a look at all names.
const LONGEST: Duration = Duration::from_millis(10);

/// What this thread has worked, so that a busy machine does not count.
fn worked() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Everything on this thread: callers and driver.
fn alone<T>(play: impl AsyncFnOnce() -> T) -> T {
    Builder::new_current_thread().enable_all().build().unwrap().block_on(play())
}

fn names(memory: &MemoryStore) -> u32 {
    let shown = format!("{memory:?}");
    let digits: String = shown.chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("{shown} tells no number"))
}

async fn take(client: &Client, name: u32) -> Permit {
    let semaphore = client.semaphore(format!("tenant-{name}"), 1).renew(Renew::Manual);
    let semaphore = semaphore.lease(Duration::from_secs(3600)).build().unwrap();
    let permit = semaphore.acquire(1).await.unwrap();
    drop(semaphore);
    tokio::task::yield_now().await; // the driver's share
    permit
}

/// How often the longest call may be too long: the machine may take a core away for a moment. What is due to the
/// number of names comes each time.
const PLAYS: u32 = 3;

/// Plays until all calls are short.
fn all_are_short(play: impl Fn() -> Vec<Longest>) {
    for left in (0..PLAYS).rev() {
        let too_long: Vec<_> = play().into_iter().filter(Longest::is_too_long).collect();
        if too_long.is_empty() {
            return;
        }
        assert!(left > 0, "of {NAMES} names, {too_long:?}");
    }
}

/// The longest of the calls.
#[derive(Debug)]
struct Longest {
    of: &'static str,
    took: Duration,
    name: u32,
}

impl Longest {
    fn new(of: &'static str) -> Self {
        Self { of, took: Duration::ZERO, name: 0 }
    }

    fn add(&mut self, took: Duration, name: u32) {
        if took > self.took {
            (self.took, self.name) = (took, name);
        }
    }

    fn is_too_long(&self) -> bool {
        let Self { of, took, name } = self;
        println!("the longest {of}: {took:?}, of name {name} of {NAMES}");
        *took >= LONGEST
    }
}

// Behaviour 62
#[test]
fn names_used_in_turn_leave_nothing_behind_and_no_call_works_for_them_all() {
    let play = async || {
        let memory = MemoryStore::new();
        let client = Client::with_memory(&memory);
        let mut longest = Longest::new("use");
        for name in 0..NAMES {
            let start = worked();
            drop(take(&client, name).await);
            tokio::task::yield_now().await;
            longest.add(worked() - start, name);
        }
        assert!(names(&memory) <= 1, "{memory:?}");
        vec![longest]
    };
    all_are_short(|| alone(play));
}

// Behaviour 62
#[test]
fn no_call_works_for_all_the_names_that_are_held() {
    let play = async || {
        let memory = MemoryStore::new();
        let client = Client::with_memory(&memory);
        let (mut acquire, mut release) = (Longest::new("acquire"), Longest::new("release"));
        let mut held = Vec::with_capacity(NAMES as usize);
        for name in 0..NAMES {
            let start = worked();
            held.push(take(&client, name).await);
            acquire.add(worked() - start, name);
        }
        assert_eq!(names(&memory), NAMES);
        for (name, permit) in (0..NAMES).zip(held) {
            let start = worked();
            drop(permit);
            tokio::task::yield_now().await;
            release.add(worked() - start, name);
        }
        assert!(names(&memory) <= 1, "{memory:?}");
        vec![acquire, release]
    };
    all_are_short(|| alone(play));
}

// Behaviour 62, invariant 6
#[tokio::test(start_paused = true)]
async fn names_whose_holders_vanished_go_when_their_time_is_over_but_overrides_stay() {
    let memory = MemoryStore::new();
    let gone = Client::with_memory(&memory);
    let client = Client::with_memory(&memory);
    for name in 0..100 {
        std::mem::forget(take(&gone, name).await);
    }
    drop(gone);
    let paused = client.semaphore("paused", 1).build().unwrap();
    paused.set_limit(0).await.unwrap();
    tokio::time::sleep(Duration::from_secs(365 * 24 * 3600)).await;
    let semaphore = client.semaphore("busy", 1).build().unwrap();
    for _ in 0..200 {
        semaphore.acquire(1).await.unwrap().release().await.unwrap();
    }
    assert!(names(&memory) <= 2, "{memory:?}");
    assert_eq!(paused.inspect().await.unwrap().limit_override, Some(0));
}

// Invariant 5
#[tokio::test(start_paused = true)]
async fn tokens_rise_though_the_books_of_a_name_have_gone() {
    let memory = MemoryStore::new();
    let mut last = [0; 3];
    for round in 0..100 {
        let client = Client::with_memory(&memory); // knows no earlier token
        for (name, last) in (0..).zip(&mut last) {
            let permit = take(&client, name).await;
            let token = permit.fencing_token();
            assert!(token > *last, "round {round}: {token} after {last}, at one instant");
            *last = token;
        }
    }
}
