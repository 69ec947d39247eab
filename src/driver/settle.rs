//! Takes in what became of a turn. Pure.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::StoreError;
use crate::lease;
use crate::lost_reason::LostReason;
use crate::options::Renew;
use crate::released::Released;
use crate::store::{CLAIM_MS, Renewed, Rule, Settled, TurnReply};

use super::batch::{Flight, SHARE};
use super::errand::Errand;
use super::held::Renewal;
use super::line::Line;
use super::take_back::TakeBack;
use super::waiter::{Stage, Stamp, WaitEnd};

/// So many recent turns are remembered to count a claim from the latest that fits.
const STAMPS: usize = 8;
/// So often a waiter that is refused looks again where the turn left undone what may hide the room for
/// it: a try is to end within the call timeout.
const LOOKS: u32 = 64;
/// When a client speaks that has cause to think that its waiters are not all in the queue.
const SOONER: Duration = Duration::from_millis(100);

impl Line {
    /// A turn in flight was answered.
    pub(crate) fn settle(&mut self, number: u64, reply: TurnReply, now: Instant) {
        let Some(flight) = self.landed(number) else { return };
        self.pause.end();
        self.out_of_trouble();
        self.settled_epoch = self.settled_epoch.max(flight.epoch);
        self.counts = Some((reply.in_use, reply.limit));
        self.note_header(&reply, &flight);
        self.settle_releases(&reply, flight.released);
        self.settle_renewals(&reply, flight.sent, flight.renewed, now);
        self.end_healing();
        let mut unheard = false;
        let named = flight.asked.iter().chain(&flight.admitted).copied();
        for (counter, settled) in named.zip(reply.asked.iter().chain(&reply.admitted)) {
            let strange = self.settle_waiter(counter, *settled, &reply, flight.sent, now);
            unheard |= strange && flight.oldest == Some(counter);
        }
        self.settle_others(&reply, flight.sent, now);
        if unheard {
            self.ask_about_all();
        }
        self.miss(reply.put_back);
        self.earliest = reply.earliest.map(|wait| now + wait);
        self.nudged |= reply.more;
        self.speak_next(false, flight.sent, now);
        self.speak_sooner(reply.waiting, now);
    }

    fn landed(&mut self, number: u64) -> Option<Flight> {
        let index = self.flights.iter().position(|flight| flight.number == number)?;
        Some(self.flights.remove(index))
    }

    fn note_header(&mut self, reply: &TurnReply, flight: &Flight) {
        let before = std::mem::replace(&mut self.incarnation, reply.incarnation);
        if before == reply.incarnation {
            self.healing &= self.data_lost;
        } else if before != 0 {
            self.untold_loss = true;
            self.data_lost = true;
            self.renew_all();
            self.ask_about_all();
        }
        self.seen = self.seen.max(reply.last);
        self.override_ = reply.overridden.then_some(reply.limit);
        if self.stamps.len() == STAMPS {
            self.stamps.pop_front();
        }
        self.stamps.push_back(Stamp { sent: flight.sent, last: reply.last });
    }

    /// Waiters stand back no longer once all that is held is known under the present incarnation: where
    /// leases are short next to the round trip, some renewal is in flight at any time.
    fn end_healing(&mut self) {
        if self.data_lost
            && self.renewing.len() <= SHARE // else there are more, and to look at all costs too much
            && self.held.values().all(|held| held.incarnation == self.incarnation)
        {
            self.data_lost = false;
            self.healing = false;
        }
    }

    fn settle_releases(&mut self, reply: &TurnReply, released: Vec<TakeBack>) {
        for (index, take_back) in released.into_iter().enumerate() {
            if let Some(done) = take_back.done {
                // After an unanswered try, "not there" means that the try did it.
                let gone = !take_back.retried && reply.missing.contains(&index);
                let released = if gone { Released::AlreadyGone } else { Released::Freed };
                self.errands.push(Errand::Released(done, Ok(released)));
            }
        }
    }

