//! The books of one semaphore and the turn, step for step as `lua/turn.lua` does it. Pure.
//!
//! The two are held together by a property test that runs the same random turns through both and
//! compares every reply; a change here wants the same change there.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::id::{ClientId, PermitId};
use crate::inspection::KickOutcome;
use crate::inspection::{Holder, Inspection, QueuedWaiter};
use crate::store::{
    ALIVE_MS, Ask, CLAIM_MS, INSPECT_BOUND, LOOK_BOUND, Renewed, Rule, Settled, Turn, TurnOutcome,
    TurnReply,
};

use super::Note;

const TTL_SLACK_MS: u64 = 10_000;
const META_OUTLIVES_MS: u64 = 60_000;
const FORGET_CLIENT_MS: u64 = 3_600_000;
const FORGET_AT_ONCE: usize = 16;

#[derive(Debug, Default)]
pub(crate) struct Books {
    permits: Ranking,
    queue: Ranking,
    /// Until when each client is presumed alive, milliseconds.
    clients: HashMap<ClientId, u64>,
    meta: Option<Meta>,
    opening: Option<Opening>,
}

/// With what the books of a name begin in a store that loses nothing, but does not keep books in
/// which there is nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opening {
    /// Of the whole store.
    pub(super) incarnation: u64,
    /// No token of any name that has gone is higher.
    pub(super) last: u64,
}

#[derive(Debug)]
struct Meta {
    incarnation: u64,
    last: u64,
    override_: Option<u32>,
    extra: u64,
    /// When everything but `meta` vanishes, milliseconds.
    ttl: u64,
    /// When `meta` vanishes; never while it carries an override.
    expires: Option<u64>,
    epochs: HashMap<ClientId, u64>,
    labels: HashMap<ClientId, Arc<str>>,
}

impl Meta {
    fn new(incarnation: u64) -> Self {
        Self {
            incarnation,
            last: 0,
            override_: None,
            extra: 0,
            ttl: 0,
            expires: None,
            epochs: HashMap::new(),
            labels: HashMap::new(),
        }
    }
}

/// Ids by score, as a sorted set keeps them. Scores of permits are twice the deadline, so that a
/// kicked one can stand half a millisecond behind it.
#[derive(Debug, Default)]
struct Ranking {
    order: BTreeSet<(u64, ByText)>,
    scores: HashMap<PermitId, u64>,
}

impl Ranking {
    fn len(&self) -> u64 {
        self.scores.len() as u64
    }

    fn score(&self, id: &PermitId) -> Option<u64> {
        self.scores.get(id).copied()
    }

    fn put(&mut self, id: PermitId, score: u64) {
        if let Some(before) = self.scores.insert(id, score) {
            self.order.remove(&(before, ByText(id)));
        }
        self.order.insert((score, ByText(id)));
    }

    fn remove(&mut self, id: &PermitId) -> bool {
        let Some(score) = self.scores.remove(id) else { return false };
        self.order.remove(&(score, ByText(*id)));
        true
    }

    fn first(&self) -> Option<(u64, PermitId)> {
        self.order.first().map(|&(score, ByText(id))| (score, id))
    }

