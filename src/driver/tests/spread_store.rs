//! A store in memory with several places. A test moves names between them, and takes places down.

use std::collections::{BTreeMap, BTreeSet};
use std::future::{pending, ready};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::time::Instant;

use crate::error::{StoreError, StoreErrorKind};
use crate::id::{ClientId, PermitId};
use crate::inspection::{Inspection, KickOutcome};
use crate::numbers::PlaceId;
use crate::store::memory::MemoryState;
use crate::store::{
    BoxFuture, Kick, NamesCursor, NamesPage, Opened, Session, Store, Turn, TurnAnswer, TurnOutcome,
    WakeListener,
};

/// What the clients and the test share. A name comes to another place with all that is known of it.
pub(super) struct Spread {
    start: Instant,
    states: Mutex<BTreeMap<Arc<str>, MemoryState>>,
    /// Where each name is. Others are at the first place.
    names: Mutex<BTreeMap<String, PlaceId>>,
    /// Where clients think that each name is, as long as they were not told.
    told: Mutex<BTreeMap<String, PlaceId>>,
    sessions: Mutex<Vec<Weak<SpreadSession>>>,
    down: Mutex<BTreeSet<PlaceId>>,
    /// The places that keep turns to themselves until they are let go.
    held: watch::Sender<BTreeSet<PlaceId>>,
    /// The places that keep answers to themselves until they are let go.
    held_answers: watch::Sender<BTreeSet<PlaceId>>,
    /// How often there was news of each place.
    news: watch::Sender<BTreeMap<PlaceId, usize>>,
    /// Whether there is news of all places at all times.
    always_has_news: AtomicBool,
    /// The places that a client has closed, since it needs them no more, and how many connections there were still.
    left: Mutex<Vec<(PlaceId, usize)>>,
    /// When each place was connected to, or tried.
    tries: Mutex<Vec<(PlaceId, Instant)>>,
    /// The turns that each place has run.
    ran: Mutex<Vec<(PlaceId, Said)>>,
    /// The places that sent turns on to another one.
    sent_on: Mutex<Vec<PlaceId>>,
    /// What happens when a connection to a place is closed.
    on_close: Mutex<BTreeMap<PlaceId, OnClose>>,
}

type OnClose = Box<dyn FnOnce() + Send>;

/// How many permits and waiters a turn named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Said {
    pub(super) renewed: usize,
    pub(super) asked: usize,
    pub(super) admitted: usize,
}