    fn settle_renewals(
        &mut self,
        reply: &TurnReply,
        sent: Instant,
        renewed: Vec<(u64, u64)>,
        now: Instant,
    ) {
        for (index, (counter, ms)) in renewed.into_iter().enumerate() {
            let outcome = reply.not_plain.iter().find(|(at, _)| *at == index).map(|(_, o)| *o);
            match outcome {
                Some(Renewed::Gone) => self.lose(counter, LostReason::MissingInStore, now),
                Some(Renewed::Kicked) => self.lose(counter, LostReason::Kicked, now),
                None | Some(Renewed::PutBack) => self.renewed(counter, ms, sent, reply, now),
            }
        }
    }

    fn renewed(&mut self, counter: u64, ms: u64, sent: Instant, reply: &TurnReply, now: Instant) {
        let Some(held) = self.held.get_mut(&counter) else { return };
        if held.hold.deadline() <= now {
            return; // lost already: the next tick says so
        }
        held.incarnation = reply.incarnation;
        if std::mem::take(&mut held.claim) {
            self.leases.remove(Duration::from_millis(CLAIM_MS));
            self.leases.add(held.hold.id.lease());
        }
        held.extended(sent, Duration::from_millis(ms));
        // More was asked for while this turn was under way.
        let (more, done): (Vec<_>, Vec<_>) =
            std::mem::take(&mut held.extends).into_iter().partition(|(asked, _)| *asked > ms);
        held.extends = more;
        self.errands.extend(done.into_iter().map(|(_, done)| Errand::Extended(done, Ok(()))));
        let more_asked = !held.extends.is_empty();
        held.renewal = match held.options.renew {
            Renew::Auto => Renewal::At(lease::renew_at(sent, held.hold.id.lease())),
            Renew::Manual => Renewal::Never,
        };
        self.look_again(counter);
        if more_asked {
            self.renew_now(counter);
        }
    }

    /// True when it turns out that the waiter had been granted unheard.
    fn settle_waiter(
        &mut self,
        counter: u64,
        settled: Settled,
        reply: &TurnReply,
        sent: Instant,
        now: Instant,
    ) -> bool {
        let Some(waiter) = self.waiters.get_mut(&counter) else { return false };
        let woken = waiter.woken.take();
        waiter.flying = false;
        if matches!(waiter.stage, Stage::Done(_)) {
            return false; // the other turn in flight, which ran later, has told more
        }
        match settled {
            Settled::Granted { token, earlier } => {
                let ms = waiter.id.lease_ms();
                self.unheard |= earlier && woken.is_none() && self.hears;
                self.grant(counter, token, sent, ms, now);
                return earlier;
            }
            Settled::Queued { ticket, place } => {
                // After a loss of data a late turn may have queued it again.
                if let Stage::Queued { ticket: old } = waiter.stage
                    && old != ticket
                {
                    self.queue.remove(&old);
                    self.asking.remove(&old);
                }
                waiter.stage = Stage::Queued { ticket };
                waiter.ahead = Some(place);
                waiter.stamp = Some(Stamp { sent, last: reply.last });
                self.queue.insert(ticket, counter);
                self.pace(counter, now);
                if let Some(token) = woken {
                    self.hear(counter, token, now);
                }
            }
            Settled::Refused if reply.more && waiter.tries < LOOKS => {
                waiter.tries += 1;
                self.ask_again(counter);
            }
            Settled::Refused => {
                let end = match waiter.rule {
                    Rule::Try => WaitEnd::Full {
                        in_use: reply.in_use,
                        limit: reply.limit,
                        waiting: reply.waiting,
                    },
                    _ => WaitEnd::QueueFull { waiting: reply.waiting },
                };
                self.end_wait(counter, end);
            }
            Settled::Kicked => {
                let id = waiter.id;
                self.give_back_stray(id, now);
                self.end_wait(counter, WaitEnd::Kicked);
            }
            Settled::TooLarge => self.end_wait(counter, WaitEnd::TooLarge { limit: reply.limit }),
        }
        false
    }

    /// A store that had lost one waiter may have lost others. So all are asked about, until a round of
    /// questions finds none that was lost. However many a round finds, one more round follows it.
    fn miss(&mut self, put_back: bool) {
        self.missed |= put_back;
        if self.missed && self.asking.is_empty() {
            self.missed = false;
            self.ask_about_all();
        }
    }

