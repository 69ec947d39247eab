//! The knowledge of a client in the test, so that its random turns are ones that a driver could send.

use std::collections::HashMap;
use std::sync::Arc;

use crate::id::{ClientId, PermitId};
use crate::numbers::{Epoch, Incarnation, Seq, ServerId};
use crate::store::{Ask, Meeting, Server, Turn, TurnReply, WaiterOutcome, WhenFull};

use super::generator::{EpochChange, RandomMeeting, RandomTurn, Told};

pub(super) struct Client {
    pub(super) id: ClientId,
    /// Every id that a reply told of, with its ticket.
    ids: Vec<(PermitId, Option<Seq>)>,
    /// The tokens of permits that a reply granted and that were not given back since, with the end
    /// of the first lease.
    tokens: HashMap<PermitId, (Seq, u64)>,
    epoch: Epoch,
    incarnation: Option<Incarnation>,
    seen: Option<Seq>,
    sent: Vec<Turn>,
    /// How many of `sent` came before a loss of data that nobody may have noticed.
    sent_before_loss: usize,
    /// The incarnation that replies told of since that loss.
    incarnation_after_loss: Option<Incarnation>,
    /// The connection is new: the next turn meets the server.
    must_meet: bool,
}

impl Client {
    pub(super) fn new(id: ClientId) -> Self {
        Self {
            id,
            ids: Vec::new(),
            tokens: HashMap::new(),
            epoch: Epoch::default(),
            incarnation: None,
            seen: None,
            sent: Vec::new(),
            sent_before_loss: 0,
            incarnation_after_loss: None,
            must_meet: true,
        }
    }

    pub(super) fn pick_id(&self, pick: usize) -> Option<PermitId> {
        self.ids.get(pick % self.ids.len().max(1)).map(|&(id, _)| id)
    }

    /// Returns one of the turns that the store knows to be stale by now: by its epoch, or by an incarnation
    /// that began after the turn.
    pub(super) fn pick_stale_turn(&self, pick: usize) -> Option<Turn> {
        let stale = |&(at, turn): &(usize, &Turn)| {
            let Some(seen) = turn.seen else { return false };
            let began_after_it = |incarnation: Incarnation| incarnation.began_after(seen);
            turn.epoch < self.epoch
                && (at >= self.sent_before_loss
                    || self.incarnation_after_loss.is_some_and(began_after_it))
        };
        let sent = self.sent.iter().enumerate();
        let turns: Vec<&Turn> = sent.filter(stale).map(|(_, turn)| turn).collect();
        turns.get(pick % turns.len().max(1)).map(|&turn| turn.clone())
    }

    /// The client has a new connection.
    pub(super) fn reconnect(&mut self) {
        self.must_meet = true;
    }

    /// The store has older data, and perhaps the epoch of an earlier turn.
    pub(super) fn roll_back(&mut self) {
        self.sent_before_loss = self.sent.len();
        self.incarnation_after_loss = None;
        self.forget_tokens();
    }

    /// Forgets all tokens. So no release claims that its permit must be there.
    pub(super) fn forget_tokens(&mut self) {
        self.tokens.clear();
    }

    /// Makes a turn of a random one. The ids of its newcomers count from `first_counter`.
    pub(super) fn turn(
        &mut self,
        name: &Arc<str>,
        random: &RandomTurn,
        first_counter: u64,
        now: u64,
        server: ServerId,
    ) -> Turn {
        let must_meet = std::mem::take(&mut self.must_meet).then_some(RandomMeeting::PLAIN);
        let meets = random.meets.or(must_meet).map(|RandomMeeting { grace, up, told }| Meeting {
            known: self.incarnation,
            grace,
            server: match told {
                Told::Present => Some(Server { id: server, up }),
                Told::Another => ServerId::new(server.get() + 1_000).map(|id| Server { id, up }),
                Told::Unknown => None,
            },
        });
        let epoch = match random.epoch {
            EpochChange::None => self.epoch,
            EpochChange::Rise => {
                self.epoch = self.epoch.next();
                self.epoch
            }
            EpochChange::Late => Epoch::new(self.epoch.get().saturating_sub(1)),
        };
        // A turn names an id once, as the driver's turns do.
        let mut free = self.ids.clone();
        let mut take = |pick: usize| (!free.is_empty()).then(|| free.remove(pick % free.len()));
        let mut take_id = |&pick: &usize| take(pick).map(|(id, _)| id);
        let mut release: Vec<PermitId> = random.release.iter().filter_map(&mut take_id).collect();
        release.sort_by_key(|id| id.units() > 1);
        let cancel: Vec<PermitId> = random.cancel.iter().filter_map(&mut take_id).collect();
        let renew = random.renew.iter().filter_map(|(pick, ms)| Some((take_id(pick)?, *ms)));
        let renew = renew.collect();
        let ask = random.ask.iter().filter_map(|ask| {
            let (id, ticket) = take(ask.pick)?;
            let ticket = ticket.filter(|_| ask.tells_ticket);
            Some(Ask { id, ticket, when_full: ask.when_full })
        });
        let ask = ask.collect();
        let admit = (first_counter..).zip(&random.admit).map(|(counter, newcomer)| {
            let id = PermitId::new(self.id, counter, newcomer.units, newcomer.lease);
            (id, newcomer.when_full)
        });
        let again = random.again.iter().filter_map(|&pick| self.pick_id(pick));
        let again = again.map(|id| (id, WhenFull::Wait));
        let turn = Turn {
            name: name.clone(),
            client: self.id,
            label: if random.labelled { "a label".into() } else { "".into() },
            meets,
            declares: random.declares,
            epoch,
            limit: random.limit,
            seen: self.seen,
            incarnation: if random.old_incarnation {
                Incarnation::new(1)
            } else {
                self.incarnation
            },
            release_from: self.lowest_token(&release, now),
            release,
            cancel,
            renew,
            ask,
            admit: again.chain(admit).collect(),
        };
        for id in turn.release.iter().chain(&turn.cancel) {
            self.tokens.remove(id);
        }
        self.sent.push(turn.clone());
        turn
    }

    /// Returns the lowest token of the light permits; `None` where one is not known, or where its
    /// lease may have ended.
    fn lowest_token(&self, release: &[PermitId], now: u64) -> Option<Seq> {
        let token = |id: &PermitId| {
            self.tokens.get(id).filter(|&&(_, end)| now < end).map(|&(token, _)| token)
        };
        release.iter().filter(|id| id.units() == 1).map(token).min().flatten()
    }

    /// Takes in the reply to `turn`, which ran at `now`.
    pub(super) fn learn(&mut self, turn: &Turn, reply: &TurnReply, now: u64) {
        self.seen = self.seen.max(reply.last);
        self.incarnation = Some(reply.incarnation);
        self.incarnation_after_loss = Some(reply.incarnation);
        let ids = turn.ask.iter().map(|ask| ask.id).chain(turn.admit.iter().map(|&(id, _)| id));
        for (id, outcome) in ids.zip(reply.asked.iter().chain(&reply.admitted)) {
            let ticket = match *outcome {
                WaiterOutcome::Queued { ticket, .. } => Some(ticket),
                WaiterOutcome::Granted { token, .. } => {
                    // The server counts in whole milliseconds, from the one that has begun.
                    let end = (now / 1000 + id.lease_ms().get()) * 1000;
                    self.tokens.insert(id, (token, end));
                    None
                }
                _ => None,
            };
            match self.ids.iter_mut().find(|(known, _)| *known == id) {
                Some(known) => known.1 = known.1.max(ticket),
                None => self.ids.push((id, ticket)),
            }
        }
    }
}
