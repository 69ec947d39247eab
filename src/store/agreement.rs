//! Both stores give the same replies to the same turns: random ones, many, against a real server
//! whose scripts take their time from the test.

#![allow(clippy::panic, clippy::unwrap_used)]

#[path = "../../tests/support/mod.rs"]
pub(super) mod support;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::memory::Books;
use super::redis::RedisStore;
use super::*;
use crate::sync::lock;
use support::redis_server::RedisServer;

const CLIENTS: usize = 3;

/// One step; the numbers are taken modulo whatever there is to choose from.
#[derive(Debug, Clone)]
enum Step {
    Turn(RandomTurn),
    Pass {
        micros: u64,
    },
    SetLimit(Option<u32>),
    Kick {
        client: usize,
        pick: usize,
        now: bool,
    },
    Inspect,
    LoseEverything,
    /// As a server that takes over and whose clock is behind.
    ClockBehind {
        micros: u64,
    },
    LoseMeta,
    Lose(Key),
    /// A turn that had no answer runs once more, after those that followed it.
    Late {
        client: usize,
        pick: usize,
    },
}

/// One of the keys that may be lost alone; for `meta` see `LoseMeta`.
#[derive(Debug, Clone, Copy)]
enum Key {
    Permits,
    Queue,
    Clients,
}

#[derive(Debug, Clone)]
struct RandomTurn {
    client: usize,
    limit: u32,
    fresh: Vec<Newcomer>,
    release: Vec<usize>,
    cancel: Vec<usize>,
    renew: Vec<(usize, u64)>,
    ask: Vec<(usize, bool, Rule)>,
    epoch: EpochChange,
    old_incarnation: bool,
    labelled: bool,
}

#[derive(Debug, Clone, Copy)]
enum EpochChange {
    None,
    Rise,
    Late,
}

fn rule() -> impl Strategy<Value = Rule> {
    prop_oneof![
        4 => Just(Rule::Wait),
        1 => Just(Rule::Try),
        1 => (0u32..6).prop_map(Rule::WaitBehind),
    ]
}

fn turn() -> impl Strategy<Value = RandomTurn> {
    let lease = prop_oneof![3 => Just(30_000u64), 2 => 50u64..5_000, 1 => Just(60_000)];
    let units = prop_oneof![Just(1u32), 2u32..5];
    let in_a_row = prop_oneof![12 => Just(1usize), 2 => 2usize..6, 1 => 60usize..140];
    let few = |n| vec(any::<usize>(), 0..n);
    let epoch = prop_oneof![
        16 => Just(EpochChange::None),
        1 => Just(EpochChange::Rise),
        1 => Just(EpochChange::Late),
    ];
    let lists = (
        vec((units, lease, rule(), in_a_row), 0..4).prop_map(repeated),
        prop_oneof![6 => few(3), 2 => few(10), 1 => few(150)],
        prop_oneof![8 => few(2), 1 => few(150)],
        prop_oneof![
            8 => vec((any::<usize>(), 50u64..40_000), 0..4),
            1 => vec((any::<usize>(), Just(3_000u64)), 0..150),
        ],
        prop_oneof![8 => vec((any::<usize>(), any::<bool>(), rule()), 0..4),
            1 => vec((any::<usize>(), any::<bool>(), rule()), 0..120)],
    );
    let limit = prop_oneof![3 => 0u32..3, 3 => 0u32..7, 2 => 60u32..300];
    (0..CLIENTS, limit, lists, epoch, any::<bool>(), any::<bool>()).prop_map(
        |(client, limit, (fresh, release, cancel, renew, ask), epoch, old, labelled)| RandomTurn {
            client,
            limit,
            fresh,
            release,
            cancel,
            renew,
            ask,
            epoch,
            old_incarnation: old,
            labelled,
        },
    )
}

type Newcomer = (u32, u64, Rule);

