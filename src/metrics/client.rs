//! The instruments of one client: its connections, its turns, and those of its semaphores.

use std::sync::{Arc, Mutex};

use ::metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use rustc_hash::FxHashMap;
use tokio::time::Instant;

use super::describe::describe;
use super::label;
use super::listener;
use super::names::{CONNECTED, CONNECTS_TOTAL, TURN_IDS, TURN_SECONDS, TURNS_TOTAL};
use super::outcome::TurnEnd;
use super::semaphore::{Instruments, Meter};
use super::share::Share;
use crate::sync::lock;

/// The metrics of one client. It is empty if no recorder was installed when the client was made.
#[derive(Debug)]
pub(crate) struct ClientMeter(Option<ClientInstruments>);

#[derive(Debug)]
struct ClientInstruments {
    connected: Gauge,
    opened: Counter,
    failed: Counter,
    turns: [Counter; TurnEnd::ALL.len()],
    turn_seconds: Histogram,
    turn_ids: Histogram,
    /// By the value of the label. There are few, because the label is bounded.
    semaphores: Mutex<FxHashMap<Arc<str>, Arc<Instruments>>>,
}

/// A connection that is open.
#[derive(Debug)]
pub(crate) struct Connected(#[expect(dead_code, reason = "a drop guard")] Option<Share>);

/// When a turn was sent, and how many ids it names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SentAt {
    at: Instant,
    ids: usize,
}

impl SentAt {
    pub(crate) fn new(at: Instant, ids: usize) -> Self {
        Self { at, ids }
    }
}

impl ClientMeter {
    pub(crate) fn new() -> Self {
        Self(listener::is_there().then(|| {
            describe();
            ClientInstruments::new()
        }))
    }

    /// Returns the present instant, or `before` if nobody asks for it.
    pub(crate) fn present(&self, before: Instant) -> Instant {
        if self.0.is_some() { Instant::now() } else { before }
    }

    /// Returns the meter of a semaphore.
    pub(crate) fn of(&self, name: &str) -> Meter {
        Meter(self.0.as_ref().map(|instruments| instruments.of(name)))
    }

    /// A connection was opened.
    pub(crate) fn connected(&self) -> Connected {
        Connected(self.0.as_ref().map(|instruments| {
            instruments.opened.increment(1);
            let mut share = Share::of(&instruments.connected);
            share.set(1);
            share
        }))
    }

    /// A connection could not be opened.
    pub(crate) fn failed_to_connect(&self) {
        if let Some(instruments) = &self.0 {
            instruments.failed.increment(1);
        }
    }

    /// A turn has landed.
    pub(crate) fn landed(&self, sent: SentAt, end: TurnEnd, now: impl FnOnce() -> Instant) {
        if let Some(instruments) = &self.0 {
            instruments.turns[end as usize].increment(1);
            instruments.turn_seconds.record(now().saturating_duration_since(sent.at));
            instruments.turn_ids.record(sent.ids as f64);
        }
    }
}

impl ClientInstruments {
    fn new() -> Self {
        Self {
            connected: gauge!(CONNECTED),
            opened: counter!(CONNECTS_TOTAL, "outcome" => "opened"),
            failed: counter!(CONNECTS_TOTAL, "outcome" => "failed"),
            turns: TurnEnd::ALL.map(|end| counter!(TURNS_TOTAL, "outcome" => end.label())),
            turn_seconds: histogram!(TURN_SECONDS),
            turn_ids: histogram!(TURN_IDS),
            semaphores: Mutex::default(),
        }
    }

    fn of(&self, name: &str) -> Arc<Instruments> {
        let label = label::value_for(name);
        if let Some(known) = lock(&self.semaphores).get(&label) {
            return Arc::clone(known);
        }
        let new = Arc::new(Instruments::new(&label)); // by the recorder, so under no lock
        Arc::clone(lock(&self.semaphores).entry(label).or_insert(new))
    }
}
