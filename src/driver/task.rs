//! The task of a place's driver: lets semaphores send their turns, takes in the outcomes, and keeps the timers.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{StoreError, StoreErrorKind};
use crate::shrink::Shrink;
use crate::store::Session;

use super::alarm::Alarm;
use super::answers::{Answers, Landed, SentTurn};
use super::burst::Burst;
use super::cell::SemaphoreCell;
use super::connection::Connection;
use super::data_loss_log::DataLossLog;
use super::gathering::Gathering;
use super::place::Place;
use super::self_wakes::WithoutSelfWakes;
use super::shared::Shared;
use super::state::{Outgoing, SemaphoreState, TimerMove};
use super::timers::Timers;

/// A turn with this number of newcomers and removals is pipelined, however many the turn in flight names.
/// A smaller one waits for the reply that is on its way, and shares a turn with those that come until then,
/// unless the turn in flight is small, too.
const PIPELINED: Option<usize> = Some(8);

/// The maximum number of turns in flight. More turns would only wait in the server, and in a burst of names
/// for longer than their deadline. The other semaphores gather until a turn has landed.
const IN_FLIGHT: usize = 256;

/// While fewer turns than this are in flight, turns with something to renew go out anyway, and do not count.
const RENEWING: usize = 4_096;

/// A place that no name has used for this time is closed.
const UNUSED: Duration = Duration::from_secs(60);

pub(super) struct Driver {
    shared: Arc<Shared>,
    place: Arc<Place>,
    connection: Connection,
    answers: Answers,
    /// What the replies of one poll cause.
    burst: Burst,
    /// Ready semaphores that wait until fewer turns are in flight.
    backlog: VecDeque<Arc<SemaphoreCell>>,
    gathering: Gathering,
    timers: Timers,
    alarm: Alarm,
    data_loss_log: DataLossLog,
    /// When the driver ends although not everything is given back, once no caller is left.
    give_up_at: Option<Instant>,
    /// When the place is closed, if no name uses it until then.
    close_at: Option<Instant>,
    /// How often names may have come to other places, as far as this driver has looked.
    moves: u64,
    /// Also for a task that its runtime drops before it was ever polled.
    guard: EndGuard,
}

/// Tells the end of the driver's task, also when its runtime drops it.
struct EndGuard {
    shared: Arc<Shared>,
    place: Arc<Place>,
    done: bool,
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.shared.driver_ended(&self.place, self.done);
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
    pub(super) fn new(shared: Arc<Shared>, place: Arc<Place>) -> Self {
        Self {
            guard: EndGuard { shared: Arc::clone(&shared), place: Arc::clone(&place), done: false },
            shared,
            connection: Connection::new(Arc::clone(&place)),
            place,
            answers: Answers::default(),
            burst: Burst::default(),
            backlog: VecDeque::new(),
            gathering: Gathering::default(),
            timers: Timers::default(),
            alarm: Alarm::default(),
            data_loss_log: DataLossLog::default(),
            give_up_at: None,
            close_at: None,
            moves: 0,
        }
    }

    pub(super) async fn run(mut self) {
        let poll = poll_fn(move |cx| {
            let end = self.poll(cx);
            self.burst.run();
            end
        });
        WithoutSelfWakes::new(poll).await;
    }

    /// Does all there is to do now. Ready once the driver has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_ready(cx);
        loop {
            self.poll_connection(cx);
            self.poll_answers(cx);
            if (self.shared.is_abandoned() && self.may_end()) || self.closes_unused() {
                self.data_loss_log.tell(&self.shared.address_of(&self.place));
                self.guard.done = true;
                return Poll::Ready(());
            }
            if self.alarm.poll(self.next_look(), cx).is_pending() {
                break;
            }
            self.fire();
        }
        if self.leaves_backlog() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Lets ready semaphores send what they have, unless more callers are about to speak.
    fn poll_ready(&mut self, cx: &mut Context<'_>) {
        let place = &self.place;
        if self.gathering.poll(|| place.has_ready(), cx).is_pending() {
            return; // not registered: callers need not wake the driver meanwhile
        }
        self.place.register(cx.waker());
        self.follow_moves();
        self.pump_ready();
    }

    /// Opens or replaces the connection, or moves its bytes.
    fn poll_connection(&mut self, cx: &mut Context<'_>) {
        let given_up = self.connection.lost_unasked(&self.shared) || self.heed_complaint();
        if given_up {
            let unanswered = self.take_in_last_answers(cx);
            self.connection_changed(unanswered);
        }
        while self.connection.poll(&self.shared, cx).is_ready() {
            let unanswered = self.take_in_last_answers(cx);
            self.connection_changed(unanswered);
        }
    }