/// Runs of newcomers of a kind, longer than one command takes, now and then.
fn repeated(runs: Vec<(u32, u64, Rule, usize)>) -> Vec<Newcomer> {
    let run = |(units, lease, rule, count)| std::iter::repeat_n((units, lease, rule), count);
    runs.into_iter().flat_map(run).collect()
}

fn step() -> impl Strategy<Value = Step> {
    let micros = prop_oneof![
        6 => 0u64..2_000_000,
        3 => 2_000_000u64..8_000_000,
        1 => 8_000_000u64..200_000_000,
        1 => Just(4_000_000_000),
    ];
    prop_oneof![
        100 => turn().prop_map(Step::Turn),
        40 => micros.prop_map(|micros| Step::Pass { micros }),
        4 => prop::option::of(prop_oneof![0u32..9, 60u32..300]).prop_map(Step::SetLimit),
        12 => (0..CLIENTS, any::<usize>(), 0..4)
            .prop_map(|(client, pick, at_once)| Step::Kick { client, pick, now: at_once < 2 }),
        6 => Just(Step::Inspect),
        1 => Just(Step::LoseEverything),
        2 => Just(Step::LoseMeta),
        3 => prop_oneof![Just(Key::Permits), Just(Key::Queue), Just(Key::Clients)]
            .prop_map(Step::Lose),
        6 => (0..CLIENTS, any::<usize>()).prop_map(|(client, pick)| Step::Late { client, pick }),
    ]
}

type Heard = Vec<(PermitId, u64)>;

#[derive(Default)]
struct Recorder {
    heard: Mutex<Heard>,
}

impl Ear for Recorder {
    fn wake(&self, _: &str, id: PermitId, number: u64) {
        lock(&self.heard).push((id, number));
    }
    fn hearing_changed(&self) {}
    fn gone(&self) {}
}

/// A client as the test plays it.
struct Player {
    id: ClientId,
    session: Arc<dyn Session>,
    ear: Arc<Recorder>,
    ids: Vec<(PermitId, u64)>,
    /// Of those granted by a reply and not taken back since, with the end of the first lease.
    tokens: HashMap<PermitId, (u64, u64)>,
    epoch: u64,
    incarnation: u64,
    seen: u64,
    said: Vec<Turn>,
}

impl Player {
    /// What it was told. An answer on the same connection comes after all pushes on it.
    async fn heard(&self) -> Heard {
        self.session.inspect("nobody".into()).await.unwrap();
        std::mem::take(&mut *lock(&self.ear.heard))
    }

    /// 0 where it is not known, or the lease may have ended.
    fn token(&self, id: &PermitId, now: u64) -> u64 {
        self.tokens.get(id).map_or(0, |&(token, end)| if now < end { token } else { 0 })
    }
}

/// Where the clock of every game starts: far ahead of the server's own, which thus never ends a key.
const START: u64 = 4_000_000_000_000_000;
/// Microseconds: more than a game can give out numbers, so that none is above the next incarnation.
const A_LOSS_TAKES: u64 = 100_000;

struct Game {
    server: RedisServer,
    connection: ::redis::aio::MultiplexedConnection,
    players: Vec<Player>,
    now: u64,
    games: u64,
    /// Of this game, and of those before.
    turns: u64,
    turns_before: u64,
}

impl Game {
    async fn start() -> Self {
        let server = RedisServer::start().await;
        let connection = server.connection().await;
        let store = RedisStore::with_test_clock(&server.url());
        let mut players = Vec::new();
        for bits in 1..=CLIENTS as u64 {
            let id = ClientId::from_bits(bits << 40);
            let ear = Arc::new(Recorder::default());
            let session = store.open(id, ear.clone()).await.unwrap();
            assert!(session.hears());
            players.push(Player {
                id,
                session,
                ear,
                ids: Vec::new(),
                tokens: HashMap::new(),
                epoch: 0,
                incarnation: 0,
                seen: 0,
                said: Vec::new(),
            });
        }
        Self { server, connection, players, now: START, games: 0, turns: 0, turns_before: 0 }
    }

