//! What this process knows of one key: its semaphore, and when to find out its limit again. Pure.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::Backoff;
use crate::tower::admission::limiter::{Limiter, LocalState};
use crate::tower::keyed::limit::LookupError;

/// No pause between two look-ups of a key that fail is longer: where its limit is known already,
/// and where requests are rejected until it is.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE_UNKNOWN: Duration = Duration::from_secs(5);

/// How a look-up ended.
#[derive(Clone)]
pub(crate) struct FinishedLookup {
    pub(crate) found: Result<Arc<Limiter>, LookupError>,
    pub(crate) at: Instant,
}

/// A look-up under way; `None` until it has ended.
pub(crate) type PendingLookup = watch::Receiver<Option<FinishedLookup>>;

/// What there is to be done for a request of a key.
pub(crate) enum KeyState {
    Known(Arc<Limiter>),
    /// The limit is to be found out; until then what was known before counts.
    Due {
        known: Option<Arc<Limiter>>,
        local_state: Arc<LocalState>,
    },
    Unknown(Unknown),
}

/// Why there is no limit yet.
pub(crate) enum Unknown {
    Pending(PendingLookup),
    /// It could not be looked up, and nobody asks again for this long.
    Failed(LookupError, Duration),
}

pub(crate) struct Entry {
    local_state: Arc<LocalState>,
    known: Option<Arc<Limiter>>,
    pending: Option<PendingLookup>,
    /// How often the look-up has failed in a row, and how it failed last.
    failures: u32,
    error: Option<LookupError>,
    /// When to find out the limit; `None` is never again.
    due: Option<Instant>,
    used: Instant,
}

/// What an entry has no more use for. The last of a handle or an error runs code of others when it
/// goes: it is to be dropped where no lock is held.
#[derive(Default)]
#[must_use]
pub(crate) struct Replaced {
    _handle: Option<Arc<Limiter>>,
    _error: Option<LookupError>,
    _pending: Option<PendingLookup>,
}

impl Entry {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            local_state: Arc::default(),
            known: None,
            pending: None,
            failures: 0,
            error: None,
            due: Some(now),
            used: now,
        }
    }

    pub(crate) fn look(&mut self, now: Instant) -> KeyState {
        self.used = now;
        let is_due = self.due.is_some_and(|due| due <= now);
        match (&self.known, &self.pending, &self.error) {
            (Some(known), pending, _) if pending.is_some() || !is_due => {
                KeyState::Known(Arc::clone(known))
            }
            (None, Some(pending), _) => KeyState::Unknown(Unknown::Pending(pending.clone())),
            (None, None, Some(error)) if !is_due => {
                let left = self.due.map_or(Duration::ZERO, |due| due - now);
                KeyState::Unknown(Unknown::Failed(Arc::clone(error), left))
            }
            (known, _, _) => {
                KeyState::Due { known: known.clone(), local_state: Arc::clone(&self.local_state) }
            }
        }
    }

    /// The look-up under way, which is `begin` if there is none; `begin` is told whether the last
    /// one failed.
    pub(crate) fn pending(&mut self, begin: impl FnOnce(bool) -> PendingLookup) -> PendingLookup {
        let failed = self.failures > 0;
        self.pending.get_or_insert_with(|| begin(failed)).clone()
    }

    /// Takes in how the look-up under way ended, if it has.
    pub(crate) fn settle(&mut self, refresh: Duration) -> Option<Replaced> {
        let pending = self.pending.as_ref()?;
        // In this order: it may end between the two.
        let is_over = pending.has_changed().is_err();
        let ended = pending.borrow().clone();
        if !is_over && ended.is_none() {
            return None;
        }
        let pending = self.pending.take();
        // Without an end it went down with its runtime, which says nothing about the limit.
        let replaced = ended.map(|ended| self.learn(ended, refresh)).unwrap_or_default();
        Some(Replaced { _pending: pending, ..replaced })
    }

    /// Takes in what was found out.
    pub(crate) fn learn(&mut self, ended: FinishedLookup, refresh: Duration) -> Replaced {
        match ended.found {
            Ok(limiter) => {
                self.failures = 0;
                self.due = ended.at.checked_add(refresh);
                let (limiter, error) = (self.known.replace(limiter), self.error.take());
                Replaced { _handle: limiter, _error: error, _pending: None }
            }
            Err(error) => {
                let pause = pause(self.failures, self.known.is_some());
                self.due = Some(ended.at + pause);
                self.failures = self.failures.saturating_add(1);
                Replaced { _error: self.error.replace(error), ..Replaced::default() }
            }
        }
    }

    /// Whether a request waits or runs, or its limit is being looked up: this process must not
    /// forget it. Whoever does so holds the handle, or at least what is known here.
    pub(crate) fn is_in_use(&self) -> bool {
        let handles = usize::from(self.known.is_some());
        self.pending.is_some()
            || Arc::strong_count(&self.local_state) > 1 + handles
            || self.known.as_ref().is_some_and(|known| Arc::strong_count(known) > 1)
    }

    pub(crate) fn is_known(&self) -> bool {
        self.known.is_some()
    }

    pub(crate) fn touch(&mut self, now: Instant) {
        self.used = now;
    }

    pub(crate) fn unused_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.used)
    }

    pub(crate) fn into_replaced(self) -> Replaced {
        Replaced { _handle: self.known, _error: self.error, _pending: self.pending }
    }
}

