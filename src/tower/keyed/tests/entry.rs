use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::Client;
use crate::tower::admission::limiter::Limiter;
use crate::tower::keyed::entry::{Entry, KeyState, Unknown, pause};
use crate::tower::keyed::lookup::FinishedLookup;

const REFRESH: Duration = Duration::from_secs(60);

fn limiter(entry: &Entry, limit: u32) -> Arc<Limiter> {
    let semaphore = Client::in_memory().semaphore("s", limit).build().unwrap();
    Limiter::new(semaphore, "s".into(), Arc::clone(&entry.local))
}

fn failed(at: Instant) -> FinishedLookup {
    FinishedLookup { found: Err(Arc::new(std::io::Error::other("no database"))), at }
}

/// The limiter that was replaced.
fn settled(entry: &mut Entry) -> Option<Arc<Limiter>> {
    entry.finish_lookup(REFRESH)?._limiter
}

fn begun(entry: &mut Entry) -> watch::Sender<Option<FinishedLookup>> {
    let (sender, receiver) = watch::channel(None);
    entry.pending_or_begin(|_| receiver);
    sender
}

#[test]
fn a_known_limit_is_used_until_another_one_was_looked_up() {
    let start = Instant::now();
    let mut entry = Entry::new(start);
    assert!(matches!(entry.state(start), KeyState::Due { known: None, .. }));
    let sender = begun(&mut entry);
    assert!(matches!(entry.state(start), KeyState::Unknown(Unknown::Pending(_))));
    assert!(settled(&mut entry).is_none());
    sender.send_replace(Some(FinishedLookup { found: Ok(limiter(&entry, 4)), at: start }));
    drop(sender);
    assert!(settled(&mut entry).is_none());
    assert!(matches!(entry.state(start), KeyState::Known(_)));

    let late = start + REFRESH;
    assert!(matches!(entry.state(late), KeyState::Due { known: Some(_), .. }));
    let sender = begun(&mut entry);
    assert!(matches!(entry.state(late), KeyState::Known(_)), "it is being looked up");
    sender.send_replace(Some(failed(late)));
    assert!(settled(&mut entry).is_none());
    assert!(matches!(entry.state(late + Duration::from_millis(799)), KeyState::Known(_)));
    let retry = late + Duration::from_millis(1200);
    assert!(matches!(entry.state(retry), KeyState::Due { known: Some(_), .. }));
    let found = FinishedLookup { found: Ok(limiter(&entry, 9)), at: retry };
    assert_eq!(entry.update(found, REFRESH)._limiter.unwrap().semaphore.limit(), 4);
    let KeyState::Known(limiter) = entry.state(retry) else { panic!("not known") };
    assert_eq!(limiter.semaphore.limit(), 9);
}

#[test]
fn a_look_up_that_ended_with_its_runtime_is_begun_again_at_once() {
    let start = Instant::now();
    let mut entry = Entry::new(start);
    drop(begun(&mut entry));
    assert!(settled(&mut entry).is_none());
    assert!(matches!(entry.state(start), KeyState::Due { known: None, .. }));
}

#[test]
fn pauses_grow_with_the_failures_and_are_short_without_a_known_limit() {
    let seconds = |failures, known| {
        let pause = pause(failures, known).as_secs_f64();
        pause / 1.2..=pause / 0.8
    };
    for (failures, known, expected) in [
        (0, true, 1.0),
        (1, true, 2.0),
        (5, true, 32.0),
        (6, true, 60.0),
        (u32::MAX, true, 60.0),
        (0, false, 1.0),
        (2, false, 4.0),
        (3, false, 5.0),
        (u32::MAX, false, 5.0),
    ] {
        let range = seconds(failures, known);
        let near = range.start() - 1e-6..=range.end() + 1e-6;
        assert!(near.contains(&expected), "{failures}: {expected} is not in {range:?}");
    }
}

#[test]
fn a_key_is_in_use_while_anybody_holds_what_is_known_of_it() {
    let start = Instant::now();
    let mut entry = Entry::new(start);
    assert!(!entry.is_in_use());
    let look = entry.state(start);
    assert!(entry.is_in_use(), "somebody is about to find out its limit");
    drop(look);
    let sender = begun(&mut entry);
    assert!(entry.is_in_use(), "its limit is being looked up");
    sender.send_replace(Some(FinishedLookup { found: Ok(limiter(&entry, 1)), at: start }));
    drop(sender);
    assert!(settled(&mut entry).is_none());
    assert!(!entry.is_in_use());
    let KeyState::Known(first) = entry.state(start) else { panic!("not known") };
    assert!(entry.is_in_use());
    let second = FinishedLookup { found: Ok(limiter(&entry, 2)), at: start };
    drop(entry.update(second, REFRESH));
    assert!(entry.is_in_use(), "by one who came in under the limit of before");
    drop(first);
    assert!(!entry.is_in_use());
}