    async fn set_clock(&mut self) {
        let mut set = ::redis::cmd("SET");
        set.arg("test:clock").arg(self.now);
        set.query_async::<()>(&mut self.connection).await.unwrap();
    }

    /// Only the steps decide what comes of a game, not those played before: so a failing one fails
    /// again, and for the same cause, while it is shrunk.
    async fn play(&mut self, steps: Vec<Step>) -> Result<(), TestCaseError> {
        self.games += 1;
        self.now = START;
        self.turns_before += std::mem::take(&mut self.turns);
        self.set_clock().await;
        let name: Arc<str> = format!("game {}", self.games).into();
        let mut books = Books::default();
        for player in &mut self.players {
            player.ids.clear();
            player.tokens.clear();
            player.said.clear();
            (player.epoch, player.incarnation, player.seen) = (0, 0, 0);
            player.heard().await; // what a game that failed has left unheard
        }
        for step in steps {
            self.now += 7;
            self.set_clock().await;
            self.step(&name, &mut books, step).await?;
        }
        Ok(())
    }

    async fn step(
        &mut self,
        name: &Arc<str>,
        books: &mut Books,
        step: Step,
    ) -> Result<(), TestCaseError> {
        let now_ms = self.now / 1000;
        match step {
            Step::Pass { micros } => self.now += micros,
            Step::ClockBehind { micros } => self.now -= micros,
            Step::Turn(random) => self.turn(name, books, random).await?,
            Step::SetLimit(limit) => {
                self.players[0].session.set_limit(name.clone(), limit).await.unwrap();
                books.set_limit(limit, self.now);
            }
            Step::Kick { client, pick, now } => {
                let ids = &self.players[client].ids;
                if let Some(&(id, _)) = ids.get(pick % ids.len().max(1)) {
                    let (ours, note) = books.kick(id, now, now_ms);
                    let theirs = self.players[0].session.kick(name.clone(), id, now).await;
                    prop_assert_eq!(theirs.unwrap(), ours);
                    self.compare_notes(note.into_iter().collect()).await?;
                }
            }
            Step::Inspect => {
                let theirs = self.players[0].session.inspect(name.clone()).await.unwrap();
                prop_assert_eq!(theirs, books.inspect(now_ms));
                let theirs = self.told_of_clients(name).await;
                prop_assert_eq!(theirs, books.told_of_clients());
            }
            Step::LoseEverything => {
                self.now += A_LOSS_TAKES;
                *books = Books::default();
                let keys = ["permits", "queue", "clients", "meta"];
                for key in keys.map(|key| format!("zsem:{{{name}}}:{key}")) {
                    self.server.cmd(&["DEL", &key]).await;
                }
            }
            Step::Lose(key) => {
                let lost = match key {
                    Key::Permits => {
                        books.lose_permits();
                        // No turn can know that what is released together was not granted together.
                        self.players.iter_mut().for_each(|player| player.tokens.clear());
                        "permits"
                    }
                    Key::Queue => {
                        books.lose_queue();
                        "queue"
                    }
                    Key::Clients => {
                        books.lose_clients();
                        "clients"
                    }
                };
                self.server.cmd(&["DEL", &format!("zsem:{{{name}}}:{lost}")]).await;
            }
            Step::Late { client, pick } => self.late(books, client, pick).await?,
            Step::LoseMeta => {
                self.now += A_LOSS_TAKES;
                // Without `meta` nobody knows when the rest vanishes: keep to one that has it.
                books.lose_meta();
                self.server.cmd(&["DEL", &format!("zsem:{{{name}}}:meta")]).await;
                for key in ["permits", "queue", "clients"] {
                    self.server.cmd(&["PERSIST", &format!("zsem:{{{name}}}:{key}")]).await;
                }
            }
        }
        Ok(())
    }

