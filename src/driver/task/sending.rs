//! The turns that the driver lets its semaphores send, and in which order.

use std::sync::Arc;

use tokio::time::Instant;

use crate::error::StoreError;
use crate::shrink::Shrink;
use crate::span::TurnSpan;
use crate::store::Session;

use super::super::cell::SemaphoreCell;
use super::super::state::{LostPermits, Outgoing, TimerMove};
use super::Driver;

/// A turn with this number of newcomers and removals is pipelined, however many the turn in flight names.
/// A smaller one waits for the reply that is on its way, and shares a turn with those that come until then,
/// unless the turn in flight is small, too.
const PIPELINED: Option<usize> = Some(8);

/// The maximum number of turns in flight. More turns would only wait in the server, and in a burst of names
/// for longer than their deadline. The other semaphores gather until a turn has landed.
const IN_FLIGHT: usize = 256;

/// While fewer turns than this are in flight, turns with something to renew go out anyway, and do not count.
const RENEWING: usize = 4_096;

/// The work that the driver has to do for a semaphore.
struct Look {
    outgoing: Option<Outgoing>,
    timer: TimerMove,
    unused: bool,
    missed_wake_up: bool,
    lost: Option<Box<LostPermits>>,
}

impl Driver {
    /// Lets ready semaphores send what they have, while turns may go out.
    pub(super) fn pump_ready(&mut self) {
        self.place.take_ready(&mut self.backlog);
        while !self.is_full()
            && let Some(cell) = self.backlog.pop_front()
        {
            cell.clear_ready();
            match self.has(&cell) {
                true => self.pump(&cell, true),
                false => self.shared.make_ready(&cell),
            }
        }
        self.backlog.shrink_in_use();
    }

    /// Returns whether semaphores wait that could send now. Nothing else may wake the driver for them.
    pub(super) fn leaves_backlog(&self) -> bool {
        !self.gathering.is_under_way() && !self.backlog.is_empty() && !self.is_full()
    }

    fn is_full(&self) -> bool {
        self.answers.counted() >= IN_FLIGHT && self.place.link().is_up()
    }

    /// Does the same as [`pump`](Self::pump). If the semaphore cannot send now, it is the next one that can.
    pub(super) fn pump_soon(&mut self, cell: &Arc<SemaphoreCell>) {
        let in_turn = !self.is_full();
        self.pump(cell, in_turn);
        if !in_turn && !cell.set_ready() {
            self.backlog.push_front(Arc::clone(cell));
        }
    }

    /// Does the same as [`pump`](Self::pump), but after the semaphores that wait. Otherwise names that
    /// always have something to say would keep all others out.
    pub(super) fn pump_behind(&mut self, cell: &Arc<SemaphoreCell>) {
        let in_turn = self.backlog.is_empty() && !self.is_full();
        self.pump(cell, in_turn);
        if !in_turn && !cell.set_ready() {
            self.backlog.push_back(Arc::clone(cell));
        }
    }

    /// Lets a semaphore of this place send what it has, and sets its timer. Where it is not its turn, it sends only if
    /// there is something to renew: that cannot wait.
    fn pump(&mut self, cell: &Arc<SemaphoreCell>, in_turn: bool) {
        let now = Instant::now();
        let session = self.place.link().session();
        let look = self.look_at(cell, session.as_deref(), in_turn, now);
        self.timers.set(cell, look.timer);
        if let Some(lost) = look.lost {
            let name = cell.read(|state| Arc::clone(state.name()));
            self.loss_log.note_permits(&name, *lost, now);
        }
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
            state.show();
            Look {
                outgoing,
                timer: state.set_timer(next),
                unused: state.is_unused(),
                missed_wake_up: state.take_missed_wake_up(),
                lost: state.take_lost_permits(),
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
        let address = || self.shared.address_of(&self.place);
        let span = TurnSpan::begin(&outgoing.turn, self.shared.store().database(), address);
        self.answers.send(cell, &session, (outgoing, span), counts, patience, now);
        let error = || StoreError::timeout("no answer to a renewal in time for its lease");
        if after_late && self.connection.failed(&self.shared, &session, &error()) {
            self.connection_changed(Vec::new());
        }
    }
}
