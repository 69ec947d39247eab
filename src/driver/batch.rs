//! Builds the next turn of a line. Pure.

use std::time::Duration;

use tokio::time::Instant;

use crate::id::PermitId;
use crate::lease;
use crate::store::{Ask, TURN_BOUND, Turn};

use super::held::Renewal;
use super::line::Line;
use super::take_back::TakeBack;
use super::waiter::Stage;

/// Renewals and take-backs leave room for each other and for waiters.
const SHARE: usize = TURN_BOUND * 7 / 8;
/// A waiter costs the server about twice what a renewal or a release does.
const WAITER: usize = 2;
/// At most so many renewals that are not due yet ride along.
const RIDERS: usize = 64;

/// What a turn in flight named, in the order it named it.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) number: u64,
    pub(super) sent: Instant,
    pub(super) deadline: Duration,
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

/// A turn to send, and how long its answer may take.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// Of the turns of this line.
    pub(crate) number: u64,
    pub(crate) turn: Turn,
    pub(crate) deadline: Duration,
}

impl Line {
    /// The next turn, if there is anything to say. While a turn is in flight another one goes out
    /// only if it is worth at least `follower` (see [`may_follow`](Self::may_follow)).
    pub(crate) fn next_turn(
        &mut self,
        now: Instant,
        epoch: u64,
        call_deadline: Duration,
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
        if self.flights.is_empty() {
            let idle = !asks
                && self.renewing.is_empty()
                && self.take_backs.is_empty()
                && self.fresh.is_empty();
            if idle {
                return None;
            }
        } else if asks || !follower.is_some_and(|worth| self.may_follow(worth)) {
            return None;
        }
        self.nudged = false;
        self.earliest = None;

        let mut turn = Turn {
            name: self.name.clone(),
            client: self.client,
            label: self.label.clone(),
            epoch,
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
        let number = self.sent_turns;
        let mut flight = Flight {
            number,
            sent: now,
            deadline: call_deadline,
            released: Vec::new(),
            cancelled: Vec::new(),
            renewed: Vec::new(),
            asked: Vec::new(),
            admitted: Vec::new(),
            oldest: None,
        };
        let mut room = TURN_BOUND;
        let shortest = self.put_renewals(&mut turn, &mut flight, now, call_deadline, &mut room);
        self.put_take_backs(&mut turn, &mut flight, now + call_deadline, &mut room);
        self.healing &= !self.renewing.is_empty();
        self.data_lost &= self.healing;
        if !self.healing {
            self.put_asks(&mut turn, &mut flight, speak, &mut room);
            self.put_admits(&mut turn, &mut flight, &mut room);
        }
        // One lost reply must not cost a short lease, nor those of two turns abreast.
        let leader = self.flights.first().map_or(call_deadline, |leader| leader.deadline);
        let deadline = shortest.map_or(leader, |lease| leader.min(lease / 6));
        flight.deadline = deadline;
        self.flights.push(flight);
        Some(Outgoing { number, turn, deadline })
    }

    /// Whether a second turn may go out before the first one has landed: while nothing is amiss, and
    /// only to say what no turn in flight can contradict. It names other ids, so the store may run
    /// the two in any order; `ARCHITECTURE.md` has the argument.
    fn may_follow(&self, worth: usize) -> bool {
        let [leader] = self.flights.as_slice() else { return false };
        let free = |take_back: &TakeBack| take_back.behind < leader.number;
        leader.number > self.old_turns
            && self.trouble.is_none()
            && !self.healing
            && self.fresh.len() + self.take_backs.iter().take(worth).filter(|&it| free(it)).count()
                >= worth
    }

    fn skip_the_gone(&mut self) {
        while self.fresh.front().is_some_and(|counter| !self.waiters.contains_key(counter)) {
            self.fresh.pop_front();
        }
        while self.again.front().is_some_and(|counter| !self.waiters.contains_key(counter)) {
            self.again.pop_front();
        }
        while self.renewing.front().is_some_and(|counter| !self.held.contains_key(counter)) {
            self.renewing.pop_front();
        }
    }

    /// Returns the shortest lease renewed.
    fn put_renewals(
        &mut self,
        turn: &mut Turn,
        flight: &mut Flight,
        now: Instant,
        slack: Duration,
        room: &mut usize,
    ) -> Option<Duration> {
        let most = SHARE.min(*room);
        let mut others = Vec::new(); // granted under another incarnation: for the next turn
        let mut first = true;
        let mut shortest: Option<u64> = None;
        while turn.renew.len() < most
            && let Some(counter) = self.renewing.pop_front()
        {
            let Some(held) = self.held.get_mut(&counter) else { continue };
            if first {
                turn.incarnation = held.incarnation;
                first = false;
            } else if held.incarnation != turn.incarnation {
                others.push(counter);
                continue;
            }
            let id = held.hold.id;
            let asked = held.extends.iter().map(|&(ms, _)| ms).max();
            let ms = held.own_lease_ms(now).max(asked.unwrap_or(0));
            held.server_until = held.server_until.max(now + slack + Duration::from_millis(ms));
            shortest = Some(shortest.map_or(id.lease_ms(), |other| other.min(id.lease_ms())));
            turn.renew.push((id, ms));
            flight.renewed.push((counter, ms));
        }
        self.renewing.extend(others);
        self.put_riders(turn, flight, now, slack, most);
        *room -= turn.renew.len();
        let riders = turn.renew.iter().map(|(id, _)| id.lease_ms()).min();
        shortest.into_iter().chain(riders).min().map(Duration::from_millis)
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
            if held.renewal == Renewal::At(at) && fits {
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
        let oldest = self.flights.first().map_or(u64::MAX, |flight| flight.number);
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
        let token = |take_back: &TakeBack| {
            if take_back.alive_until > answered_by { take_back.token } else { 0 }
        };
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
