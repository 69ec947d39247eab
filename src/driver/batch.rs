//! Builds the next turn of a line. Pure.

use std::time::Duration;

use tokio::time::Instant;

use crate::id::PermitId;
use crate::lease;
use crate::store::{Ask, TURN_BOUND, Turn};

use super::held::{Held, Renewal};
use super::line::Line;
use super::take_back::TakeBack;
use super::waiter::Stage;

/// Renewals and take-backs leave room for each other and for waiters.
pub(super) const SHARE: usize = TURN_BOUND * 7 / 8;
/// A waiter costs the server about twice what a renewal or a release does.
const WAITER: usize = 2;
/// How many renewals that are not due yet ride along at the most.
const RIDERS: usize = 64;

/// For how many call timeouts an answer is awaited while the server answers others.
pub(super) const STRETCH: u32 = 4;

/// What a turn in flight named, in the order it named it.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) number: u64,
    pub(super) epoch: u64,
    pub(super) sent: Instant,
    /// It went out beside others, only to renew.
    pub(super) relief: bool,
    /// What it renews is due again, since its answer is late.
    pub(super) relieved: bool,
    pub(super) released: Vec<TakeBack>,
    pub(super) cancelled: Vec<TakeBack>,
    /// With the lease in milliseconds that each was to get.
    pub(super) renewed: Vec<(u64, u64)>,
    pub(super) asked: Vec<u64>,
    pub(super) admitted: Vec<u64>,
    /// The waiter that was asked about only since the client has to speak.
    pub(super) oldest: Option<u64>,
}

impl Flight {
    pub(super) fn take_backs(&self) -> usize {
        self.released.len() + self.cancelled.len()
    }

    pub(super) fn takes_back(&self, id: PermitId) -> bool {
        self.cancelled.iter().chain(&self.released).any(|take_back| take_back.id == id)
    }
}

/// A turn to send.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// Of the turns of this line.
    pub(crate) number: u64,
    pub(crate) turn: Turn,
    /// It goes out since the answer to another one is late for a lease.
    pub(crate) relief: bool,
}

impl Line {
    /// The next turn, if there is anything to say. While a turn is in flight another one goes out
    /// only if it is worth at least `follower` (see [`may_follow`](Self::may_follow)), or if it only
    /// renews what cannot wait for the answer (see [`may_relieve`](Self::may_relieve)).
    pub(crate) fn next_turn(
        &mut self,
        now: Instant,
        call_timeout: Duration,
        follower: Option<usize>,
    ) -> Option<Outgoing> {
        if self.pause.until.is_some_and(|until| now < until) {
            return None;
        }
        self.pause.until = None;
        let speak = self.speak_at.is_some_and(|at| at <= now);
        let due = speak || self.earliest.is_some_and(|at| at <= now);
        self.skip_the_gone();
        let asks = due || self.nudged || !self.asking.is_empty() || !self.again.is_empty();
        let mut relief = false;
        if self.is_free() {
            let idle = !asks
                && self.epoch == self.settled_epoch
                && self.renewing.is_empty()
                && self.take_backs.is_empty()
                && self.fresh.is_empty();
            if idle {
                return None;
            }
        } else if asks || !follower.is_some_and(|worth| self.may_follow(worth)) {
            relief = self.may_relieve(now);
            if !relief {
                return None;
            }
        }

        let (mut turn, mut flight) = self.begin(now, relief);
        let mut room = TURN_BOUND;
        let longest = call_timeout * STRETCH;
        self.put_renewals(&mut turn, &mut flight, now, longest, &mut room);
        if !relief {
            self.put_all_else(&mut turn, &mut flight, speak, now + longest, room);
        }
        self.flights.push(flight);
        Some(Outgoing { number: self.sent_turns, turn, relief })
    }

    /// A turn that says nothing yet, and what it named.
    fn begin(&mut self, now: Instant, relief: bool) -> (Turn, Flight) {
        let turn = Turn {
            name: self.name.clone(),
            client: self.client,
            label: self.label.clone(),
            epoch: self.epoch,
            limit: self.limit(),
            seen: self.seen,
            incarnation: self.incarnation,
            release: Vec::new(),
            release_from: 0,
            cancel: Vec::new(),
            renew: Vec::new(),
            ask: Vec::new(),
            admit: Vec::new(),
        };
        self.sent_turns += 1;
        let flight = Flight {
            number: self.sent_turns,
            epoch: self.epoch,
            sent: now,
            relief,
            relieved: false,
            released: Vec::new(),
            cancelled: Vec::new(),
            renewed: Vec::new(),
            asked: Vec::new(),
            admitted: Vec::new(),
            oldest: None,
        };
        (turn, flight)
    }

