//! The driver's task: lets lines send their turns, takes them in, and keeps the timers.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until, timeout};

use crate::error::StoreError;
use crate::store::{Session, TurnOutcome};
use crate::sync::lock;

use super::LineCell;
use super::connection::Connection;
use super::line::Line;
use super::shared::Shared;

/// What a second turn in flight must be worth, in ids of new waiters and of take-backs: less waits for
/// the reply that is on its way, and shares a turn with what comes meanwhile.
const FOLLOWER: Option<usize> = Some(8);

/// After so long without a turn the next one goes out at the first word.
const QUIET: Duration = Duration::from_millis(5);

/// A turn that has come back, and on which connection.
struct Landed {
    cell: Arc<LineCell>,
    number: u64,
    session: Arc<dyn Session>,
    answer: Result<TurnOutcome, StoreError>,
}

type Flying = Pin<Box<dyn Future<Output = Landed> + Send>>;

pub(super) struct Driver {
    shared: Arc<Shared>,
    connection: Connection,
    flying: FuturesUnordered<Flying>,
    timers: BTreeMap<(Instant, u64), Arc<LineCell>>,
    /// When a turn was last sent.
    busy_at: Instant,
    /// Also for a task that its runtime drops before it was ever polled.
    _guard: EndGuard,
}