impl Spread {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            states: Mutex::default(),
            names: Mutex::default(),
            told: Mutex::default(),
            sessions: Mutex::default(),
            down: Mutex::default(),
            held: watch::Sender::default(),
            held_answers: watch::Sender::default(),
            news: watch::Sender::default(),
            always_has_news: AtomicBool::new(false),
            left: Mutex::default(),
            tries: Mutex::default(),
            ran: Mutex::default(),
            sent_on: Mutex::default(),
            on_close: Mutex::default(),
        })
    }

    fn at(&self, name: &str) -> PlaceId {
        self.names.lock().unwrap().get(name).copied().unwrap_or(PlaceId::FIRST)
    }

    /// Moves a name. Clients hear of it when a place tells them that it does not have the name.
    pub(super) fn move_name(&self, name: &str, place: PlaceId) {
        self.names.lock().unwrap().insert(name.to_owned(), place);
    }

    /// Moves a name, and tells all clients.
    pub(super) fn move_name_and_tell(&self, name: &str, place: PlaceId) {
        self.move_name(name, place);
        self.told.lock().unwrap().insert(name.to_owned(), place);
        for session in self.open_sessions() {
            session.listener.places_changed();
        }
    }

    /// Breaks all connections to a place, and lets none be opened.
    pub(super) fn take_down(&self, place: PlaceId) {
        self.down.lock().unwrap().insert(place);
        for session in self.open_sessions_to(place) {
            session.alive.send_replace(false);
        }
    }

    pub(super) fn bring_up(&self, place: PlaceId) {
        self.down.lock().unwrap().remove(&place);
    }

    /// Tells those who watch over a place that it may be well.
    pub(super) fn tell_news(&self, place: PlaceId) {
        self.news.send_modify(|news| *news.entry(place).or_default() += 1);
    }

    pub(super) fn always_has_news(&self) {
        self.always_has_news.store(true, Ordering::SeqCst);
    }

    /// Returns which places a client has closed, and how many connections there were still.
    pub(super) fn left(&self) -> Vec<(PlaceId, usize)> {
        self.left.lock().unwrap().clone()
    }

    /// Returns when a place was connected to, or tried, since an instant.
    pub(super) fn tries_since(&self, since: Instant, place: PlaceId) -> Vec<Instant> {
        let tries = self.tries.lock().unwrap();
        let tries = tries.iter().filter(|(tried, at)| *tried == place && *at >= since);
        tries.map(|(_, at)| *at).collect()
    }

    /// Makes a place keep the turns that it gets, until it is let go.
    pub(super) fn hold(&self, place: PlaceId) {
        self.held.send_modify(|held| {
            held.insert(place);
        });
    }

    pub(super) fn let_go(&self, place: PlaceId) {
        self.held.send_modify(|held| {
            held.remove(&place);
        });
    }

    /// Makes a place run the turns that it gets, but keep their answers until it is let go.
    pub(super) fn hold_answers(&self, place: PlaceId) {
        self.held_answers.send_modify(|held| {
            held.insert(place);
        });
    }

    pub(super) fn let_answers_go(&self, place: PlaceId) {
        self.held_answers.send_modify(|held| {
            held.remove(&place);
        });
    }

    /// Returns how many turns a place has run.
    pub(super) fn ran(&self, place: PlaceId) -> usize {
        self.said(place).len()
    }

    /// Returns what the turns named that a place has run.
    pub(super) fn said(&self, place: PlaceId) -> Vec<Said> {
        let ran = self.ran.lock().unwrap();
        ran.iter().filter(|(at, _)| *at == place).map(|(_, said)| *said).collect()
    }

    /// Returns how many turns a place has sent on to another one.
    pub(super) fn sent_on(&self, place: PlaceId) -> usize {
        self.sent_on.lock().unwrap().iter().filter(|at| **at == place).count()
    }

    /// Runs `act` when the next connection to a place is closed.
    pub(super) fn on_close(&self, place: PlaceId, act: impl FnOnce() + Send + 'static) {
        self.on_close.lock().unwrap().insert(place, Box::new(act));
    }

    /// Returns how many connections to a place are open.
    pub(super) fn connections(&self, place: PlaceId) -> usize {
        self.open_sessions_to(place).len()
    }

    /// Returns the listeners of the connections to a place.
    pub(super) fn listeners(&self, place: PlaceId) -> Vec<Arc<dyn WakeListener>> {
        let sessions = self.open_sessions_to(place);
        sessions.iter().map(|session| Arc::clone(&session.listener)).collect()
    }

    fn open_sessions(&self) -> Vec<Arc<SpreadSession>> {
        self.sessions.lock().unwrap().iter().filter_map(Weak::upgrade).collect()
    }

    fn open_sessions_to(&self, place: PlaceId) -> Vec<Arc<SpreadSession>> {
        let mut sessions = self.open_sessions();
        sessions.retain(|session| session.place == place);
        sessions
    }

    /// Runs `act` on the state of a name, at a time in microseconds.
    fn with_state<T>(&self, name: &Arc<str>, act: impl FnOnce(&mut MemoryState, u64) -> T) -> T {
        let micros = 1_000_000_000_000_000 + self.start.elapsed().as_micros() as u64;
        act(self.states.lock().unwrap().entry(Arc::clone(name)).or_default(), micros)
    }

    fn turn(&self, turn: &Turn) -> TurnOutcome {
        let (outcome, notes) = self.with_state(&turn.name, |state, now| state.turn(turn, now));
        let place = self.at(&turn.name);
        for session in self.open_sessions_to(place) {
            for (client, wake_ups) in &notes {
                for &(id, wake_up) in wake_ups.iter().filter(|_| *client == session.client) {
                    session.listener.wake(&turn.name, id, wake_up);
                }
            }
        }
        outcome
    }
}

/// The store as one client has it.
pub(super) struct SpreadStore(pub(super) Arc<Spread>);

impl Store for SpreadStore {
    fn place_of(&self, name: &str) -> PlaceId {
        self.0.told.lock().unwrap().get(name).copied().unwrap_or(PlaceId::FIRST)
    }