    fn put_all_else(
        &mut self,
        turn: &mut Turn,
        flight: &mut Flight,
        speak: bool,
        answered_by: Instant,
        mut room: usize,
    ) {
        self.nudged = false;
        self.earliest = None;
        self.put_take_backs(turn, flight, answered_by, &mut room);
        self.healing &= !self.renewing.is_empty();
        self.data_lost &= self.healing;
        if !self.healing {
            self.put_asks(turn, flight, speak, &mut room);
            self.put_admits(turn, flight, &mut room);
        }
    }

    /// Whether a turn of all kinds may go out: those that only renew are not in its way, but that
    /// permits which they put back come before waiters.
    pub(super) fn is_free(&self) -> bool {
        self.flights.iter().all(|flight| flight.relief && !self.healing)
    }

    /// Whether what is due for renewal goes out beside all turns in flight: their answers are late for
    /// the shortest lease, but may still come and count.
    fn may_relieve(&self, now: Instant) -> bool {
        !self.renewing.is_empty() && self.relief_at().is_some_and(|at| at <= now)
    }

    /// When the answers to all turns in flight are late for the shortest lease held.
    pub(super) fn relief_at(&self) -> Option<Instant> {
        self.flights.last()?.sent.checked_add(lease::answer_in(self.leases.shortest()?))
    }

    /// What a turn renews is due again once its answer is late.
    pub(super) fn tend_flights(&mut self, now: Instant) {
        let Some(shortest) = self.leases.shortest() else { return };
        let grace = lease::answer_in(shortest);
        for flight in &mut self.flights {
            let late = flight.sent.checked_add(grace).is_some_and(|at| at <= now);
            if flight.relieved || !late {
                continue;
            }
            flight.relieved = true;
            for (counter, _) in &flight.renewed {
                let held = self.held.get(counter);
                if held.is_some_and(|held| held.is_renewed_by(flight.number)) {
                    self.renewing.push_back(*counter);
                }
            }
        }
    }

    /// Whether a second turn may go out before the first one has landed: while nothing is amiss, and
    /// only to say what no turn in flight can contradict. It names other ids, and the first one asks
    /// about none, so the store may run the two in any order; `ARCHITECTURE.md` has the argument.
    fn may_follow(&self, worth: usize) -> bool {
        let [leader] = self.flights.as_slice() else { return false };
        let free = |take_back: &TakeBack| take_back.behind < leader.number;
        leader.number > self.old_turns
            && self.trouble.is_none()
            && !self.healing
            && leader.asked.is_empty() // a question that runs later would reopen what this turn settled
            && self.fresh.len() + self.take_backs.iter().take(worth).filter(|&it| free(it)).count()
                >= worth
    }

    /// Of the turns in flight; an id that it, or a later one, may name is not to be named again.
    pub(super) fn oldest_flight(&self) -> u64 {
        self.flights.first().map_or(u64::MAX, |flight| flight.number)
    }

    fn skip_the_gone(&mut self) {
        while self.fresh.front().is_some_and(|counter| !self.waiters.contains_key(counter)) {
            self.fresh.pop_front();
        }
        while self.again.front().is_some_and(|counter| !self.waiters.contains_key(counter)) {
            self.again.pop_front();
        }
        let waits = |held: &Held| held.renewal == Renewal::UnderWay;
        while self.renewing.front().is_some_and(|it| !self.held.get(it).is_some_and(waits)) {
            self.renewing.pop_front();
        }
    }

    fn put_renewals(
        &mut self,
        turn: &mut Turn,
        flight: &mut Flight,
        now: Instant,
        slack: Duration,
        room: &mut usize,
    ) {
        let most = SHARE.min(*room);
        let oldest = self.oldest_flight();
        let mut others = Vec::new(); // for the next turn
        let mut first = true;
        while turn.renew.len() < most
            && let Some(counter) = self.renewing.pop_front()
        {
            let Some(held) = self.held.get_mut(&counter) else { continue };
            if held.renewal != Renewal::UnderWay || held.renewed_by == flight.number {
                continue; // answered meanwhile, or on the list twice
            }
            let fits = first || held.incarnation == turn.incarnation;
            if !fits || (held.named_by >= oldest && !flight.relief) {
                others.push(counter);
                continue;
            }
            turn.incarnation = held.incarnation;
            first = false;
            let id = held.hold.id;
            let asked = held.extends.iter().map(|&(ms, _)| ms).max();
            let ms = held.own_lease_ms(now).max(asked.unwrap_or(0));
            held.server_until = held.server_until.max(now + slack + Duration::from_millis(ms));
            held.renewed_by = flight.number;
            turn.renew.push((id, ms));
            flight.renewed.push((counter, ms));
        }
        self.renewing.extend(others);
        self.put_riders(turn, flight, now, slack, most);
        *room -= turn.renew.len();
    }

