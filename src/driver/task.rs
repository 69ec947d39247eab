//! The driver's task: lets semaphores send their turns, takes in the outcomes, and keeps the timers.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until};

use crate::error::{StoreError, StoreErrorKind};
use crate::numbers::TurnNumber;
use crate::shrink::Shrink;
use crate::store::{Session, TurnOutcome};

use super::answer::answer_to;
use super::cell::SemaphoreCell;
use super::connection::Connection;
use super::data_loss_log::DataLossLog;
use super::shared::Shared;
use super::state::{Outgoing, SemaphoreState, TimerMove};
use super::timers::Timers;

/// The minimum number of newcomers and removals in a pipelined turn. Fewer ids wait for the reply that is on
/// its way, and share a turn with those that come until then.
const PIPELINED: Option<usize> = Some(8);

/// The maximum number of turns in flight. More turns would only wait in the server, and in a burst of names
/// for longer than their deadline. The other semaphores gather until a turn has landed.
const IN_FLIGHT: usize = 256;

/// While fewer turns than this are in flight, turns with something to renew go out anyway, and do not count.
const RENEWING: usize = 4_096;

/// After this time without a turn, the next turn goes out without a yield.
const QUIET: Duration = Duration::from_millis(5);

/// A turn that has come back, and on which connection.
struct Landed {
    cell: Arc<SemaphoreCell>,
    number: TurnNumber,
    session: Arc<dyn Session>,
    answer: Result<TurnOutcome, StoreError>,
    /// Whether it counts towards [`IN_FLIGHT`].
    counts: bool,
}

type BoxedFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

