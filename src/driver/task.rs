//! The driver's task: lets lines send their turns, takes them in, and keeps the timers.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until};

use crate::error::{StoreError, StoreErrorKind};
use crate::store::{Session, TurnOutcome};
use crate::sync::lock;

use super::LineCell;
use super::answer::answer_to;
use super::connection::Connection;
use super::line::Line;
use super::shared::Shared;
use super::wipe_log::WipeLog;

/// What a second turn in flight must be worth, in ids of new waiters and of take-backs: less waits for
/// the reply that is on its way, and shares a turn with what comes meanwhile.
const FOLLOWER: Option<usize> = Some(8);

/// How many turns are in flight at the most. More would only wait in the server, in a burst of names for
/// longer than their deadline. Meanwhile lines gather.
const ABREAST: usize = 256;

/// While fewer are in flight, turns with something to renew go out all the same, and do not count.
const RENEWING: usize = 4_096;

/// After this long without a turn, the next one goes out at the first word.
const QUIET: Duration = Duration::from_millis(5);

/// A turn that has come back, and on which connection.
struct Landed {
    cell: Arc<LineCell>,
    number: u64,
    session: Arc<dyn Session>,
    answer: Result<TurnOutcome, StoreError>,
    /// Whether it counts towards [`ABREAST`].
    counts: bool,
}

type Flying = Pin<Box<dyn Future<Output = Landed> + Send>>;