    fn open(
        &self,
        place: PlaceId,
        client: ClientId,
        listener: Arc<dyn WakeListener>,
    ) -> BoxFuture<'_, Result<Opened, StoreError>> {
        let spread = Arc::clone(&self.0);
        Box::pin(async move {
            spread.tries.lock().unwrap().push((place, Instant::now()));
            if spread.down.lock().unwrap().contains(&place) {
                return Err(StoreError::new(StoreErrorKind::Unreachable, "it is down"));
            }
            let alive = watch::Sender::new(true);
            let mut watched = alive.subscribe();
            let session = Arc::new(SpreadSession {
                spread,
                place,
                client,
                listener,
                alive,
                first: AsyncMutex::default(),
            });
            session.spread.sessions.lock().unwrap().push(Arc::downgrade(&session));
            let io = Box::pin(async move {
                let _ = watched.wait_for(|alive| !alive).await;
            });
            Ok(Opened { session, io: Some(io) })
        })
    }

    fn watch(&self, place: PlaceId, _: Arc<dyn WakeListener>) -> Option<BoxFuture<'static, ()>> {
        if self.0.always_has_news.load(Ordering::SeqCst) {
            return Some(Box::pin(ready(())));
        }
        let mut news = self.0.news.subscribe();
        let of_place = move |news: &BTreeMap<PlaceId, usize>| news.get(&place).copied();
        let before = of_place(&news.borrow());
        Some(Box::pin(async move {
            let _ = news.wait_for(|news| of_place(news) != before).await;
        }))
    }

    fn leave(&self, place: PlaceId) {
        self.0.left.lock().unwrap().push((place, self.0.connections(place)));
    }

    fn address(&self) -> String {
        "places in memory".to_owned()
    }
}

pub(super) struct SpreadSession {
    spread: Arc<Spread>,
    place: PlaceId,
    client: ClientId,
    listener: Arc<dyn WakeListener>,
    alive: watch::Sender<bool>,
    /// Turns run in the order in which they were sent.
    first: AsyncMutex<()>,
}

impl SpreadSession {
    /// Waits while the place keeps what it gets. An error if it does not have the name then.
    async fn reach(&self, name: &str) -> Result<(), StoreError> {
        let mut held = self.spread.held.subscribe();
        held.wait_for(|held| !held.contains(&self.place)).await.unwrap();
        if !*self.alive.borrow() {
            pending::<()>().await;
        }
        let at = self.spread.at(name);
        if at != self.place {
            self.spread.told.lock().unwrap().insert(name.to_owned(), at);
            self.spread.sent_on.lock().unwrap().push(self.place);
            return Err(StoreError::elsewhere(format!("{name} is at {at:?}")));
        }
        Ok(())
    }

    async fn run(&self, turns: &[Turn]) -> Vec<TurnAnswer> {
        let _first = self.first.lock().await;
        let mut answers = Vec::new();
        for turn in turns {
            answers.push(self.reach(&turn.name).await.map(|()| self.turn_here(turn)));
        }
        answers
    }

    fn turn_here(&self, turn: &Turn) -> TurnOutcome {
        let (renewed, asked) = (turn.renew.len(), turn.ask.len());
        let said = Said { renewed, asked, admitted: turn.admit.len() };
        self.spread.ran.lock().unwrap().push((self.place, said));
        self.spread.turn(turn)
    }

    /// Waits while the place keeps its answers.
    async fn may_answer(&self) {
        let mut held = self.spread.held_answers.subscribe();
        held.wait_for(|held| !held.contains(&self.place)).await.unwrap();
    }
}

impl Drop for SpreadSession {
    fn drop(&mut self) {
        let act = self.spread.on_close.lock().unwrap().remove(&self.place);
        if let Some(act) = act {
            act();
        }
    }
}

impl Session for SpreadSession {
    fn turn(self: Arc<Self>, turn: Turn) -> BoxFuture<'static, TurnAnswer> {
        Box::pin(async move {
            let answer = self.run(&[turn]).await.remove(0);
            self.may_answer().await;
            answer
        })
    }

    fn turns(self: Arc<Self>, turns: Vec<Turn>) -> BoxFuture<'static, Vec<TurnAnswer>> {
        Box::pin(async move {
            let answers = self.run(&turns).await;
            self.may_answer().await;
            answers
        })
    }

    fn inspect(&self, name: Arc<str>) -> BoxFuture<'_, Result<Inspection, StoreError>> {
        Box::pin(async move {
            self.reach(&name).await?;
            Ok(self.spread.with_state(&name, |state, now| state.inspect(now / 1000)))
        })
    }

    fn set_limit(
        &self,
        name: Arc<str>,
        limit: Option<u32>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.reach(&name).await?;
            self.spread.with_state(&name, |state, now| state.set_limit(limit, now));
            Ok(())
        })
    }

    fn kick(
        &self,
        _: Arc<str>,
        _: PermitId,
        _: Kick,
    ) -> BoxFuture<'_, Result<KickOutcome, StoreError>> {
        let error = StoreError::new(StoreErrorKind::Server, "nobody kicks here");
        Box::pin(ready(Err(error)))
    }

    fn names(&self, _: NamesCursor) -> BoxFuture<'_, Result<NamesPage, StoreError>> {
        let error = StoreError::new(StoreErrorKind::Server, "nobody lists here");
        Box::pin(ready(Err(error)))
    }

    fn is_subscribed(&self) -> bool {
        true
    }

    fn is_alive(&self) -> bool {
        *self.alive.borrow()
    }
}