pub(super) struct Driver {
    shared: Arc<Shared>,
    connection: Connection,
    in_flight: FuturesUnordered<BoxedFuture<Landed>>,
    /// How many of them count towards [`IN_FLIGHT`].
    counted: usize,
    /// Ready semaphores that wait until fewer turns are in flight.
    backlog: VecDeque<Arc<SemaphoreCell>>,
    timers: Timers,
    /// When a turn was last sent.
    busy_at: Instant,
    data_loss_log: DataLossLog,
    /// When the driver ends although not everything is given back, once no caller is left.
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

/// The work that the driver has to do for a semaphore.
struct Look {
    outgoing: Option<Outgoing>,
    timer: TimerMove,
    unused: bool,
    missed_wake_up: bool,
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            _guard: EndGuard(Arc::clone(&shared)),
            shared,
            connection: Connection::new(),
            in_flight: FuturesUnordered::new(),
            counted: 0,
            backlog: VecDeque::new(),
            timers: Timers::default(),
            busy_at: Instant::now(),
            data_loss_log: DataLossLog::default(),
            give_up_at: None,
        }
    }

    pub(super) async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        // Callers that became ready together, for example by one tick of the timer, share one turn. After a
        // silence no other caller is expected, and a yield would wake other threads of the runtime.
        let mut gathering: Option<BoxedFuture<()>> = None;
        loop {
            if gathering.is_none() {
                self.pump_ready();
            }
            shared.notify_flushed();
            if self.connection.lost_unasked(&shared) || self.heed_complaint() {
                self.connection_changed();
            }
            if shared.is_abandoned() && self.may_end() {
                self.data_loss_log.tell(&shared.address());
                return;
            }
            let next = self.next_look();
            tokio::select! {
                () = shared.work(), if gathering.is_none() => {
                    if self.busy_at.elapsed() < QUIET {
                        gathering = Some(Box::pin(tokio::task::yield_now()));
                    }
                }
                () = wait_for(&mut gathering), if gathering.is_some() => gathering = None,
                Some(landed) = self.in_flight.next() => self.land(landed),
                () = self.connection.step(&shared) => self.connection_changed(),
                () = at(next) => self.fire(),
            }
        }
    }

    // Semaphores that have something to say.

    /// Lets ready semaphores send what they have, while turns may go out.
    fn pump_ready(&mut self) {
        self.backlog.extend(self.shared.take_ready());
        while !self.is_full()
            && let Some(cell) = self.backlog.pop_front()
        {
            cell.clear_ready();
            self.pump(&cell, true);
        }
        self.backlog.shrink_in_use();
    }

    fn is_full(&self) -> bool {
        self.counted >= IN_FLIGHT && self.shared.link().is_up()
    }

    /// Does the same as [`pump`](Self::pump). If the semaphore cannot send now, it is the next one that can.
    fn pump_soon(&mut self, cell: &Arc<SemaphoreCell>) {
        let in_turn = !self.is_full();
        self.pump(cell, in_turn);
        if !in_turn && !cell.set_ready() {
            self.backlog.push_front(Arc::clone(cell));
        }
    }

    /// Does the same as [`pump`](Self::pump), but after the semaphores that wait. Otherwise names that
    /// always have something to say would keep all others out.
    fn pump_behind(&mut self, cell: &Arc<SemaphoreCell>) {
        let in_turn = self.backlog.is_empty() && !self.is_full();
        self.pump(cell, in_turn);
        if !in_turn && !cell.set_ready() {
            self.backlog.push_back(Arc::clone(cell));
        }
    }

    /// Lets a semaphore send what it has, and sets its timer. Where it is not its turn, it sends only if
    /// there is something to renew: that cannot wait.
    fn pump(&mut self, cell: &Arc<SemaphoreCell>, in_turn: bool) {
        let now = Instant::now();
        let session = self.shared.link().session();
        let look = self.look_at(cell, session.as_deref(), in_turn, now);
        self.timers.set(cell, look.timer);
        if let Some(session) = session {
            if look.missed_wake_up {
                session.doubt_subscription();
            }
            if let Some(outgoing) = look.outgoing {
                return self.send(cell, session, outgoing, in_turn, now);
            }
        }
        if look.unused {
            self.timers.forget(cell, look.timer.to);
            self.shared.registry().sweep(cell);
        }
    }

    fn look_at(
        &self,
        cell: &SemaphoreCell,
        session: Option<&dyn Session>,
        in_turn: bool,
        now: Instant,
    ) -> Look {
        let renews = in_turn || self.in_flight.len() < RENEWING;
        let (link, call_timeout) = (self.shared.link(), self.shared.call_timeout);
        cell.with(|state| {
            state.tick(now);
            match session {
                Some(session) => state.set_subscribed(session.is_subscribed(), now),
                None => state.without_connection(link.error().as_ref(), now),
            }
            let may_send = session.is_some() && (in_turn || (renews && state.has_renewals()));
            let outgoing =
                may_send.then(|| state.next_turn(now, call_timeout, PIPELINED)).flatten();
            let next = match in_turn {
                true => state.next_look(session.is_some()),
                false => state.next_renewal(session.is_some() && renews),
            };
            Look {
                outgoing,
                timer: state.set_timer(next, link.is_inline()),
                unused: state.is_unused(),
                missed_wake_up: state.take_missed_wake_up(),
            }
        })
    }

    fn send(
        &mut self,
        cell: &Arc<SemaphoreCell>,
        session: Arc<dyn Session>,
        outgoing: Outgoing,
        counts: bool,
        now: Instant,
    ) {
        self.busy_at = now;
        self.counted += usize::from(counts);
        let late = outgoing.late_renewals.then(|| Arc::clone(&session));
        let (cell, shared) = (Arc::clone(cell), Arc::clone(&self.shared));
        self.in_flight.push(Box::pin(async move {
            let turn = session.turn(outgoing.turn);
            let answer = answer_to(turn, shared.call_timeout, shared.link()).await;
            Landed { cell, number: outgoing.number, session, answer, counts }
        }));
        let error = || StoreError::timeout("no answer to a renewal in time for its lease");
        if late.is_some_and(|late| self.connection.failed(&self.shared, &late, &error())) {
            self.connection_changed();
        }
    }

    // Turns that come back.

    fn land(&mut self, landed: Landed) {
        let now = Instant::now();
        let Landed { cell, number, session, answer, counts } = landed;
        self.counted -= usize::from(counts);
        match answer {
            Ok(outcome) => {
                self.connection.answered();
                self.shared.link().hear(now);
                self.give_up_at = None;
                if let Some(held) = cell.take_in(number, outcome, now) {
                    self.data_loss_log.note(held, now);
                }
            }
            Err(error) => self.turn_failed(&cell, number, &session, &error, now),
        }
        self.pump_behind(&cell);
    }

    fn turn_failed(
        &mut self,
        cell: &SemaphoreCell,
        number: TurnNumber,
        session: &Arc<dyn Session>,
        error: &StoreError,
        now: Instant,
    ) {
        if !error.is_unanswered() {
            self.shared.link().hear(now);
        }
        let unsure = error.is_timeout() || error.breaks_connection();
        cell.with(|state| {
            if error.did_not_run() {
                return state.did_not_run(number, error, now);
            }
            if unsure {
                state.unanswered(number, error, now);
            } else {
                state.refused(number, error, now);
            }
            if error.is_final() {
                state.refuse_all(error, now);
            } else if !unsure {
                state.refuse_tries(error, now);
            }
        });
        if self.connection.failed(&self.shared, session, error) {
            self.connection_changed();
        }
    }

    // The connection.

    /// True if the connection was given up for a failed call beside the turns.
    fn heed_complaint(&mut self) -> bool {
        let Some((session, error)) = self.shared.take_complaint() else { return false };
        self.connection.failed(&self.shared, &session, &error)
    }

    /// Tells every semaphore. Each asks about what it may have missed.
    fn connection_changed(&mut self) {
        let now = Instant::now();
        let up = self.shared.link().is_up();
        let error = self.shared.link().error().map(|error| {
            StoreError::new(
                StoreErrorKind::Disconnected,
                format!("the connection was given up: {error}"),
            )
        });
        // Nothing uses the old connection any more, so it is closed.
        self.in_flight.clear();
        self.counted = 0;
        for cell in self.shared.registry().all() {
            match &error {
                Some(error) => cell.with(|state| state.connection_lost(error, now)),
                None if up => cell.with(SemaphoreState::reconnected),
                None => {}
            }
            self.pump_soon(&cell);
        }
    }

    // Time.

    /// Returns when there is work to do, if nothing happens before.
    fn next_look(&self) -> Option<Instant> {
        let (timer, log) = (self.timers.first(), self.data_loss_log.tell_at());
        [timer, self.give_up_at, log].into_iter().flatten().min()
    }

    /// Runs the timers that are due.
    fn fire(&mut self) {
        let now = Instant::now();
        if self.data_loss_log.tell_at().is_some_and(|at| at <= now) {
            self.data_loss_log.tell(&self.shared.address());
        }
        while let Some(cell) = self.timers.pop_due(now) {
            cell.with(SemaphoreState::timer_fired);
            self.pump_soon(&cell);
        }
    }

    /// Nobody can ask for anything any more: ends once all is handed back, or when the store has
    /// been away, or has taken nothing back, for too long: then the leases must do it.
    fn may_end(&mut self) -> bool {
        let now = Instant::now();
        let patience = self.shared.call_timeout * 2;
        let away = || {
            let since = self.shared.link().unconnected_since();
            since.is_some_and(|since| now.saturating_duration_since(since) > patience)
        };
        if self.in_flight.is_empty() && (self.shared.registry().is_flushed() || away()) {
            return true;
        }
        now >= *self.give_up_at.get_or_insert(now + patience)
    }
}

/// Resolves when the awaited event has come, or immediately if there is none.
async fn wait_for(what: &mut Option<BoxedFuture<()>>) {
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