    /// Takes in what the server answered before the connection was lost. Returns the turns that came back
    /// without an answer.
    fn take_in_last_answers(&mut self, cx: &mut Context<'_>) -> Vec<SentTurn> {
        let mut unanswered = Vec::new();
        while let Some(landed) = self.answers.poll_come(cx) {
            match &landed.answer {
                Err(error) if error.is_unanswered() => unanswered.push(landed.turn),
                _ => self.land(landed),
            }
        }
        unanswered
    }

    fn poll_answers(&mut self, cx: &mut Context<'_>) {
        let mut woken = 0;
        while let Poll::Ready(landed) = self.answers.poll(cx) {
            woken += landed.turn.callers;
            self.land(landed);
        }
        self.gathering.expect(woken);
        self.shared.notify_flushed();
    }

    // Semaphores that have something to say.

    /// Lets ready semaphores send what they have, while turns may go out.
    fn pump_ready(&mut self) {
        self.place.take_ready(&mut self.backlog);
        while !self.is_full()
            && let Some(cell) = self.backlog.pop_front()
        {
            cell.clear_ready();
            self.pump(&cell, true);
        }
        self.backlog.shrink_in_use();
    }

    /// Returns whether semaphores wait that could send now. Nothing else may wake the driver for them.
    fn leaves_backlog(&self) -> bool {
        !self.gathering.is_under_way() && !self.backlog.is_empty() && !self.is_full()
    }

    fn is_full(&self) -> bool {
        self.answers.counted() >= IN_FLIGHT && self.place.link().is_up()
    }

    /// Does the same as [`pump`](Self::pump). If the semaphore cannot send now, it is the next one that can.
    fn pump_soon(&mut self, cell: &Arc<SemaphoreCell>) {
        let in_turn = !self.is_full();
        self.pump(cell, in_turn);
        if !in_turn && self.has(cell) && !cell.set_ready() {
            self.backlog.push_front(Arc::clone(cell));
        }
    }

    /// Does the same as [`pump`](Self::pump), but after the semaphores that wait. Otherwise names that
    /// always have something to say would keep all others out.
    fn pump_behind(&mut self, cell: &Arc<SemaphoreCell>) {
        let in_turn = self.backlog.is_empty() && !self.is_full();
        self.pump(cell, in_turn);
        if !in_turn && self.has(cell) && !cell.set_ready() {
            self.backlog.push_back(Arc::clone(cell));
        }
    }

    /// Lets a semaphore send what it has, and sets its timer. Where it is not its turn, it sends only if
    /// there is something to renew: that cannot wait. One that has come to another place is left to that
    /// place's driver.
    fn pump(&mut self, cell: &Arc<SemaphoreCell>, in_turn: bool) {
        if !self.has(cell) {
            return self.shared.make_ready(cell);
        }
        let now = Instant::now();
        let session = self.place.link().session();
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
        // If a new handle came meanwhile, the state still counts on its timer.
        if look.unused && self.shared.sweep(cell) {
            self.timers.forget(cell, look.timer.to);
        }
    }

    fn look_at(
        &self,
        cell: &SemaphoreCell,
        session: Option<&dyn Session>,
        in_turn: bool,
        now: Instant,
    ) -> Look {
        let renews = in_turn || self.answers.len() < RENEWING;
        let (link, call_timeout) = (self.place.link(), self.shared.call_timeout);
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
                timer: state.set_timer(next),
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
        let after_late = outgoing.after_late;
        let patience = self.shared.call_timeout;
        self.answers.send(cell, &session, outgoing, counts, patience, now);
        let error = || StoreError::timeout("no answer to a renewal in time for its lease");
        if after_late && self.connection.failed(&self.shared, &session, &error()) {
            self.connection_changed(Vec::new());
        }
    }

    // Turns that come back.

    fn land(&mut self, Landed { turn, answer }: Landed) {
        let now = Instant::now();
        match answer {
            Ok(outcome) => {
                self.connection.answered();
                self.place.link().hear(now);
                self.give_up_at = None;
                let (lost_data, effects) = turn.cell.take_in(turn.number, outcome, now);
                self.burst.add(effects);
                if let Some(held) = lost_data {
                    self.data_loss_log.note(held, now);
                }
            }
            Err(error) => self.turn_failed(&turn, &error, now),
        }
        self.pump_behind(&turn.cell);
    }

    fn turn_failed(&mut self, turn: &SentTurn, error: &StoreError, now: Instant) {
        let &SentTurn { ref cell, number, ref session, .. } = turn;
        if !error.is_unanswered() {
            self.place.link().hear(now);
        }
        if error.is_elsewhere() {
            cell.with(|state| state.redirected(number, error, now));
            return self.move_if_elsewhere(cell);
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
            self.connection_changed(Vec::new());
        }
    }

    // The connection.

