//! Takes the same steps on both sides, and compares.

use std::sync::Arc;

use proptest::prelude::*;

use crate::id::ClientId;
use crate::numbers::{Seq, ServerId};
use crate::store::memory::MemoryState;
use crate::store::{INSPECT_BOUND, TurnOutcome};

use super::client::Client;
use super::generator::{CLIENTS, Key, RandomTurn, Step};
use super::memory_side::MemorySide;
use super::redis_side::{RedisSide, Snapshot};

/// Where the clock of each case starts, in microseconds: far ahead of the server's own clock, which
/// thus never expires a key.
const START: u64 = 4_000_000_000_000_000;
/// More microseconds than a case can give out numbers, so that none is above the next incarnation.
const LOSS_TAKES: u64 = 100_000;

/// With more permits and waiters than this, the keys are compared now and then only.
const MANY: u64 = 64;

pub(super) struct Harness {
    memory: MemorySide,
    redis: RedisSide,
    clients: Vec<Client>,
    name: Arc<str>,
    now: u64,
    server: u64,
    snapshot: Option<(MemoryState, Snapshot)>,
    /// The highest number given out. It is ahead of the clock after a change of the server.
    numbers_until: u64,
    cases: u64,
    turns_of_case: u64,
    turns_before: u64,
}

impl Harness {
    pub(super) async fn start() -> Self {
        let ids = || (1..=CLIENTS as u64).map(|bits| ClientId::from_bits(bits << 40));
        Self {
            memory: MemorySide::default(),
            redis: RedisSide::start(ids()).await,
            clients: ids().map(Client::new).collect(),
            name: "".into(),
            now: START,
            server: 1,
            snapshot: None,
            numbers_until: 0,
            cases: 0,
            turns_of_case: 0,
            turns_before: 0,
        }
    }

    /// Returns how many turns were compared.
    pub(super) fn turns(&self) -> u64 {
        self.turns_before + self.turns_of_case
    }

    /// Takes the steps of one case. Nothing is left of the case before it. So a failing case fails again for
    /// the same cause while it is shrunk.
    pub(super) async fn run(&mut self, steps: Vec<Step>) -> Result<(), TestCaseError> {
        self.cases += 1;
        self.name = format!("case {}", self.cases).into();
        self.now = START;
        self.turns_before += std::mem::take(&mut self.turns_of_case);
        self.memory = MemorySide::default();
        self.redis.set_clock(self.now).await;
        self.redis.begin(&self.name).await;
        self.snapshot = None;
        self.numbers_until = 0;
        self.change_server().await;
        for client in &mut self.clients {
            *client = Client::new(client.id);
        }
        for step in steps {
            self.now += 7;
            self.redis.set_clock(self.now).await;
            let taken = step.clone();
            self.step(step).await?;
            if self.memory.ids() > MANY && !self.now.is_multiple_of(8) {
                continue; // it would take most of the time of the test
            }
            let (redis, memory) =
                (self.redis.content(self.now).await, self.memory.content(self.now));
            prop_assert_eq!(redis, memory, "after {:?}", taken);
        }
        Ok(())
    }

    async fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Turn(random) => self.turn(&random).await?,
            Step::LateTurn { client, pick } => self.late_turn(client, pick).await?,
            Step::SetLimit(limit) => {
                self.redis.set_limit(limit).await;
                self.memory.set_limit(limit, self.now);
            }
            Step::Kick { client, pick, kick } => {
                if let Some(id) = self.clients[client].pick_id(pick) {
                    let memory = self.memory.kick(id, kick, self.now);
                    prop_assert_eq!(self.redis.kick(id, kick).await, memory);
                    self.compare_wake_ups().await?;
                }
            }
            Step::Inspect => {
                prop_assert_eq!(self.redis.inspect().await, self.memory.inspect(self.now));
            }
            Step::Advance { micros } => self.now += micros,
            Step::TurnBack { micros } => self.now -= micros,
            Step::Lose(key) => self.lose(key).await,
            Step::LoseAllKeys => {
                self.pass_all_numbers();
                self.memory.lose_all_keys();
                self.memory.set_server(self.server());
                self.redis.lose_all_keys().await;
            }
            Step::Snapshot => {
                self.snapshot = Some((self.memory.snapshot(), self.redis.snapshot().await));
            }
            Step::RollBack => self.roll_back().await,
            Step::ChangeServer => self.change_server().await,
        }
        Ok(())
    }

    fn server(&self) -> ServerId {
        ServerId::new(self.server).unwrap()
    }

    /// Waits until the next incarnation is above all numbers given out.
    fn pass_all_numbers(&mut self) {
        self.now = self.now.max(self.numbers_until) + LOSS_TAKES;
    }

    async fn roll_back(&mut self) {
        let Some((memory, redis)) = &self.snapshot else { return };
        self.memory.roll_back(memory);
        self.redis.roll_back(redis).await;
        self.memory.set_server(self.server());
        // On the same server nobody may notice. Then no turn can know that not all permits are there, and none
        // from before is known to be stale.
        self.clients.iter_mut().for_each(Client::roll_back);
    }

    async fn change_server(&mut self) {
        self.server += 1;
        self.clients.iter_mut().for_each(Client::reconnect);
        self.memory.set_server(self.server());
        self.redis.set_server(self.server()).await;
    }

    async fn lose(&mut self, key: Key) {
        match key {
            Key::Meta => self.pass_all_numbers(),
            // No turn can know that what is released together was not granted together.
            Key::Permits => self.clients.iter_mut().for_each(Client::forget_tokens),
            Key::Queue | Key::Clients => {}
        }
        self.memory.lose(key);
        self.redis.lose(key).await;
    }

    async fn turn(&mut self, random: &RandomTurn) -> Result<(), TestCaseError> {
        // Counters of few digits and of the most.
        let high = self.turns_of_case.is_multiple_of(2);
        let first = self.turns_of_case * 2048 + if high { 18_000_000_000_000_000_000 } else { 0 };
        self.turns_of_case += 1;
        let client = &mut self.clients[random.client];
        let server = ServerId::new(self.server).unwrap();
        let turn = client.turn(&self.name, random, first, self.now, server);
        let memory = self.memory.turn(&turn, self.now);
        let redis = self.redis.turn(random.client, &turn).await;
        prop_assert_eq!(redis, memory.clone(), "{:?}", turn);
        if let TurnOutcome::Answered(reply) = memory {
            client.learn(&turn, &reply, self.now);
            self.numbers_until = self.numbers_until.max(Seq::or_zero(reply.last));
        }
        self.compare_wake_ups().await
    }

    async fn late_turn(&mut self, client: usize, pick: usize) -> Result<(), TestCaseError> {
        let Some(turn) = self.clients[client].pick_stale_turn(pick) else { return Ok(()) };
        let memory = self.memory.turn(&turn, self.now);
        prop_assert_eq!(self.redis.turn(client, &turn).await, memory, "late: {:?}", turn);
        self.clients[client].forget_tokens();
        let found = self.memory.inspect(self.now);
        let units: u64 = found.holders.iter().map(|holder| u64::from(holder.units)).sum();
        if found.holders_total < INSPECT_BOUND as u64 {
            prop_assert_eq!(found.in_use, units, "late: {:?}", found);
        }
        self.compare_wake_ups().await
    }

    /// Compares the clients that this step has woken.
    async fn compare_wake_ups(&mut self) -> Result<(), TestCaseError> {
        let memory = self.memory.take_wake_ups(self.clients.iter().map(|client| client.id));
        prop_assert_eq!(self.redis.take_wake_ups().await, memory);
        Ok(())
    }
}