    fn settle_others(&mut self, reply: &TurnReply, sent: Instant, now: Instant) {
        for &(id, token) in &reply.others {
            let counter = id.counter();
            match token {
                _ if !self.waiters.contains_key(&counter) => {
                    if !self.held.contains_key(&counter) {
                        self.give_back_stray(id, now);
                    }
                }
                Some(token) => self.grant(counter, token, sent, id.lease_ms(), now),
                None => self.end_wait(counter, WaitEnd::TooLarge { limit: reply.limit }),
            }
        }
    }

    /// When to speak next, so that the store goes on to think that this client lives.
    fn speak_next(&mut self, spoke: bool, sent: Instant, now: Instant) {
        if self.queue.is_empty() {
            self.forget_speaking();
            return;
        }
        if spoke || self.speak_at.is_none() {
            let oldest = self.queue.first_key_value().and_then(|(_, id)| self.waiters.get(id));
            let lease = oldest.map_or(lease::SHORTEST, |waiter| waiter.id.lease());
            let at = sent + lease::asking_period(lease);
            self.speak_at = Some(at.max(now + Duration::from_millis(1)));
        }
    }

    /// Where fewer wait than wait here, some were lost, or granted unheard. Not at once: wake-ups may
    /// be on their way by another connection.
    fn speak_sooner(&mut self, waiting: u64, now: Instant) {
        if waiting < self.queue.len() as u64 {
            self.speak_at = self.speak_at.map(|at| at.min(now + SOONER));
        }
    }

    /// No definite answer came: the turn may have run, may run later, or never.
    pub(crate) fn unanswered(&mut self, number: u64, error: &StoreError, now: Instant) {
        self.epoch += 1;
        self.restore(number, error, now);
        self.ask_about_all();
    }

    /// The server refused the turn, which may have begun: it is said again after a pause, in an epoch of
    /// its own. So a server without memory refuses it each time: it refuses the first write, and then
    /// to note the epoch, but not what follows a release.
    pub(crate) fn was_refused(&mut self, number: u64, error: &StoreError, now: Instant) {
        let settled = self.settled_epoch == self.epoch;
        self.epoch += 1;
        if settled {
            self.settled_epoch = self.epoch; // it had its answer, and will not run late
        }
        self.did_not_run(number, error, now);
    }

    /// The server said that the turn did not run; it is asked again after a pause.
    pub(crate) fn did_not_run(&mut self, number: u64, error: &StoreError, now: Instant) {
        self.restore(number, error, now);
        self.pause.lengthen(now);
    }

    /// The store knows of a higher epoch, as after a line of this name that was dropped since: the
    /// turn did nothing, and all that it named is said again.
    pub(crate) fn stale(&mut self, number: u64, epoch: u64) {
        let Some(flight) = self.landed(number) else { return };
        self.epoch = self.epoch.max(epoch);
        self.settled_epoch = self.settled_epoch.max(epoch);
        self.nudged = true;
        for take_back in flight.cancelled.into_iter().chain(flight.released) {
            self.take_back(take_back);
        }
        self.renew_again(flight.number, flight.renewed, flight.relieved);
        for counter in flight.asked.into_iter().chain(flight.admitted) {
            self.name_again(counter);
        }
    }

    fn restore(&mut self, number: u64, error: &StoreError, now: Instant) {
        let Some(flight) = self.landed(number) else { return };
        self.turn_failed(error, flight.sent, now);
        for take_back in flight.cancelled.into_iter().chain(flight.released) {
            self.take_back(TakeBack { retried: true, ..take_back });
        }
        self.renew_again(flight.number, flight.renewed, flight.relieved);
        for counter in flight.asked.into_iter().chain(flight.admitted) {
            self.name_again(counter);
        }
        self.speak_next(true, now, now);
    }

    /// A turn that was to renew them may not have; if its answer was late, they are due already.
    fn renew_again(&mut self, turn: u64, renewed: Vec<(u64, u64)>, relieved: bool) {
        let waits = |counter: &u64| self.held.get(counter).is_some_and(|it| it.is_renewed_by(turn));
        let due =
            renewed.into_iter().map(|(counter, _)| counter).filter(|_| !relieved).filter(waits);
        self.renewing.extend(due);
    }

    /// The turn that named it does so no longer, and told nothing.
    fn name_again(&mut self, counter: u64) {
        if let Some(waiter) = self.waiters.get_mut(&counter) {
            waiter.woken = None;
            waiter.flying = false;
        }
        self.ask_again(counter);
    }
}
