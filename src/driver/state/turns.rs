//! The turns of one semaphore: the next turn, and the outcomes of turns. Pure.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::StoreError;
use crate::lease;
use crate::lost_reason::LostReason;
use crate::numbers::{Epoch, Millis, TurnNumber};
use crate::released::Released;
use crate::store::{RenewalException, Turn, TurnReply, WaiterOutcome, WhenFull};

use super::super::deferred::Effect;
use super::SemaphoreState;
use super::batch::{Batch, Named};
use super::held::Term;
use super::in_flight::LandedTurn;
use super::known::{AnsweredTurn, Data};
use super::outage::Redirected;
use super::removal::Removal;
use super::waiter::WaitEnd;

/// For how many call timeouts an answer is awaited while the server answers others.
pub(crate) const STRETCH: u32 = 4;

/// A turn to send.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// Which turn of this state.
    pub(crate) number: TurnNumber,
    pub(crate) turn: Turn,
    /// It goes out because the answer to another one is late for a lease, on the same connection.
    pub(crate) after_late: bool,
}

/// Why a turn goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// Nothing is in its way, and there is something to say.
    SomethingToSay,
    /// A turn is in flight, and enough has gathered meanwhile for a second one.
    Pipelined,
    /// The answers to all turns in flight are late for a lease: only renewals go out beside them.
    LateRenewals,
}

impl SemaphoreState {
    /// Returns the next turn, if there is a reason for one. While a turn is in flight, a second one goes out
    /// only if it is worth it: if it names at least half as many newcomers and removals as the first one, or
    /// `pipelined` of them.
    pub(crate) fn next_turn(
        &mut self,
        now: Instant,
        call_timeout: Duration,
        pipelined: Option<usize>,
    ) -> Option<Outgoing> {
        let reason = self.reason_for_turn(now, pipelined)?;
        let late_renewals = reason == Reason::LateRenewals;
        let longest = call_timeout * STRETCH;
        let after_late = late_renewals && self.in_flight.is_on_this_connection();
        let oldest = self.in_flight.oldest();
        let number = self.in_flight.next_number();
        let mut batch = Batch::new(self.empty_turn(), number, now, late_renewals);
        if let Some(meeting) = self.meetings.due(self.known.incarnation()) {
            batch.meet(meeting);
        }
        self.permits.put(&mut batch, oldest, longest);
        if !late_renewals {
            self.requested = false;
            if self.declaration.is_due(self.limits.highest(), self.known.incarnation(), now) {
                batch.declare();
            }
            self.waiters.forget_expiry();
            self.removals.put(&mut batch, oldest, now + longest, self.known.incarnation());
            self.permits.end_recovery_if_all_are_named();
            if !self.permits.is_recovering() {
                self.waiters.put(&mut batch);
            }
        }
        Some(Outgoing { number, turn: self.in_flight.push(batch), after_late })
    }

    /// Returns the reason to send a turn now, if there is one.
    fn reason_for_turn(&mut self, now: Instant, pipelined: Option<usize>) -> Option<Reason> {
        if self.outage.is_paused(now) {
            return None;
        }
        let renews = self.permits.has_due_renewals();
        let newcomers = self.waiters.has_newcomers();
        let questions = self.waiters.has_questions(now) || self.requested;
        if self.in_flight.is_free(self.permits.is_recovering()) {
            let idle = !questions
                && !newcomers
                && !renews
                && self.removals.is_empty()
                && self.epochs.is_settled();
            if idle {
                self.shrink_if_unused();
            }
            return (!idle).then_some(Reason::SomethingToSay);
        }
        if !questions && pipelined.is_some_and(|most| self.may_pipeline(most)) {
            return Some(Reason::Pipelined);
        }
        let late = self.late_at().is_some_and(|at| at <= now);
        (renews && late).then_some(Reason::LateRenewals)
    }

    /// Returns whether a second turn may go out before the first one has landed. It may if there is no
    /// failure, and it says only what no turn in flight can contradict. It names other ids, and the first
    /// one asks about none, so the store may run the two in either order. It goes out if that is worth it.
    fn may_pipeline(&self, pipelined: usize) -> bool {
        let Some(leader) = self.in_flight.leader() else { return false };
        let worth = (leader / 2).clamp(1, pipelined);
        self.outage.error().is_none()
            && !self.permits.is_recovering()
            && self.waiters.newcomers() + self.removals.ready(self.in_flight.oldest(), worth)
                >= worth
    }