    fn rank(&self, id: &PermitId) -> u64 {
        match self.score(id) {
            Some(score) => self.order.range(..(score, ByText(*id))).count() as u64,
            None => 0,
        }
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Ids of one score in the order of their texts, as Redis has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ByText(PermitId);

impl Ord for ByText {
    fn cmp(&self, other: &Self) -> Ordering {
        // The client part has a fixed width, and what may follow the counter sorts before digits.
        let digits = |id: &PermitId| {
            let mut text = [0u8; 20];
            let (mut at, mut rest) = (text.len(), id.counter());
            loop {
                at -= 1;
                text[at] = b'0' + (rest % 10) as u8;
                rest /= 10;
                if rest == 0 {
                    return (text, at);
                }
            }
        };
        self.0.client().cmp(&other.0.client()).then_with(|| {
            let ((a, from_a), (b, from_b)) = (digits(&self.0), digits(&other.0));
            a[from_a..].cmp(&b[from_b..]).then_with(|| self.0.cmp(&other.0))
        })
    }
}

impl PartialOrd for ByText {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Books {
    pub(super) fn open(opening: Opening) -> Self {
        Self { opening: Some(opening), ..Self::default() }
    }

    /// Whether nothing here would be missed, if no token gets lower than [`last`](Self::last).
    pub(super) fn is_blank(&self) -> bool {
        let plain = |meta: &Meta| meta.override_.is_none() && meta.epochs.is_empty();
        self.permits.len() == 0 && self.queue.len() == 0 && self.meta.as_ref().is_none_or(plain)
    }

    /// The last token or ticket given out.
    pub(super) fn last(&self) -> u64 {
        self.meta.as_ref().map_or(0, |meta| meta.last)
    }

    /// `meta`; made again, with the heavy permits counted, when it is not there.
    fn meta_at(&mut self, now: u64) -> &mut Meta {
        let (permits, opening) = (&self.permits, self.opening);
        self.meta.get_or_insert_with(|| {
            let extra = permits.scores.keys().map(|id| u64::from(id.units()) - 1).sum();
            match opening {
                Some(Opening { incarnation, last }) => {
                    Meta { extra, last, ..Meta::new(incarnation) }
                }
                None => Meta { extra, ..Meta::new(now) },
            }
        })
    }

    /// Until when the last permit lives, milliseconds; 0 without any.
    fn latest_deadline(&self) -> u64 {
        self.permits.order.last().map_or(0, |(score, _)| score.div_ceil(2))
    }

    /// As if the `meta` key alone had been deleted, and the others had no end.
    #[cfg(test)]
    pub(crate) fn lose_meta(&mut self) {
        self.meta = None;
    }

    /// As if the `permits` key alone had been deleted.
    #[cfg(test)]
    pub(crate) fn lose_permits(&mut self) {
        self.permits.clear();
    }

    /// As if the `queue` key alone had been deleted.
    #[cfg(test)]
    pub(crate) fn lose_queue(&mut self) {
        self.queue.clear();
    }

    /// As if the `clients` key alone had been deleted.
    #[cfg(test)]
    pub(crate) fn lose_clients(&mut self) {
        self.clients.clear();
    }

    /// How many clients are known, and how many fields there are of them.
    #[cfg(test)]
    pub(crate) fn told_of_clients(&self) -> (usize, usize) {
        let fields = self.meta.as_ref().map_or(0, |meta| meta.epochs.len() + meta.labels.len());
        (self.clients.len(), fields)
    }

    /// What Redis does with keys whose time has come.
    pub(crate) fn expire(&mut self, now_ms: u64) {
        let Some(meta) = &self.meta else { return };
        if meta.ttl != 0 && meta.ttl < now_ms {
            self.permits.clear();
            self.queue.clear();
            self.clients.clear();
        }
        if meta.expires.is_some_and(|at| at < now_ms) {
            self.meta = None;
        }
    }

    pub(crate) fn turn(&mut self, turn: &Turn, now: u64) -> (TurnOutcome, Vec<Note>) {
        self.expire(now / 1000);
        let stored_epoch =
            self.meta.as_ref().and_then(|meta| meta.epochs.get(&turn.client)).copied();
        let stored_epoch = stored_epoch.unwrap_or(0);
        if turn.epoch < stored_epoch {
            return (TurnOutcome::Stale { epoch: stored_epoch }, Vec::new());
        }
        let mut run = Run::begin(self, turn, now);
        if turn.epoch > stored_epoch {
            run.meta().epochs.insert(turn.client, turn.epoch);
            run.remember_client(run.now_ms);
        }
        if !turn.label.is_empty() && run.meta().labels.get(&turn.client) != Some(&turn.label) {
            run.meta().labels.insert(turn.client, Arc::clone(&turn.label));
            run.remember_client(run.now_ms);
        }
        if turn.says_nothing() {
            run.prune();
        }
        run.take_back();
        run.renew();
        run.doubt_newcomers();
        run.put_back();
        run.serve();
        run.admit();
        run.finish()
    }

    pub(crate) fn inspect(&mut self, now_ms: u64) -> Inspection {
        self.expire(now_ms);
        let meta = self.meta.as_ref();
        let label =
            |client| meta.and_then(|meta| meta.labels.get(&client)).map(|label| label.to_string());
        let holders =
            self.permits.order.iter().take(INSPECT_BOUND).map(|&(score, ByText(id))| Holder {
                id,
                client: id.client(),
                label: label(id.client()),
                units: id.units(),
                expires_in: Duration::from_millis((score / 2).saturating_sub(now_ms)),
                kicked: score % 2 == 1,
            });
        let waiters = self.queue.order.iter().take(INSPECT_BOUND).map(|&(_, ByText(id))| {
            QueuedWaiter { id, client: id.client(), label: label(id.client()), units: id.units() }
        });
        let extra = if self.permits.len() > 0 { meta.map_or(0, |meta| meta.extra) } else { 0 };
        let limit_override = meta.and_then(|meta| meta.override_);
        Inspection {
            limit: limit_override.unwrap_or(0),
            limit_override,
            in_use: self.permits.len() + extra,
            holders_total: self.permits.len(),
            waiters_total: self.queue.len(),
            holders: holders.collect(),
            waiters: waiters.collect(),
        }
    }

    pub(crate) fn set_limit(&mut self, limit: Option<u32>, now: u64) {
        self.expire(now / 1000);
        let latest = self.latest_deadline();
        let lost_alone = self.meta.is_none() && latest > 0;
        let meta = self.meta_at(now);
        if lost_alone {
            meta.ttl = latest.max(now / 1000) + TTL_SLACK_MS;
        }
        meta.override_ = limit;
        meta.expires = match limit {
            Some(_) => None,
            None => Some(meta.ttl.max(now / 1000) + META_OUTLIVES_MS),
        };
    }

    pub(crate) fn kick(
        &mut self,
        id: PermitId,
        at_once: bool,
        now_ms: u64,
    ) -> (KickOutcome, Option<Note>) {
        self.expire(now_ms);
        let score = self.permits.score(&id).unwrap_or(0);
        if score <= 2 * now_ms {
            return (KickOutcome::NotHeld, None);
        }
        let outcome = if at_once {
            if let Some(meta) = &mut self.meta {
                meta.extra -= u64::from(id.units()) - 1;
            }
            self.permits.remove(&id);
            KickOutcome::Removed
        } else {
            self.permits.put(id, score | 1);
            KickOutcome::Marked
        };
        (outcome, Some((id.client(), vec![(id, 0)])))
    }
}

/// One turn under way.
struct Run<'a> {
    books: &'a mut Books,
    turn: &'a Turn,
    now_ms: u64,
    limit: u32,
    before: u64,
    last: u64,
    needed_until: u64,
    writes_clients: bool,
    pruned: bool,
    /// No permit has a lower score; none = not known.
    earliest: Option<u64>,
    head: Option<PermitId>,
    /// Waiters asked about that stand in the queue: id -> ask.
    pending: HashMap<PermitId, usize>,
    notes: Vec<Note>,
    reply: TurnReply,
    asks: Vec<Ask>,
    asked: Vec<Option<Settled>>,
    admits: &'a [(PermitId, Rule)],
}

impl<'a> Run<'a> {
    fn begin(books: &'a mut Books, turn: &'a Turn, now: u64) -> Self {
        let needed_until = match books.meta {
            Some(_) => 0,
            None => books.latest_deadline().max(now / 1000),
        };
        let held = books.permits.len();
        let meta = books.meta_at(now);
        if held == 0 {
            meta.extra = 0;
        }
        let before = meta.last.max(turn.seen).max(now - 1);
        let limit = meta.override_.unwrap_or(turn.limit);
        let reply = TurnReply {
            incarnation: meta.incarnation,
            limit,
            overridden: meta.override_.is_some(),
            ..TurnReply::default()
        };
        Self {
            books,
            turn,
            now_ms: now / 1000,
            limit,
            before,
            last: before,
            needed_until,
            writes_clients: false,
            pruned: false,
            earliest: None,
            head: None,
            pending: HashMap::new(),
            notes: Vec::new(),
            reply,
            asks: turn.ask.clone(),
            asked: Vec::new(),
            admits: &turn.admit,
        }
    }

    fn meta(&mut self) -> &mut Meta {
        self.books.meta_at(self.now_ms * 1000)
    }

    fn remember_client(&mut self, until: u64) {
        self.needed_until = self.needed_until.max(until);
        self.writes_clients = true;
        let known = self.books.clients.entry(self.turn.client).or_insert(until);
        *known = (*known).max(until);
    }

    fn next_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn in_use(&mut self) -> u64 {
        self.books.permits.len() + self.meta().extra
    }

    fn fits(&mut self, units: u32) -> bool {
        self.in_use() + u64::from(units) <= u64::from(self.limit)
    }

    fn too_large(&self, units: u32) -> bool {
        self.limit > 0 && units > self.limit
    }

    fn add_permit(&mut self, id: PermitId, deadline: u64) {
        self.needed_until = self.needed_until.max(deadline);
        self.earliest = self.earliest.map(|earliest| earliest.min(2 * deadline));
        self.meta().extra += u64::from(id.units()) - 1;
        self.books.permits.put(id, 2 * deadline);
    }

    /// Never back.
    fn push_permit(&mut self, id: PermitId, deadline: u64, score: u64) {
        self.needed_until = self.needed_until.max(deadline);
        self.books.permits.put(id, score.max(2 * deadline));
    }

    fn remove_permit(&mut self, id: &PermitId) -> bool {
        let removed = self.books.permits.remove(id);
        if removed {
            self.meta().extra -= u64::from(id.units()) - 1;
        }
        removed
    }

    /// Once, before the first thing that depends on it. True where anything had expired.
    fn prune(&mut self) -> bool {
        if std::mem::replace(&mut self.pruned, true) {
            return false;
        }
        let mut removed = 0;
        while let Some((score, id)) = self.books.permits.first()
            && score <= 2 * self.now_ms
            && removed < LOOK_BOUND
        {
            self.remove_permit(&id);
            removed += 1;
        }
        self.reply.more |= removed == LOOK_BOUND;
        if removed == 0 {
            self.earliest = self.books.permits.first().map(|(score, _)| score);
        }
        removed > 0
    }

    fn take_back(&mut self) {
        for (index, id) in self.turn.release.iter().enumerate() {
            if !self.remove_permit(id) {
                self.reply.missing.push(index);
            }
        }
        for id in &self.turn.cancel {
            self.books.queue.remove(id);
            self.remove_permit(id);
        }
    }

    fn renew(&mut self) {
        if !self.turn.renew.is_empty() {
            self.prune();
        }
        for (index, &(id, ms)) in self.turn.renew.iter().enumerate() {
            let deadline = self.now_ms + ms;
            let outcome = match self.books.permits.score(&id) {
                None => {
                    self.needed_until = self.needed_until.max(deadline);
                    let elsewhere = self.turn.incarnation != self.reply.incarnation;
                    if elsewhere && self.fits(id.units()) {
                        self.books.queue.remove(&id); // never in both
                        self.add_permit(id, deadline);
                        Some(Renewed::PutBack)
                    } else {
                        Some(Renewed::Gone)
                    }
                }
                Some(score) if score % 2 == 1 => Some(Renewed::Kicked),
                Some(score) => {
                    self.push_permit(id, deadline, score);
                    None
                }
            };
            if let Some(outcome) = outcome {
                self.reply.not_plain.push((index, outcome));
            }
        }
    }

    /// Who was not answered under this incarnation may have sent this turn before data was lost,
    /// with what made it void: what it admits is asked about.
    fn doubt_newcomers(&mut self) {
        let unanswered = self.turn.seen > 0 && self.turn.seen < self.reply.incarnation;
        if unanswered && self.books.permits.len() + self.books.queue.len() > 0 {
            let admits = std::mem::take(&mut self.admits).iter();
            self.asks.extend(admits.map(|&(id, rule)| Ask { id, ticket: 0, rule }));
        }
    }

    fn put_back(&mut self) {
        let asks = std::mem::take(&mut self.asks);
        self.asked = vec![None; asks.len()];
        if !asks.is_empty() {
            self.prune();
        }
        for (index, &Ask { id, ticket, .. }) in asks.iter().enumerate() {
            let settled = match (self.books.permits.score(&id), self.books.queue.score(&id)) {
                (Some(score), _) if score % 2 == 1 => Settled::Kicked,
                (Some(score), _) => {
                    self.push_permit(id, self.now_ms + id.lease_ms(), score);
                    Settled::Granted { token: self.next_number(), earlier: true }
                }
                (None, Some(ticket)) => {
                    self.pending.insert(id, index);
                    Settled::Queued { ticket, place: 0 }
                }
                (None, None) if ticket > 0 => {
                    self.pending.insert(id, index);
                    self.books.queue.put(id, ticket);
                    self.reply.put_back = true;
                    Settled::Queued { ticket, place: 0 }
                }
                (None, None) => continue,
            };
            self.asked[index] = Some(settled);
        }
        self.asks = asks;
    }

    fn mark_alive(&mut self) {
        let until = self.books.clients.get(&self.turn.client).copied().unwrap_or(0);
        if until < self.now_ms + ALIVE_MS * 2 / 3 {
            self.remember_client(self.now_ms + ALIVE_MS);
        }
    }

    fn forget_clients(&mut self) {
        let old = self.now_ms.saturating_sub(FORGET_CLIENT_MS);
        let mut forgotten: Vec<(u64, ClientId)> = self
            .books
            .clients
            .iter()
            .filter(|&(_, &until)| until <= old)
            .map(|(&client, &until)| (until, client))
            .collect();
        forgotten.sort_unstable();
        for (_, client) in forgotten.into_iter().take(FORGET_AT_ONCE) {
            self.books.clients.remove(&client);
            self.meta().epochs.remove(&client);
            self.meta().labels.remove(&client);
        }
    }

    fn tell(&mut self, id: PermitId, token: Option<u64>) {
        let client = id.client();
        if client != self.turn.client {
            let word = (id, token.unwrap_or(0));
            match self.notes.iter_mut().find(|(other, _)| *other == client) {
                Some((_, words)) => words.push(word),
                None => self.notes.push((client, vec![word])),
            }
        } else if let Some(index) = self.pending.remove(&id) {
            self.asked[index] = Some(match token {
                Some(token) => Settled::Granted { token, earlier: false },
                None => Settled::TooLarge,
            });
        } else {
            self.reply.others.push((id, token));
        }
    }

    fn serve(&mut self) {
        if self.books.queue.len() == 0 {
            return;
        }
        let mut alive = HashSet::from([self.turn.client]);
        let mut looked = 0;
        while let Some((_, id)) = self.books.queue.first() {
            if looked == LOOK_BOUND {
                self.reply.more = true;
                return;
            }
            looked += 1;
            let (client, units) = (id.client(), id.units());
            let until = self.books.clients.get(&client).copied().unwrap_or(0);
            if !alive.contains(&client) && until <= self.now_ms {
                self.books.queue.remove(&id);
                continue;
            }
            alive.insert(client);
            let own = client == self.turn.client;
            if self.too_large(units) && (self.reply.overridden || own) {
                self.books.queue.remove(&id);
                self.tell(id, None);
            } else if self.fits(units) {
                let lease = if own { id.lease_ms() } else { id.lease_ms().min(CLAIM_MS) };
                self.add_permit(id, self.now_ms + lease);
                let token = self.next_number();
                self.tell(id, Some(token));
                self.books.queue.remove(&id);
            } else if !self.prune() {
                self.head = Some(id);
                return;
            }
        }
    }

    fn admit(&mut self) {
        let mut queued = false;
        for index in 0..self.asked.len() {
            if self.asked[index].is_none() {
                let Ask { id, rule, .. } = self.asks[index];
                self.asked[index] = Some(self.enter(id, rule, &mut queued));
            }
        }
        for &(id, rule) in self.admits {
            let settled = self.enter(id, rule, &mut queued);
            self.reply.admitted.push(settled);
        }
        if queued || !self.asked.is_empty() {
            self.mark_alive();
        }
    }

    fn enter(&mut self, id: PermitId, rule: Rule, queued: &mut bool) -> Settled {
        let waiting = self.books.queue.len();
        if self.too_large(id.units()) {
            return Settled::TooLarge;
        }
        if waiting == 0 && (self.fits(id.units()) || self.prune() && self.fits(id.units())) {
            self.add_permit(id, self.now_ms + id.lease_ms());
            return Settled::Granted { token: self.next_number(), earlier: false };
        }
        match rule {
            Rule::Try => return Settled::Refused,
            Rule::WaitBehind(most) if waiting >= u64::from(most) => return Settled::Refused,
            Rule::Wait | Rule::WaitBehind(_) => {}
        }
        let ticket = self.next_number();
        self.books.queue.put(id, ticket);
        self.head = self.head.or(Some(id));
        *queued = true;
        Settled::Queued { ticket, place: waiting }
    }

    fn finish(mut self) -> (TurnOutcome, Vec<Note>) {
        let waiting = self.books.queue.len();
        if waiting > 0 {
            self.needed_until = self.needed_until.max(self.now_ms + ALIVE_MS);
        }
        let (needed, last, before) = (self.needed_until, self.last, self.before);
        let meta = self.meta();
        let moves_end = needed > meta.ttl;
        if moves_end {
            meta.last = last;
            meta.ttl = needed + TTL_SLACK_MS;
            if meta.override_.is_none() {
                meta.expires = Some(meta.ttl + META_OUTLIVES_MS);
            }
        }
        if last > before {
            meta.last = last;
        }
        if moves_end || self.writes_clients {
            self.forget_clients();
        }
        let owns_head = self.head.is_some_and(|head| head.client() == self.turn.client);
        if owns_head
            && waiting > 0
            && !self.reply.more
            && let Some((first, _)) = self.books.permits.first()
        {
            let score = self.earliest.unwrap_or(first);
            let wait = score.div_ceil(2).saturating_sub(self.now_ms);
            self.reply.earliest = Some(Duration::from_millis(wait));
        }
        self.reply.in_use = self.in_use();
        self.reply.waiting = waiting;
        self.reply.last = last;
        for (id, index) in std::mem::take(&mut self.pending) {
            if let Some(Settled::Queued { place, .. }) = &mut self.asked[index] {
                *place = self.books.queue.rank(&id);
            }
        }
        let mut asked = self.asked.into_iter().flatten();
        self.reply.asked = asked.by_ref().take(self.turn.ask.len()).collect();
        self.reply.admitted.extend(asked);
        (TurnOutcome::Answered(self.reply), self.notes)
    }
}