    /// How many clients are known, and how many fields there are of them.
    async fn told_of_clients(&self, name: &str) -> (usize, usize) {
        let clients = self.server.query(&["ZCARD", &format!("zsem:{{{name}}}:clients")]).await;
        let fields: Vec<String> =
            self.server.query(&["HKEYS", &format!("zsem:{{{name}}}:meta")]).await;
        let of_client = |field: &&String| field.len() == 16 || field.starts_with("l:");
        (clients, fields.iter().filter(of_client).count())
    }

    async fn turn(
        &mut self,
        name: &Arc<str>,
        books: &mut Books,
        random: RandomTurn,
    ) -> Result<(), TestCaseError> {
        // Short counters and the longest.
        let next = self.turns * 2048
            + if self.turns.is_multiple_of(2) { 18_000_000_000_000_000_000 } else { 0 };
        self.turns += 1;
        let player = &mut self.players[random.client];
        let mut epoch = player.epoch;
        match random.epoch {
            EpochChange::None => {}
            EpochChange::Rise => {
                player.epoch += 1;
                epoch = player.epoch;
            }
            EpochChange::Late => epoch = epoch.saturating_sub(1),
        }
        // An id is named once in a turn, as the driver does.
        let mut free: Vec<(PermitId, u64)> = player.ids.clone();
        let mut take = |pick: usize| (!free.is_empty()).then(|| free.remove(pick % free.len()));
        let mut release: Vec<PermitId> =
            random.release.iter().filter_map(|&pick| Some(take(pick)?.0)).collect();
        release.sort_by_key(|id| id.units() > 1);
        let light = release.iter().filter(|id| id.units() == 1);
        let release_from = light.map(|id| player.token(id, self.now)).min().unwrap_or(0);
        let cancel: Vec<PermitId> =
            random.cancel.iter().filter_map(|&pick| Some(take(pick)?.0)).collect();
        let renew =
            random.renew.iter().filter_map(|&(pick, ms)| Some((take(pick)?.0, ms))).collect();
        let ask = random.ask.iter().filter_map(|&(pick, with_ticket, rule)| {
            let (id, ticket) = take(pick)?;
            Some(Ask { id, ticket: if with_ticket { ticket } else { 0 }, rule })
        });
        let turn = Turn {
            name: name.clone(),
            client: player.id,
            label: if random.labelled { "a label".into() } else { "".into() },
            epoch,
            limit: random.limit,
            seen: player.seen,
            incarnation: if random.old_incarnation { 1 } else { player.incarnation },
            release,
            release_from,
            cancel,
            renew,
            ask: ask.collect(),
            admit: random
                .fresh
                .iter()
                .enumerate()
                .map(|(i, &(units, lease, rule))| {
                    (PermitId::new(player.id, next + i as u64, units, lease), rule)
                })
                .collect(),
        };
        player.said.push(turn.clone());
        for id in turn.release.iter().chain(&turn.cancel) {
            player.tokens.remove(id);
        }
        let (ours, notes) = books.turn(&turn, self.now);
        let theirs = player.session.turn(turn.clone()).await;
        prop_assert_eq!(theirs.unwrap(), ours.clone(), "{:?}", turn);
        if let TurnOutcome::Answered(reply) = ours {
            player.seen = player.seen.max(reply.last);
            player.incarnation = reply.incarnation;
            let named = turn.ask.iter().map(|ask| ask.id).chain(turn.admit.iter().map(|a| a.0));
            for (id, settled) in named.zip(reply.asked.iter().chain(&reply.admitted)) {
                let ticket = match settled {
                    Settled::Queued { ticket, .. } => *ticket,
                    Settled::Granted { token, .. } => {
                        // The server counts in whole milliseconds, from the one that has begun.
                        let end = (self.now / 1000 + id.lease_ms()) * 1000;
                        player.tokens.insert(id, (*token, end));
                        0
                    }
                    _ => 0,
                };
                match player.ids.iter_mut().find(|(known, _)| *known == id) {
                    Some(known) => known.1 = known.1.max(ticket),
                    None => player.ids.push((id, ticket)),
                }
            }
        }
        self.compare_notes(notes).await
    }