    /// A turn that says nothing yet.
    fn empty_turn(&self) -> Turn {
        let (name, label) = (self.name.clone(), self.label.clone());
        Turn {
            epoch: self.epochs.current(),
            seen: self.known.last_seen(),
            incarnation: self.known.incarnation(),
            ..Turn::new(name, self.client, label, self.limits.highest())
        }
    }

    /// Returns when this state next needs the driver, if nothing happens before.
    pub(crate) fn next_look(&mut self, connected: bool) -> Option<Instant> {
        let renewal = self.next_renewal(connected);
        if !(connected && self.in_flight.is_free(self.permits.is_recovering())) {
            return renewal;
        }
        let asks = self.waiters.next_look().map(|at| self.outage.after_pause(at));
        asks.chain(renewal).chain(self.outage.paused_until()).min()
    }

    /// Returns the part of [`next_look`](Self::next_look) that cannot wait for other semaphores: renewals,
    /// and what the clock ends.
    pub(crate) fn next_renewal(&mut self, connected: bool) -> Option<Instant> {
        let due = self.permits.next_look();
        let waits = self.permits.may_have_due_renewals() || self.in_flight.has_renewals();
        let late = self.late_at().filter(|_| connected && waits);
        let late = late.map(|at| self.outage.after_pause(at));
        [due, self.removals.forget_at(), late].into_iter().flatten().min()
    }

    /// Returns when the answers to all turns in flight are late for the shortest lease held.
    fn late_at(&self) -> Option<Instant> {
        self.in_flight.all_late_at(self.permits.shortest_lease()?)
    }

    /// Returns whether there is something to say, or to do before the driver's timer.
    pub(crate) fn wants_driver(&mut self) -> bool {
        let next = self.next_look(true);
        self.requested
            || self.waiters.has_something_to_say()
            || self.permits.may_have_due_renewals()
            || !self.removals.is_empty()
            || self.timer.is_late_for(next)
    }

    // A turn with an answer.

    /// Takes in the reply to a turn.
    pub(crate) fn answered(&mut self, number: TurnNumber, reply: TurnReply, now: Instant) {
        let Some(landed) = self.in_flight.landed(number) else { return };
        let LandedTurn { epoch, sent, named, .. } = landed;
        let change = self.outage.answered();
        self.wake_on(change);
        self.epochs.answered(epoch);
        self.note_data(&reply, sent);
        if let Some(meeting) = named.met {
            self.meetings.confirm(meeting, reply.incarnation);
        }
        if let Some(limit) = named.declared {
            self.declaration.confirm(limit, reply.incarnation, sent);
        }
        self.removed.remember(named.cancelled.iter().chain(&named.released));
        self.take_in_releases(&reply, named.released);
        self.take_in_renewals(&reply, sent, named.renewed, now);
        self.permits.end_recovery_if_all_are_known(self.known.incarnation());
        let mut missed = false;
        let counters = named.asked.iter().chain(&named.admitted).copied();
        for (counter, outcome) in counters.zip(reply.asked.iter().chain(&reply.admitted)) {
            let unheard = self.take_in_waiter(counter, *outcome, &reply, sent, now);
            missed |= unheard && named.heartbeat == Some(counter);
        }
        self.take_in_others(&reply, sent, now);
        if missed {
            self.waiters.ask_about_all();
        }
        self.waiters.note_lost(reply.put_back);
        self.waiters.set_next_expiry(reply.earliest.map(|wait| now + wait));
        self.requested |= reply.more;
        self.waiters.schedule_heartbeat(sent, now);
        self.waiters.hasten_heartbeat(reply.waiting, now);
        self.show();
    }

    fn note_data(&mut self, reply: &TurnReply, sent: Instant) {
        self.meter.told(reply.in_use, reply.waiting, reply.limit);
        match self.known.note(reply, sent) {
            Data::New => {}
            Data::Kept => self.permits.data_kept(),
            Data::Lost => {
                self.notices.data_lost = true;
                self.meter.data_loss();
                self.permits.data_lost();
                self.waiters.ask_about_all();
            }
        }
    }