    /// Renewals that are nearly due ride along: a claim becomes a full lease without a turn of its
    /// own, and permits granted at different times come to be renewed together.
    fn put_riders(
        &mut self,
        turn: &mut Turn,
        flight: &mut Flight,
        now: Instant,
        slack: Duration,
        most: usize,
    ) {
        let most = most.saturating_sub(turn.renew.len()).min(RIDERS);
        let oldest = self.oldest_flight();
        let (mut looked_at, mut riders) = (Vec::new(), Vec::new());
        while looked_at.len() < most
            && let Some((at, counter)) = self.next_due()
            && let Some(held) = self.held.get(&counter)
            && at <= now + lease::ride(held.hold.id.lease())
        {
            self.due.pop();
            looked_at.push((at, counter));
            let Some(held) = self.held.get_mut(&counter) else { continue };
            let fits = turn.renew.is_empty() || held.incarnation == turn.incarnation;
            if held.renewal == Renewal::At(at) && fits && held.named_by < oldest {
                turn.incarnation = held.incarnation;
                let ms = held.own_lease_ms(now);
                held.server_until = held.server_until.max(now + slack + Duration::from_millis(ms));
                turn.renew.push((held.hold.id, ms));
                flight.renewed.push((counter, ms));
                riders.push(counter);
            }
        }
        for (at, counter) in looked_at {
            self.due.put(at, counter);
        }
        for counter in riders {
            if let Some(held) = self.held.get_mut(&counter) {
                held.renewal = Renewal::UnderWay;
                held.renewed_by = flight.number;
            }
            self.look_again(counter);
        }
    }

    fn put_take_backs(
        &mut self,
        turn: &mut Turn,
        flight: &mut Flight,
        answered_by: Instant,
        room: &mut usize,
    ) {
        let most = *room - *room / 4; // the rest is for waiters
        let oldest = self.oldest_flight();
        let mut count = 0;
        while count < most
            && self.take_backs.front().is_some_and(|next| next.behind < oldest)
            && let Some(take_back) = self.take_backs.pop_front()
        {
            count += 1;
            if take_back.anywhere {
                turn.cancel.push(take_back.id);
                flight.cancelled.push(take_back);
            } else {
                flight.released.push(take_back);
            }
        }
        let heavy = |take_back: &TakeBack| take_back.id.units() > 1;
        if flight.released.iter().any(heavy) {
            flight.released.sort_by_key(heavy);
        }
        turn.release.extend(flight.released.iter().map(|take_back| take_back.id));
        // After a loss of data some were put back and some were not.
        let incarnation = self.incarnation;
        let is_there =
            |it: &TakeBack| it.alive_until > answered_by && it.incarnation == incarnation;
        let token = |it: &TakeBack| if is_there(it) { it.token } else { 0 };
        let light = flight.released.iter().filter(|it| !heavy(it));
        turn.release_from = light.map(token).min().unwrap_or(0);
        *room -= count;
    }

    fn put_asks(&mut self, turn: &mut Turn, flight: &mut Flight, speak: bool, room: &mut usize) {
        if speak && let Some((&ticket, &counter)) = self.queue.first_key_value() {
            self.speak_at = None;
            if self.asking.insert(ticket) {
                flight.oldest = Some(counter);
            }
        }
        while *room >= WAITER
            && let Some(ticket) = self.asking.pop_first()
        {
            let Some(&counter) = self.queue.get(&ticket) else { continue };
            self.put_ask(turn, flight, counter, ticket, room);
        }
        while *room >= WAITER
            && let Some(counter) = self.again.pop_front()
        {
            self.put_ask(turn, flight, counter, 0, room);
        }
    }

    fn put_ask(
        &mut self,
        turn: &mut Turn,
        flight: &mut Flight,
        counter: u64,
        ticket: u64,
        room: &mut usize,
    ) {
        let Some(waiter) = self.waiters.get_mut(&counter) else { return };
        if waiter.flying || matches!(waiter.stage, Stage::Done(_)) {
            return;
        }
        waiter.flying = true;
        turn.ask.push(Ask { id: waiter.id, ticket, rule: waiter.rule });
        flight.asked.push(counter);
        *room -= WAITER;
    }

    fn put_admits(&mut self, turn: &mut Turn, flight: &mut Flight, room: &mut usize) {
        while *room >= WAITER
            && let Some(counter) = self.fresh.pop_front()
        {
            let Some(waiter) = self.waiters.get_mut(&counter) else { continue };
            if !matches!(waiter.stage, Stage::Fresh) {
                continue;
            }
            waiter.stage = Stage::Sent;
            waiter.flying = true;
            turn.admit.push((waiter.id, waiter.rule));
            flight.admitted.push(counter);
            *room -= WAITER;
        }
    }
}