/// How long to wait when one more look-up has failed after `failures` failures; jittered, since many keys
/// fail at once.
fn pause(failures: u32, is_known: bool) -> Duration {
    let most = if is_known { LONGEST_PAUSE } else { LONGEST_PAUSE_UNKNOWN };
    let mut pauses = Backoff::exponential(Duration::from_secs(1), 2.0, most).jitter(0.2);
    // Beyond the tenth they are all the same.
    pauses.nth(failures.min(10) as usize).unwrap_or(most)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::Client;

    const REFRESH: Duration = Duration::from_secs(60);

    fn limiter(entry: &Entry, limit: u32) -> Arc<Limiter> {
        let semaphore = Client::in_memory().semaphore("s", limit).build().unwrap();
        Limiter::new(semaphore, "s".into(), Arc::clone(&entry.local_state))
    }

    fn failed(at: Instant) -> FinishedLookup {
        FinishedLookup { found: Err(Arc::new(std::io::Error::other("no database"))), at }
    }

    /// The handle that was replaced.
    fn settled(entry: &mut Entry) -> Option<Arc<Limiter>> {
        entry.settle(REFRESH)?._handle
    }

    fn begun(entry: &mut Entry) -> watch::Sender<Option<FinishedLookup>> {
        let (sender, receiver) = watch::channel(None);
        entry.pending(|_| receiver);
        sender
    }

    #[test]
    fn what_is_known_counts_until_something_else_was_found_out() {
        let start = Instant::now();
        let mut entry = Entry::new(start);
        assert!(matches!(entry.look(start), KeyState::Due { known: None, .. }));
        let sender = begun(&mut entry);
        assert!(matches!(entry.look(start), KeyState::Unknown(Unknown::Pending(_))));
        assert!(settled(&mut entry).is_none());
        sender.send_replace(Some(FinishedLookup { found: Ok(limiter(&entry, 4)), at: start }));
        drop(sender);
        assert!(settled(&mut entry).is_none());
        assert!(matches!(entry.look(start), KeyState::Known(_)));

        let late = start + REFRESH;
        assert!(matches!(entry.look(late), KeyState::Due { known: Some(_), .. }));
        let sender = begun(&mut entry);
        assert!(matches!(entry.look(late), KeyState::Known(_)), "it is being looked up");
        sender.send_replace(Some(failed(late)));
        assert!(settled(&mut entry).is_none());
        assert!(matches!(entry.look(late + Duration::from_millis(799)), KeyState::Known(_)));
        let retry = late + Duration::from_millis(1200);
        assert!(matches!(entry.look(retry), KeyState::Due { known: Some(_), .. }));
        let found = FinishedLookup { found: Ok(limiter(&entry, 9)), at: retry };
        assert_eq!(entry.learn(found, REFRESH)._handle.unwrap().semaphore.limit(), 4);
        let KeyState::Known(limiter) = entry.look(retry) else { panic!("not known") };
        assert_eq!(limiter.semaphore.limit(), 9);
    }

    #[test]
    fn a_look_up_that_went_down_with_its_runtime_is_begun_again_at_once() {
        let start = Instant::now();
        let mut entry = Entry::new(start);
        drop(begun(&mut entry));
        assert!(settled(&mut entry).is_none());
        assert!(matches!(entry.look(start), KeyState::Due { known: None, .. }));
    }

    #[test]
    fn pauses_grow_with_the_failures_and_are_short_where_nothing_is_known() {
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
        let look = entry.look(start);
        assert!(entry.is_in_use(), "somebody is about to find out its limit");
        drop(look);
        let sender = begun(&mut entry);
        assert!(entry.is_in_use(), "its limit is being looked up");
        sender.send_replace(Some(FinishedLookup { found: Ok(limiter(&entry, 1)), at: start }));
        drop(sender);
        assert!(settled(&mut entry).is_none());
        assert!(!entry.is_in_use());
        let KeyState::Known(first) = entry.look(start) else { panic!("not known") };
        assert!(entry.is_in_use());
        let second = FinishedLookup { found: Ok(limiter(&entry, 2)), at: start };
        drop(entry.learn(second, REFRESH));
        assert!(entry.is_in_use(), "by one who came in under the limit of before");
        drop(first);
        assert!(!entry.is_in_use());
    }
}