    fn take_in_releases(&mut self, reply: &TurnReply, released: Vec<Removal>) {
        for (index, removal) in released.into_iter().enumerate() {
            let Some(done) = removal.done else { continue };
            // After an attempt without an answer, "not there" means that the attempt has removed it.
            let gone = !removal.retried && reply.missing.contains(&index);
            let released = if gone { Released::AlreadyGone } else { Released::Freed };
            self.effects.push(Effect::Released(done, Ok(released)));
        }
    }

    fn take_in_renewals(
        &mut self,
        reply: &TurnReply,
        sent: Instant,
        renewed: Vec<(u64, Millis)>,
        now: Instant,
    ) {
        for (index, (counter, lease)) in renewed.into_iter().enumerate() {
            let exception = reply.renewal_exceptions.iter().find(|(at, _)| *at == index);
            match exception.map(|(_, exception)| exception) {
                Some(RenewalException::Gone) => self.lose(counter, LostReason::MissingInStore, now),
                Some(RenewalException::Kicked) => self.kicked(counter, now),
                None | Some(RenewalException::PutBack) => {
                    self.meter.renews(|| self.permits.hold(counter));
                    let (renewed, effects) = ((lease, sent), &mut self.effects);
                    self.permits.renewed(counter, renewed, reply.incarnation, now, effects);
                }
            }
        }
    }

    /// Takes in what a reply tells of one waiter. Returns whether the waiter had been granted before that turn, and
    /// no wake-up has told so.
    fn take_in_waiter(
        &mut self,
        counter: u64,
        outcome: WaiterOutcome,
        reply: &TurnReply,
        sent: Instant,
        now: Instant,
    ) -> bool {
        let Some(wake_up) = self.waiters.landed(counter) else {
            return false; // gone, or the other turn in flight, which ran later, has told more
        };
        match outcome {
            WaiterOutcome::Granted { token, earlier } => {
                let unheard = earlier && wake_up.is_none();
                if unheard && self.waiters.is_subscribed() {
                    self.notices.wake_up_missed = true;
                    self.meter.unheard_grant();
                }
                self.grant(counter, token, sent, Term::Lease, now);
                return unheard;
            }
            WaiterOutcome::Queued { ticket, place } => {
                let by = AnsweredTurn { sent, last: reply.last };
                self.waiters.queued(counter, ticket, place, by);
                self.pace(counter, now);
                if let Some(wake_up) = wake_up {
                    self.hear(counter, wake_up, now);
                }
            }
            WaiterOutcome::Refused => {
                if !(reply.more && self.waiters.looks_again(counter)) {
                    self.end_refused(counter, reply);
                }
            }
            WaiterOutcome::Kicked => self.end_kicked(counter, now),
            WaiterOutcome::TooLarge => {
                self.end_wait(counter, WaitEnd::TooLarge { limit: reply.limit });
            }
        }
        false
    }

    fn end_refused(&mut self, counter: u64, reply: &TurnReply) {
        let &TurnReply { in_use, limit, waiting, .. } = reply;
        let end = match self.waiters.when_full(counter) {
            Some(WhenFull::Refuse) => WaitEnd::Full { in_use, limit, waiting },
            _ => WaitEnd::QueueFull { waiting },
        };
        self.end_wait(counter, end);
    }

    /// An operator kicked the permit before the waiter learnt of its grant, so the permit is given back.
    fn end_kicked(&mut self, counter: u64, now: Instant) {
        if let Some(waiter) = self.waiters.waiting(counter) {
            self.removals.cancel_stray(waiter.id, self.in_flight.after_all_sent(), now);
        }
        self.end_wait(counter, WaitEnd::Kicked);
    }

    /// Takes in waiters of this client that left the queue though the turn did not ask about them.
    fn take_in_others(&mut self, reply: &TurnReply, sent: Instant, now: Instant) {
        for &(id, token) in &reply.others {
            let counter = id.counter();
            match token {
                _ if !self.waiters.contains(counter) => {
                    if !self.permits.contains(counter) {
                        self.removals.cancel_stray(id, self.in_flight.after_all_sent(), now);
                    }
                }
                Some(token) => self.grant(counter, token, sent, Term::Lease, now),
                None => self.end_wait(counter, WaitEnd::TooLarge { limit: reply.limit }),
            }
        }
    }

    // A turn without an answer.

    /// Writes off a turn without an answer. It may have run, may run later, or never. All that it named is
    /// named again, in a higher epoch.
    pub(crate) fn unanswered(&mut self, number: TurnNumber, error: &StoreError, now: Instant) {
        self.epochs.unanswered();
        self.say_failed_turn_again(number, error, now);
        self.waiters.ask_about_all();
    }