    /// Void, unless what the books know of the client was lost meanwhile.
    async fn late(
        &mut self,
        books: &mut Books,
        client: usize,
        pick: usize,
    ) -> Result<(), TestCaseError> {
        let player = &mut self.players[client];
        let unanswered = |turn: &&Turn| turn.epoch < player.epoch && turn.seen > 0;
        let turns: Vec<&Turn> = player.said.iter().filter(unanswered).collect();
        let Some(&turn) = turns.get(pick % turns.len().max(1)) else { return Ok(()) };
        let (ours, notes) = books.turn(turn, self.now);
        let theirs = player.session.turn(turn.clone()).await;
        prop_assert_eq!(theirs.unwrap(), ours, "late: {:?}", turn);
        player.tokens.clear();
        let found = books.inspect(self.now / 1000);
        let units: u64 = found.holders.iter().map(|holder| u64::from(holder.units)).sum();
        if found.holders_total < 500 {
            prop_assert_eq!(found.in_use, units, "late: {:?}", found);
        }
        self.compare_notes(notes).await
    }

    /// What each client was told, by this step and not by a later one.
    async fn compare_notes(&mut self, notes: Vec<(ClientId, Heard)>) -> Result<(), TestCaseError> {
        for player in &mut self.players {
            let expected: Heard = notes
                .iter()
                .filter(|(client, _)| *client == player.id)
                .flat_map(|(_, words)| words.clone())
                .collect();
            prop_assert_eq!(player.heard().await, expected);
        }
        Ok(())
    }
}

/// A turn that says nothing.
fn silent(client: usize) -> RandomTurn {
    RandomTurn {
        client,
        limit: 200,
        fresh: Vec::new(),
        release: Vec::new(),
        cancel: Vec::new(),
        renew: Vec::new(),
        ask: Vec::new(),
        epoch: EpochChange::None,
        old_incarnation: false,
        labelled: false,
    }
}

fn fresh(client: usize, count: usize, ms: u64) -> Step {
    Step::Turn(RandomTurn { fresh: vec![(1, ms, Rule::Wait); count], ..silent(client) })
}

fn play_all(games: Vec<Vec<Step>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut game = Game::start().await;
        for steps in games {
            if let Err(error) = game.play(steps.clone()).await {
                panic!("{error}: {steps:?}");
            }
        }
    });
}

/// What chance hardly ever plays.
#[test]
fn a_kick_and_a_long_lease_outlive_the_loss_of_the_books_about_them() {
    let renew = |client| Step::Turn(RandomTurn { renew: vec![(0, 40_000)], ..silent(client) });
    let kick = |client| Step::Kick { client, pick: 0, now: false };
    let pass = |seconds: u64| Step::Pass { micros: seconds * 1_000_000 };
    let known = |client| {
        let epoch = EpochChange::Rise;
        Step::Turn(RandomTurn { labelled: true, epoch, ..silent(client) })
    };
    // For more than an hour somebody holds, and nobody waits.
    let mut hour = vec![fresh(0, 1, 30_000), known(1), known(2)];
    hour.extend((0..130).flat_map(|_| [pass(30), renew(0)]));
    hour.extend([Step::Inspect, known(0), Step::Inspect]);
    let heavy = |client, units| {
        Step::Turn(RandomTurn { fresh: vec![(units, 30_000, Rule::Wait); 2], ..silent(client) })
    };
    let late = |client, pick| Step::Late { client, pick };
    let games = vec![
        hour,
        // The second turn of the client runs again when nobody knows any more that it is void: while
        // what it admitted is held, and while others wait.
        vec![fresh(0, 1, 30_000), heavy(0, 3), known(0), Step::LoseMeta, late(0, 0), Step::Inspect],
        vec![
            fresh(0, 1, 30_000),
            heavy(0, 3),
            known(0),
            Step::LoseMeta,
            Step::SetLimit(Some(7)),
            heavy(1, 3),
            late(0, 0),
            Step::SetLimit(None),
            known(1),
            Step::Inspect,
        ],
        vec![
            Step::SetLimit(Some(1)),
            fresh(0, 1, 30_000),
            fresh(0, 2, 30_000),
            known(0),
            Step::LoseMeta,
            Step::SetLimit(Some(1)),
            late(0, 0),
            Step::Inspect,
        ],
        vec![fresh(0, 1, 30_000), kick(0), Step::LoseMeta, Step::SetLimit(Some(4)), renew(0)],
        vec![fresh(0, 1, 30_000), Step::LoseMeta, kick(0), Step::SetLimit(None), renew(0)],
        vec![fresh(0, 1, 30_000), kick(0), Step::LoseMeta, renew(0), renew(0)],
        // More have expired than one turn prunes, and a marked one stands behind them.
        vec![fresh(0, 10, 1_000); 13]
            .into_iter()
            .chain([fresh(1, 1, 1_500), kick(1), pass(2), renew(1)])
            .collect(),
        vec![fresh(0, 1, 600_000), Step::LoseMeta, fresh(1, 1, 1_000), pass(20), Step::Inspect],
        vec![fresh(0, 1, 600_000), Step::LoseMeta, Step::SetLimit(None), pass(20), Step::Inspect],
    ];
    play_all(games);
}