/// Ends the client when the driver's task ends, also when its runtime drops it.
struct EndGuard(Arc<Shared>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl LineCell {
    /// Takes in the outcome of a turn in flight.
    pub(super) fn take_in(&self, shared: &Shared, number: u64, outcome: TurnOutcome, now: Instant) {
        match outcome {
            TurnOutcome::Answered(reply) => self.peek(|line| line.settle(number, reply, now)),
            TurnOutcome::Stale { epoch } => {
                shared.epoch.fetch_max(epoch, Ordering::SeqCst);
                let error = StoreError::timeout("the turn came too late to count");
                self.peek(|line| line.unanswered(number, &error, now));
            }
        }
    }
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            _guard: EndGuard(Arc::clone(&shared)),
            shared,
            connection: Connection::new(),
            flying: FuturesUnordered::new(),
            timers: BTreeMap::new(),
            busy_at: Instant::now(),
        }
    }

    pub(super) async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        // Who became ready together, by one tick of the timer say, goes into one turn; but after a
        // silence nobody else is expected, and to yield would wake other threads of the runtime.
        let mut gathering: Option<Pin<Box<dyn Future<Output = ()> + Send>>> = None;
        loop {
            if gathering.is_none() {
                for cell in std::mem::take(&mut *lock(&shared.ready)) {
                    cell.ready.store(false, Ordering::SeqCst);
                    self.pump(&cell);
                }
            }
            shared.flushed.notify_waiters();
            if self.connection.lost_unasked(&shared) || self.heed_complaint() {
                self.connection_changed();
            }
            if shared.abandoned.load(Ordering::SeqCst) && self.may_end() {
                return;
            }
            let next = self.timers.first_key_value().map(|((at, _), _)| *at);
            tokio::select! {
                () = shared.work.notified(), if gathering.is_none() => {
                    if self.busy_at.elapsed() < QUIET {
                        gathering = Some(Box::pin(tokio::task::yield_now()));
                    }
                }
                () = wait_for(&mut gathering), if gathering.is_some() => gathering = None,
                Some(landed) = self.flying.next() => self.land(landed),
                () = self.connection.step(&shared) => self.connection_changed(),
                () = at(next) => self.fire(),
            }
        }
    }

    /// Lets a line send what it has, and sets its timer.
    fn pump(&mut self, cell: &Arc<LineCell>) {
        let now = Instant::now();
        let session = self.connection.session().cloned();
        let epoch = self.shared.epoch.load(Ordering::SeqCst);
        let at_once = self.shared.at_once.load(Ordering::SeqCst);
        let (outgoing, old_timer, new_timer, unused, unheard) = cell.peek(|line| {
            line.tick(now);
            match &session {
                Some(session) => line.set_hears(session.hears(), now),
                None => line.without_connection(self.connection.trouble(), now),
            }
            let outgoing = session
                .as_ref()
                .and_then(|_| line.next_turn(now, epoch, self.shared.call_deadline, FOLLOWER));
            let old_timer = line.timer;
            let kept = old_timer.filter(|_| at_once);
            let looks = [line.next_look(session.is_some()), line.look_by.take(), kept];
            let new_timer = looks.into_iter().flatten().min();
            line.timer = new_timer;
            let unheard = std::mem::take(&mut line.unheard);
            (outgoing, old_timer, new_timer, line.is_unused(), unheard)
        });
        if let (true, Some(session)) = (unheard, &session) {
            session.doubt_hearing();
        }
        if old_timer != new_timer {
            if let Some(at) = old_timer {
                self.timers.remove(&(at, cell.key));
            }
            if let Some(at) = new_timer {
                self.timers.insert((at, cell.key), Arc::clone(cell));
            }
        }
        if let (Some(session), Some(outgoing)) = (session, outgoing) {
            self.busy_at = now;
            let cell = Arc::clone(cell);
            self.flying.push(Box::pin(async move {
                let turn = session.turn(outgoing.turn);
                let answer = timeout(outgoing.deadline, turn).await;
                let answer = answer.unwrap_or_else(|_| {
                    let deadline = outgoing.deadline;
                    Err(StoreError::timeout(format!("no answer to a turn within {deadline:?}")))
                });
                Landed { cell, number: outgoing.number, session, answer }
            }));
        } else if unused {
            if let Some(at) = new_timer {
                self.timers.remove(&(at, cell.key));
            }
            self.shared.sweep(cell);
        }
    }

    /// A turn has come back.
    fn land(&mut self, landed: Landed) {
        let now = Instant::now();
        let cell = &landed.cell;
        match landed.answer {
            Ok(outcome) => {
                if matches!(outcome, TurnOutcome::Answered(_)) {
                    self.connection.answered();
                }
                cell.take_in(&self.shared, landed.number, outcome, now);
            }
            Err(error) => self.failed(cell, landed.number, &landed.session, &error, now),
        }
        self.pump(cell);
    }

    fn failed(
        &mut self,
        cell: &Arc<LineCell>,
        number: u64,
        session: &Arc<dyn Session>,
        error: &StoreError,
        now: Instant,
    ) {
        if error.did_not_run() {
            cell.peek(|line| line.did_not_run(number, error, now));
        } else {
            // Also where the server refused: a script may have begun before it did.
            self.shared.epoch.fetch_add(1, Ordering::SeqCst);
            let unsure = error.is_timeout() || error.breaks_connection();
            cell.peek(|line| {
                if unsure {
                    line.unanswered(number, error, now);
                } else {
                    line.did_not_run(number, error, now);
                }
                if error.is_final() {
                    line.refuse(now, error);
                } else if !unsure {
                    line.refuse_tries(now, error);
                }
            });
        }
        if self.connection.failed(&self.shared, session, error) {
            self.connection_changed();
        }
    }

    /// True if the connection was given up for a failed call beside the turns.
    fn heed_complaint(&mut self) -> bool {
        let Some((session, error)) = lock(&self.shared.complaint).take() else { return false };
        let session = session.upgrade();
        session.is_some_and(|session| self.connection.failed(&self.shared, &session, &error))
    }

    /// Every line gets to know; what it missed meanwhile, it asks about.
    fn connection_changed(&mut self) {
        let up = self.connection.session().is_some();
        for cell in self.shared.all() {
            if up {
                cell.peek(Line::reconnected);
            }
            self.pump(&cell);
        }
    }

    /// The first timers are due.
    fn fire(&mut self) {
        let now = Instant::now();
        while let Some(first) = self.timers.first_entry()
            && first.key().0 <= now
        {
            let cell = first.remove();
            cell.peek(|line| line.timer = None);
            self.pump(&cell);
        }
    }

    /// Nobody can ask for anything any more: ends once all is handed back, or when the store has
    /// been away for so long that the leases must do it.
    fn may_end(&self) -> bool {
        let patience = self.shared.call_deadline * 2;
        self.flying.is_empty()
            && (self.shared.is_flushed() || self.connection.down_for() > patience)
    }
}

/// Resolves when what there is to wait for has come; at once where there is nothing.
async fn wait_for(what: &mut Option<Pin<Box<dyn Future<Output = ()> + Send>>>) {
    if let Some(what) = what {
        what.await;
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