    /// The server refused the turn, which may have begun: it is said again after a pause, in an epoch of
    /// its own. So a server without memory refuses it each time: it refuses the first write, and then
    /// to note the epoch, but not what follows a release.
    pub(crate) fn refused(&mut self, number: TurnNumber, error: &StoreError, now: Instant) {
        self.epochs.refused();
        self.say_failed_turn_again(number, error, now);
        if error.is_cut_short() {
            // It may have taken waiters from the queue without a grant.
            self.waiters.ask_about_all();
            self.outage.pause_briefly(now, self.longest_pause());
        } else {
            self.outage.pause(now, self.longest_pause());
        }
    }

    /// The server said that the turn did not run: it is said again after a pause.
    pub(crate) fn did_not_run(&mut self, number: TurnNumber, error: &StoreError, now: Instant) {
        self.say_failed_turn_again(number, error, now);
        self.outage.pause_briefly(now, self.longest_pause());
    }

    /// Returns for how long turns may be held back. A renewal that becomes due meanwhile has to find a server
    /// that runs turns again.
    fn longest_pause(&self) -> Option<Duration> {
        self.permits.shortest_lease().map(lease::answer_in)
    }

    /// The name has come to another place: the turn did not run, and is said again there.
    pub(crate) fn redirected(&mut self, number: TurnNumber, error: &StoreError, now: Instant) {
        if self.outage.redirected(now) == Redirected::TooOften {
            return self.did_not_run(number, error, now);
        }
        if let Some(landed) = self.in_flight.landed(number) {
            self.say_again(landed, false);
        }
    }

    /// The store knows of a higher epoch, as after a state of this name that was dropped since: the
    /// turn did nothing, and all that it named is said again.
    pub(crate) fn overtaken(&mut self, number: TurnNumber, epoch: Epoch) {
        let Some(landed) = self.in_flight.landed(number) else { return };
        self.epochs.overtaken(epoch);
        self.requested = true;
        self.say_again(landed, false);
    }

    fn say_failed_turn_again(&mut self, number: TurnNumber, error: &StoreError, now: Instant) {
        let Some(landed) = self.in_flight.landed(number) else { return };
        let change = self.outage.turn_failed(error, landed.sent, now);
        self.wake_on(change);
        self.say_again(landed, true);
        self.waiters.schedule_heartbeat(now, now);
    }

    /// Puts all that a turn has named back to where the next turn takes it from. `retried` is whether
    /// the turn may have run.
    fn say_again(&mut self, landed: LandedTurn, retried: bool) {
        let LandedTurn { number, renewed_again, named, .. } = landed;
        let Named { cancelled, released, renewed, asked, admitted, .. } = named;
        for mut removal in cancelled.into_iter().chain(released) {
            removal.retried |= retried;
            self.removals.list_again(removal, &mut self.effects);
        }
        if !renewed_again {
            self.permits.due_again(number, &renewed);
        }
        for counter in asked.into_iter().chain(admitted) {
            self.waiters.name_again(counter);
        }
    }

    // The connection.

    /// Notes why there is no connection. Waiters keep waiting, unless only a change of configuration can
    /// help.
    pub(crate) fn without_connection(&mut self, error: Option<&StoreError>, now: Instant) {
        let Some(error) = error else { return };
        let change = self.outage.note(error, now, now);
        self.wake_on(change);
        if error.is_final() {
            self.refuse_all(error, now);
        }
    }

    /// On a new connection: what was said on the old one, and what the store has kept, is not known.
    pub(crate) fn reconnected(&mut self) {
        let change = self.outage.reconnected();
        self.wake_on(change);
        self.meet_again();
    }

    /// The next turn may meet another server, with older data.
    fn meet_again(&mut self) {
        self.in_flight.reconnected();
        self.meetings.reconnected();
        self.permits.reconnected();
        self.removals.cancel_again(self.removed.take(self.in_flight.after_all_sent()));
        self.waiters.ask_about_all();
    }

    /// Notes that the name has come to another place. What of it has come along, and which wake-ups were
    /// missed, is not known. Returns the instant to which the driver of the old place has set the timer.
    pub(crate) fn moved(&mut self) -> Option<Instant> {
        self.meet_again();
        self.timer.take()
    }
}
