//! What the driver does with the turns that come back, and with those of a connection that was given up.

use std::sync::Arc;
use std::task::Context;

use tokio::time::Instant;

use crate::error::{StoreError, StoreErrorKind};
use crate::metrics::TurnEnd;

use super::super::answers::{Landed, SentTurn};
use super::super::cell::SemaphoreCell;
use super::super::state::SemaphoreState;
use super::Driver;

impl Driver {
    /// Takes in what the server answered before the connection was lost. Returns the turns that came back
    /// without an answer.
    pub(super) fn take_in_last_answers(&mut self, cx: &mut Context<'_>) -> Vec<SentTurn> {
        let mut unanswered = Vec::new();
        while let Some(landed) = self.answers.poll_come(cx) {
            match &landed.answer {
                Err(error) if error.is_unanswered() => unanswered.push(landed.turn),
                _ => self.land(landed),
            }
        }
        unanswered
    }

    pub(super) fn land(&mut self, Landed { turn, answer }: Landed) {
        let now = Instant::now();
        let end = answer.as_ref().map_or_else(TurnEnd::of_error, TurnEnd::of);
        self.shared.meter().landed(turn.sent, end, || now);
        turn.span.record(end);
        match answer {
            Ok(outcome) => {
                self.connection.answered();
                self.place.link().hear(now);
                self.give_up_at = None;
                let (lost_data, effects) = turn.cell.take_in(turn.number, outcome, now);
                self.burst.add(effects);
                if let Some(held) = lost_data {
                    self.loss_log.note_data(held, now);
                }
            }
            Err(error) => self.turn_failed(&turn, &error, now),
        }
        self.follow_up(&turn.cell);
    }

    /// Lets a semaphore go on whose turn has landed. One that has come to another place goes on there.
    fn follow_up(&mut self, cell: &Arc<SemaphoreCell>) {
        match self.has(cell) {
            true => self.pump_behind(cell),
            false => self.shared.make_ready(cell),
        }
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

    /// Tells every semaphore of the place. Each asks about what it may have missed. `unanswered` are turns
    /// that came back without an answer.
    pub(super) fn connection_changed(&mut self, unanswered: Vec<SentTurn>) {
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
        for SentTurn { cell, number, sent, span, .. } in unanswered.into_iter().chain(given_up) {
            self.shared.meter().landed(sent, TurnEnd::Unanswered, || now);
            span.record(TurnEnd::Unanswered);
            cell.with(|state| state.unanswered(number, &error, now));
            if !self.has(&cell) {
                self.shared.make_ready(&cell);
            }
        }
    }
}