    /// True if the connection was given up for a failed call beside the turns.
    fn heed_complaint(&mut self) -> bool {
        let Some((session, error)) = self.place.take_complaint() else { return false };
        self.connection.failed(&self.shared, &session, &error)
    }

    /// Tells every semaphore of the place. Each asks about what it may have missed. `unanswered` are turns
    /// that came back without an answer.
    fn connection_changed(&mut self, unanswered: Vec<SentTurn>) {
        let now = Instant::now();
        let up = self.place.link().is_up();
        self.write_off_turns(unanswered, now);
        for cell in self.shared.registry().all_of(self.place.id()) {
            if up {
                cell.with(SemaphoreState::reconnected);
            }
            self.pump_soon(&cell);
        }
    }

    /// Writes off the turns of a connection that was given up: those that came back without an answer, and
    /// those that are still awaited. Nothing uses the connection any more, so it is closed.
    fn write_off_turns(&mut self, unanswered: Vec<SentTurn>, now: Instant) {
        let error = self.place.link().error().map(|error| {
            StoreError::new(
                StoreErrorKind::Disconnected,
                format!("the connection was given up: {error}"),
            )
        });
        let given_up = self.answers.give_up();
        let Some(error) = error else { return };
        for SentTurn { cell, number, .. } in unanswered.into_iter().chain(given_up) {
            cell.with(|state| state.unanswered(number, &error, now));
            if !self.has(&cell) {
                self.shared.make_ready(&cell);
            }
        }
    }

    // Semaphores that come and go.

    /// Returns whether a semaphore belongs to this place.
    fn has(&self, cell: &SemaphoreCell) -> bool {
        cell.place() == self.place.id()
    }

    /// Hands over the semaphores whose names have come to other places.
    fn follow_moves(&mut self) {
        let moves = self.shared.moves();
        if std::mem::replace(&mut self.moves, moves) == moves {
            return;
        }
        for cell in self.shared.registry().all_of(self.place.id()) {
            self.move_if_elsewhere(&cell);
        }
    }

    /// Hands a semaphore over to the place where its name is now. Its turns in flight land here.
    fn move_if_elsewhere(&mut self, cell: &Arc<SemaphoreCell>) {
        let name = cell.read(|state| Arc::clone(state.name()));
        let place = self.shared.place_now(&name);
        if !self.has(cell) || place.id() == self.place.id() {
            return;
        }
        let timer = cell.with(SemaphoreState::moved);
        self.timers.forget(cell, timer);
        place.add_name();
        cell.set_place(place.id());
        self.place.remove_name();
        cell.clear_ready(); // it may be ready here, behind turns that this place does not answer
        self.shared.make_ready(cell);
    }

    // Time.

    /// Returns when there is work to do, if nothing happens before.
    fn next_look(&self) -> Option<Instant> {
        let (timer, log) = (self.timers.first(), self.data_loss_log.tell_at());
        let (check, open) = (self.answers.check_at(), self.connection.opens_at());
        [timer, check, open, self.give_up_at, self.close_at, log].into_iter().flatten().min()
    }

    /// Runs the timers that are due.
    fn fire(&mut self) {
        let now = Instant::now();
        for landed in self.answers.take_overdue(now, self.place.link().heard_at()) {
            self.land(landed);
        }
        if self.data_loss_log.tell_at().is_some_and(|at| at <= now) {
            self.data_loss_log.tell(&self.shared.address_of(&self.place));
        }
        while let Some(cell) = self.timers.pop_due(now) {
            if self.has(&cell) {
                cell.with(SemaphoreState::timer_fired);
                self.pump_soon(&cell);
            }
        }
    }

    /// Nobody can ask for anything any more: ends once all is handed back, or when the store has
    /// been away, or has taken nothing back, for too long: then the leases must do it.
    fn may_end(&mut self) -> bool {
        if self.shared.has_ended() {
            return true; // the driver of another place was dropped
        }
        let now = Instant::now();
        let patience = self.shared.call_timeout * 2;
        let away = || {
            let since = self.place.link().unconnected_since();
            since.is_some_and(|since| now.saturating_duration_since(since) > patience)
        };
        if self.answers.is_empty() && (self.shared.registry().is_flushed(self.place.id()) || away())
        {
            return true;
        }
        now >= *self.give_up_at.get_or_insert(now + patience)
    }

    /// Closes the place once no name has used it for a while.
    fn closes_unused(&mut self) -> bool {
        let used = self.place.has_names()
            || !self.answers.is_empty()
            || !self.shared.has_others_at_work(&self.place);
        if used {
            self.close_at = None;
            return false;
        }
        let now = Instant::now();
        if now < *self.close_at.get_or_insert(now + UNUSED) {
            return false;
        }
        self.close_at = Some(now + UNUSED); // if it stays open
        self.shared.close_unused(&self.place)
    }
}