/// Redis takes many releases out at once where their tokens say that all must be there. These say so,
/// or nearly: of each two released, one has gone otherwise, and is told as missing.
#[test]
fn what_went_otherwise_is_missing_though_its_token_vouches_for_it() {
    let grant = || fresh(0, 1, 30_000);
    let kick = |pick| Step::Kick { client: 0, pick, now: true };
    let renew = |pick| {
        let renew = vec![(pick, 30_000)];
        Step::Turn(RandomTurn { renew, old_incarnation: true, ..silent(0) })
    };
    let release =
        |first, second| Step::Turn(RandomTurn { release: vec![first, second], ..silent(0) });
    let first = || Step::Turn(silent(1)); // its number is the incarnation's
    play_all(vec![
        vec![first(), grant(), grant(), kick(0), release(0, 0)],
        // The token of the kicked one is the last number, and the lowest of those released.
        vec![first(), grant(), kick(0), grant(), release(0, 0)],
        // Data was lost, and one of two was put back.
        vec![first(), grant(), grant(), Step::LoseEverything, renew(0), release(0, 0)],
        vec![first(), grant(), grant(), Step::LoseEverything, renew(1), release(0, 0)],
    ]);
}

/// Both stores end a lease in the same millisecond, and nobody may vouch for it in that one.
#[test]
fn a_permit_is_vouched_for_only_until_its_last_millisecond_begins() {
    let release = |client| Step::Turn(RandomTurn { release: vec![0, 0], ..silent(client) });
    play_all(vec![vec![
        Step::Turn(silent(1)), // its number is the incarnation's: the next ones are above it
        Step::Pass { micros: 900 },
        fresh(0, 1, 50),
        fresh(0, 1, 30_000),
        Step::Pass { micros: 49_200 },
        Step::Turn(silent(1)), // prunes the first
        release(0),
    ]]);
}

#[test]
fn memory_and_redis_give_the_same_replies_to_10_000_random_turns() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let game = Mutex::new(runtime.block_on(Game::start()));
    let config = Config { cases: 210, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config)
        .run(&vec(step(), 1..200), |steps| runtime.block_on(lock(&game).play(steps)));
    if let Err(error) = outcome {
        panic!("{error}");
    }
    let game = lock(&game);
    let turns = game.turns_before + game.turns;
    assert!(turns >= 10_000, "only {turns} turns were compared");
}

#[test]
fn tokens_rise_above_what_the_caller_has_seen_where_a_new_server_is_behind() {
    let behind = Step::ClockBehind { micros: 10_000_000 };
    play_all(vec![vec![
        Step::Pass { micros: 20_000_000 },
        fresh(0, 2, 30_000),
        Step::LoseEverything,
        behind,
        fresh(0, 2, 30_000),
        fresh(1, 2, 30_000),
    ]]);
}
