//! The cache entry of a key: its limiter, and when to look up its limit again. Pure.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::limit::LookupError;
use super::lookup::{FinishedLookup, PendingLookup};
use crate::Backoff;
use crate::tower::admission::limiter::{Limiter, LocalState};

/// The longest pause after a failed look-up, if a limit is known.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The longest pause after a failed look-up, if no limit is known. It is short, because requests are
/// rejected during the pause.
const LONGEST_PAUSE_UNKNOWN: Duration = Duration::from_secs(5);

/// What is known of a key when a request comes.
pub(super) enum KeyState {
    Known(Arc<Limiter>),
    /// The limit has to be looked up. A known limiter is used meanwhile.
    Due {
        known: Option<Arc<Limiter>>,
        local: Arc<LocalState>,
    },
    Unknown(Unknown),
}

/// Why the limit is not known.
pub(super) enum Unknown {
    Pending(PendingLookup),
    /// The look-up failed, and the next one begins after this time.
    Failed(LookupError, Duration),
}

/// The cache entry of a key.
pub(super) struct Entry {
    pub(super) local: Arc<LocalState>,
    known: Option<Arc<Limiter>>,
    pending: Option<PendingLookup>,
    /// How often the look-up has failed in a row.
    failures: u32,
    /// The last failure.
    error: Option<LookupError>,
    /// When to look up the limit again; `None` for never.
    due: Option<Instant>,
    last_used: Instant,
}

/// What an entry no longer needs. Dropping the last reference to it may run foreign code, so it is dropped
/// where no lock is held.
#[derive(Default)]
#[must_use = "drop it where no lock is held"]
pub(super) struct Replaced {
    pub(super) _limiter: Option<Arc<Limiter>>,
    _error: Option<LookupError>,
    _pending: Option<PendingLookup>,
}

impl Entry {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            local: Arc::default(),
            known: None,
            pending: None,
            failures: 0,
            error: None,
            due: Some(now),
            last_used: now,
        }
    }

    /// Returns what is known for a request that comes at `now`.
    pub(super) fn state(&mut self, now: Instant) -> KeyState {
        self.last_used = now;
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
            (known, _, _) => KeyState::Due { known: known.clone(), local: Arc::clone(&self.local) },
        }
    }

    /// Returns the look-up under way. If there is none, `begin` begins it; its argument says whether the
    /// last one failed.
    pub(super) fn pending_or_begin(
        &mut self,
        begin: impl FnOnce(bool) -> PendingLookup,
    ) -> PendingLookup {
        let failed = self.failures > 0;
        self.pending.get_or_insert_with(|| begin(failed)).clone()
    }

    /// Takes in the result of the look-up under way, if it has finished.
    pub(super) fn finish_lookup(&mut self, refresh: Duration) -> Option<Replaced> {
        let pending = self.pending.as_ref()?;
        // In this order, since the look-up may finish between the two.
        let is_over = pending.has_changed().is_err();
        let finished = pending.borrow().clone();
        if !is_over && finished.is_none() {
            return None;
        }
        let pending = self.pending.take();
        // Without a result it ended with its runtime, which says nothing about the limit.
        let replaced = finished.map(|finished| self.update(finished, refresh)).unwrap_or_default();
        Some(Replaced { _pending: pending, ..replaced })
    }

    /// Takes in the result of a look-up.
    pub(super) fn update(&mut self, finished: FinishedLookup, refresh: Duration) -> Replaced {
        match finished.found {
            Ok(limiter) => {
                self.failures = 0;
                self.due = finished.at.checked_add(refresh);
                let (limiter, error) = (self.known.replace(limiter), self.error.take());
                Replaced { _limiter: limiter, _error: error, _pending: None }
            }
            Err(error) => {
                let pause = pause(self.failures, self.known.is_some());
                self.due = Some(finished.at + pause);
                self.failures = self.failures.saturating_add(1);
                Replaced { _error: self.error.replace(error), ..Replaced::default() }
            }
        }
    }

    /// Returns whether a request of the key waits or runs, or its limit is being looked up; then the
    /// entry must stay. Each of them holds the limiter, or at least the local state.
    pub(super) fn is_in_use(&self) -> bool {
        let limiters = usize::from(self.known.is_some());
        self.pending.is_some()
            || Arc::strong_count(&self.local) > 1 + limiters
            || self.known.as_ref().is_some_and(|known| Arc::strong_count(known) > 1)
    }

    pub(super) fn is_known(&self) -> bool {
        self.known.is_some()
    }

    pub(super) fn touch(&mut self, now: Instant) {
        self.last_used = now;
    }

    pub(super) fn unused_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.last_used)
    }

    pub(super) fn into_replaced(self) -> Replaced {
        Replaced { _limiter: self.known, _error: self.error, _pending: self.pending }
    }
}

/// Returns the pause after one more failure of a look-up that has failed `failures` times; with jitter, since
/// many keys fail at once.
pub(super) fn pause(failures: u32, is_known: bool) -> Duration {
    let most = if is_known { LONGEST_PAUSE } else { LONGEST_PAUSE_UNKNOWN };
    let mut pauses = Backoff::exponential(Duration::from_secs(1), 2.0, most).jitter(0.2);
    // The pause no longer grows after the tenth failure.
    pauses.nth(failures.min(10) as usize).unwrap_or(most)
}