pub(super) struct Driver {
    shared: Arc<Shared>,
    connection: Connection,
    flying: FuturesUnordered<Flying>,
    /// Those of them that count towards [`ABREAST`].
    abreast: usize,
    /// Ready lines that wait until fewer turns are in flight.
    backlog: VecDeque<Arc<LineCell>>,
    timers: BTreeMap<(Instant, u64), Arc<LineCell>>,
    /// When a turn was last sent.
    busy_at: Instant,
    wipe_log: WipeLog,
    /// When this ends though not all is handed back, once nobody can ask for anything any more.
    give_up_at: Option<Instant>,
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
    /// Takes in the outcome of a turn in flight. Tells how many permits are held here, if by this
    /// turn the store turned out to have lost its data.
    pub(super) fn take_in(&self, number: u64, outcome: TurnOutcome, now: Instant) -> Option<usize> {
        self.peek(|line| {
            match outcome {
                TurnOutcome::Answered(reply) => line.settle(number, reply, now),
                TurnOutcome::Stale { epoch } => line.stale(number, epoch),
            }
            std::mem::take(&mut line.untold_loss).then_some(line.held.len())
        })
    }
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            _guard: EndGuard(Arc::clone(&shared)),
            shared,
            connection: Connection::new(),
            flying: FuturesUnordered::new(),
            abreast: 0,
            backlog: VecDeque::new(),
            timers: BTreeMap::new(),
            busy_at: Instant::now(),
            wipe_log: WipeLog::default(),
            give_up_at: None,
        }
    }

    pub(super) async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        // Who became ready together, by one tick of the timer say, goes into one turn; but after a
        // silence nobody else is expected, and to yield would wake other threads of the runtime.
        let mut gathering: Option<Pin<Box<dyn Future<Output = ()> + Send>>> = None;
        loop {
            if gathering.is_none() {
                self.pump_ready();
            }
            shared.flushed.notify_waiters();
            if self.connection.lost_unasked(&shared) || self.heed_complaint() {
                self.connection_changed();
            }
            if shared.abandoned.load(Ordering::SeqCst) && self.may_end() {
                self.wipe_log.tell(&shared.place());
                return;
            }
            let next = self.next_look();
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

    /// Lets lines send what they have, while turns may go out.
    fn pump_ready(&mut self) {
        self.backlog.extend(std::mem::take(&mut *lock(&self.shared.ready)));
        while !self.is_full()
            && let Some(cell) = self.backlog.pop_front()
        {
            cell.ready.store(false, Ordering::SeqCst);
            self.pump(&cell, true);
        }
    }

    fn is_full(&self) -> bool {
        self.abreast >= ABREAST && self.connection.session().is_some()
    }

    /// As [`pump`](Self::pump); where it is not the line's turn now, it is next.
    fn pump_soon(&mut self, cell: &Arc<LineCell>) {
        if !self.pump(cell, !self.is_full()) && !cell.ready.swap(true, Ordering::SeqCst) {
            self.backlog.push_front(Arc::clone(cell));
        }
    }

    /// As [`pump`](Self::pump), but behind those who wait: else names that always have something to
    /// say would keep all others out.
    fn pump_behind(&mut self, cell: &Arc<LineCell>) {
        let in_turn = self.backlog.is_empty() && !self.is_full();
        if !self.pump(cell, in_turn) && !cell.ready.swap(true, Ordering::SeqCst) {
            self.backlog.push_back(Arc::clone(cell));
        }
    }

    /// Lets a line send what it has, and sets its timer. Where it is not its turn, which the answer
    /// repeats, it sends only if there is something to renew: that cannot wait.
    fn pump(&mut self, cell: &Arc<LineCell>, in_turn: bool) -> bool {
        let renews = in_turn || self.flying.len() < RENEWING;
        let now = Instant::now();
        let session = self.connection.session().cloned();
        let at_once = self.shared.at_once.load(Ordering::SeqCst);
        let (outgoing, old_timer, new_timer, unused, unheard) = cell.peek(|line| {
            line.tick(now);
            match &session {
                Some(session) => line.set_hears(session.hears(), now),
                None => line.without_connection(self.connection.trouble(), now),
            }
            let outgoing = session
                .as_ref()
                .filter(|_| in_turn || (renews && line.has_renewals()))
                .and_then(|_| line.next_turn(now, self.shared.call_timeout, FOLLOWER));
            let old_timer = line.timer;
            let kept = old_timer.filter(|_| at_once);
            let next = match in_turn {
                true => line.next_look(session.is_some()),
                false => line.next_renewal(session.is_some() && renews),
            };
            let looks = [next, line.look_by.take(), kept];
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
            let late = outgoing.relief.then(|| Arc::clone(&session));
            let cell = Arc::clone(cell);
            let shared = Arc::clone(&self.shared);
            self.abreast += usize::from(in_turn);
            self.flying.push(Box::pin(async move {
                let turn = session.turn(outgoing.turn);
                let answer = answer_to(turn, shared.call_timeout, &shared).await;
                Landed { cell, number: outgoing.number, session, answer, counts: in_turn }
            }));
            let error = || StoreError::timeout("no answer to a renewal in time for its lease");
            if late.is_some_and(|late| self.connection.failed(&self.shared, &late, &error())) {
                self.connection_changed();
            }
        } else if unused {
            if let Some(at) = new_timer {
                self.timers.remove(&(at, cell.key));
            }
            self.shared.sweep(cell);
        }
        in_turn
    }

    /// A turn has come back.
    fn land(&mut self, landed: Landed) {
        let now = Instant::now();
        let cell = &landed.cell;
        self.abreast -= usize::from(landed.counts);
        match landed.answer {
            Ok(outcome) => {
                self.connection.answered();
                self.shared.hear(now);
                self.give_up_at = None;
                if let Some(held) = cell.take_in(landed.number, outcome, now) {
                    self.wipe_log.note(held, now);
                }
            }
            Err(error) => self.failed(cell, landed.number, &landed.session, &error, now),
        }
        self.pump_behind(cell);
    }

    fn failed(
        &mut self,
        cell: &Arc<LineCell>,
        number: u64,
        session: &Arc<dyn Session>,
        error: &StoreError,
        now: Instant,
    ) {
        if !error.is_unanswered() {
            self.shared.hear(now);
        }
        if error.did_not_run() {
            cell.peek(|line| line.did_not_run(number, error, now));
        } else {
            let unsure = error.is_timeout() || error.breaks_connection();
            cell.peek(|line| {
                if unsure {
                    line.unanswered(number, error, now);
                } else {
                    line.was_refused(number, error, now);
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
        let now = Instant::now();
        let up = self.connection.session().is_some();
        let error = self.connection.trouble().map(|error| {
            StoreError::new(
                StoreErrorKind::Disconnected,
                format!("the connection was given up: {error}"),
            )
        });
        // Nobody listens to the old connection any more; that closes it.
        self.flying.clear();
        self.abreast = 0;
        for cell in self.shared.all() {
            match &error {
                Some(error) => cell.peek(|line| line.deserted(error, now)),
                None if up => cell.peek(Line::reconnected),
                None => {}
            }
            self.pump_soon(&cell);
        }
    }

    /// When something is to be done, if nothing happens before.
    fn next_look(&self) -> Option<Instant> {
        let timer = self.timers.first_key_value().map(|((at, _), _)| *at);
        [timer, self.give_up_at, self.wipe_log.tell_at()].into_iter().flatten().min()
    }

    /// The first timers are due.
    fn fire(&mut self) {
        let now = Instant::now();
        if self.wipe_log.tell_at().is_some_and(|at| at <= now) {
            self.wipe_log.tell(&self.shared.place());
        }
        while let Some(first) = self.timers.first_entry()
            && first.key().0 <= now
        {
            let cell = first.remove();
            cell.peek(|line| line.timer = None);
            self.pump_soon(&cell);
        }
    }

    /// Nobody can ask for anything any more: ends once all is handed back, or when the store has
    /// been away, or has taken nothing back, for too long: then the leases must do it.
    fn may_end(&mut self) -> bool {
        let patience = self.shared.call_timeout * 2;
        let away = || self.connection.down_for() > patience;
        if self.flying.is_empty() && (self.shared.is_flushed() || away()) {
            return true;
        }
        let now = Instant::now();
        now >= *self.give_up_at.get_or_insert(now + patience)
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
