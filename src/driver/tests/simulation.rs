//! States against the memory store, over a network that loses, delays and reorders, with clients that
//! pause and crash. There is no IO, time is paused, and every run repeats by its seed.
//!
//! After every step the holders that believe they hold are counted. When the faults have ended, and
//! while nobody releases, the store must list every waiter, and nothing that its owner does not know.
//! Then every waiter must be served and nothing may be left behind.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, advance};

use crate::driver::state::{SemaphoreState, WaitEnd};
use crate::error::StoreError;
use crate::hold::{Hold, Truth};
use crate::id::{ClientId, PermitId};
use crate::numbers::{Millis, ServerId, TurnNumber};
use crate::options::{Options, Wake};
use crate::store::memory::MemoryState;
use crate::store::{Kick, Server, Turn, TurnOutcome, WakeUp, WhenFull};

const LIMIT: u32 = 4;
const CALL_TIMEOUT: Duration = Duration::from_millis(500);
/// The longest that a turn is under way, an asking period, and what they cause.
const SETTLES_IN: Duration = Duration::from_secs(8);

/// How often things go wrong, in percent.
#[derive(Clone, Copy)]
struct Faults {
    lost: u32,
    late: u32,
    pause: u32,
    crash: u32,
    wipe: u32,
    kick: u32,
    limit: u32,
    /// The name comes to another place, which a turn finds out.
    moved: u32,
    /// One of these keys is lost.
    key: u32,
    keys: &'static [Key],
    /// A server takes over that has what the last copy had.
    failover: u32,
}

#[derive(Clone, Copy, PartialEq)]
enum Key {
    Permits,
    Queue,
    Clients,
    Meta,
}

const CALM: Faults = Faults {
    lost: 0,
    late: 0,
    pause: 0,
    crash: 0,
    wipe: 0,
    kick: 0,
    limit: 0,
    moved: 0,
    key: 0,
    keys: &[],
    failover: 0,
};

/// The leases that waiters want, and the grace.
#[derive(Clone, Copy)]
struct Leases {
    choice: &'static [u64],
    grace: u64,
}

const LEASES: Leases = Leases { choice: &[200, 300, 1_000, 5_000, 30_000], grace: 0 };
/// With a grace as long as the longest of them.
const SHORT: Leases = Leases { choice: &[200, 300, 600, 900], grace: 900 };

enum Packet {
    Turn { from: usize, sent: u64, turn: Box<Turn> },
    Reply { to: usize, sent: u64, outcome: TurnOutcome },
    Elsewhere { to: usize, sent: u64 },
    Wake { to: usize, id: PermitId, wake_up: WakeUp },
}

struct Node {
    id: ClientId,
    state: SemaphoreState,
    counter: u64,
    /// Number in the network, number in the state, and end of each turn in flight.
    awaited: Vec<(u64, TurnNumber, Instant)>,
    waiting: Vec<u64>,
    holding: Vec<Arc<Hold>>,
    paused_until: Instant,
}

impl Node {
    fn new(random: &mut Rng, leases: Leases) -> Self {
        let id = ClientId::from_bits(random.u64(..));
        let mut state = SemaphoreState::new("simulated".into(), id);
        state.add_handle(LIMIT, &"".into());
        state.add_grace(Millis::new(leases.grace));
        Self {
            id,
            state,
            counter: 0,
            awaited: Vec::new(),
            waiting: Vec::new(),
            holding: Vec::new(),
            paused_until: Instant::now(),
        }
    }

    fn acquire(&mut self, random: &mut Rng, leases: Leases) {
        self.counter += 1;
        let lease_ms = *random.choice(leases.choice).unwrap();
        let wake = if random.u8(..10) == 0 { Wake::Poll } else { Wake::Push };
        let options = Options { wake, ..Options::with_lease(Millis::new(lease_ms)) };
        let id = PermitId::new(self.id, self.counter, random.u32(1..=3), Millis::new(lease_ms));
        let when_full = if random.u8(..8) == 0 { WhenFull::Refuse } else { WhenFull::Wait };
        self.state.enter(id, when_full, Arc::new(options));
        self.waiting.push(self.counter);
    }

    /// Takes grants as the futures of the callers would.
    fn collect(&mut self, tokens: &mut u64) {
        let waiting = std::mem::take(&mut self.waiting);
        for counter in waiting {
            match self.state.poll_waiter(counter, &mut None) {
                Poll::Pending => self.waiting.push(counter),
                Poll::Ready(WaitEnd::Granted(hold)) => {
                    *tokens += 1;
                    self.holding.push(hold);
                }
                Poll::Ready(WaitEnd::Full { .. } | WaitEnd::Kicked | WaitEnd::TooLarge { .. }) => {}
                Poll::Ready(end) => panic!("a wait ended with {end:?}"),
            }
        }
        self.state.take_effects().clear();
    }

    fn release(&mut self, index: usize) {
        let hold = self.holding.swap_remove(index);
        if hold.release() {
            self.state.give_back(hold.id.counter(), None);
        }
    }

    /// Returns the number in the state of a turn that has come back; `None` if the turn was given up.
    fn land(&mut self, sent: u64, now: Instant) -> Option<TurnNumber> {
        let awaits = |&(awaited, _, end): &(u64, TurnNumber, Instant)| awaited == sent && end > now;
        let index = self.awaited.iter().position(awaits)?;
        Some(self.awaited.remove(index).1)
    }

    /// The connection leads to another server from now on.
    fn reconnect(&mut self, now: Instant) {
        for (_, number, _) in self.awaited.drain(..) {
            self.state.unanswered(number, &StoreError::timeout("failover"), now);
        }
        self.state.reconnected();
    }

    fn believed(&self) -> u32 {
        let held = |hold: &&Arc<Hold>| matches!(hold.truth(), Truth::HeldUntil(_));
        self.holding.iter().filter(held).map(|hold| hold.id.units()).sum()
    }
}

struct World {
    seed: u64,
    random: Rng,
    leases: Leases,
    store: MemoryState,
    /// Which server has the store.
    server: ServerId,
    /// What a server has that would take over.
    copy: Option<MemoryState>,
    nodes: Vec<Node>,
    /// With the instant at which each arrives.
    network: VecDeque<(Instant, Packet)>,
    start: Instant,
    sent: u64,
    /// Turns that went out while another one of the same node was in flight.
    pipelined: u64,
    grants: u64,
    peak: u32,
    crashes: u64,
    wipes: u64,
    failovers: u64,
}

impl World {
    fn new(seed: u64, leases: Leases) -> Self {
        let mut random = Rng::with_seed(seed);
        let nodes = (0..4).map(|_| Node::new(&mut random, leases)).collect();
        let server = ServerId::new(1).unwrap();
        let mut store = MemoryState::default();
        store.move_to(server);
        Self {
            seed,
            random,
            leases,
            store,
            server,
            copy: None,
            nodes,
            network: VecDeque::new(),
            start: Instant::now(),
            sent: 0,
            pipelined: 0,
            grants: 0,
            peak: 0,
            crashes: 0,
            wipes: 0,
            failovers: 0,
        }
    }

    /// The clock of the store.
    fn micros(&self) -> u64 {
        1_000_000_000_000_000 + self.start.elapsed().as_micros() as u64
    }

    fn percent(&mut self, percent: u32) -> bool {
        self.random.u32(..100) < percent
    }

    /// Sends a packet on its way, if it is not lost.
    fn send(&mut self, packet: Packet, faults: Faults) {
        if self.percent(faults.lost) {
            return;
        }
        let delay = if self.percent(faults.late) {
            let longest = if self.random.bool() { 600 } else { 6_000 };
            self.random.u64(20..longest)
        } else {
            self.random.u64(..3)
        };
        self.network.push_back((Instant::now() + Duration::from_millis(delay), packet));
    }

    fn deliver(&mut self, faults: Faults) {
        let now = Instant::now();
        let mut waiting = VecDeque::new();
        for (at, packet) in std::mem::take(&mut self.network) {
            let paused = match packet {
                Packet::Turn { .. } => false,
                Packet::Reply { to, .. }
                | Packet::Elsewhere { to, .. }
                | Packet::Wake { to, .. } => self.nodes[to].paused_until > now,
            };
            if at > now || paused {
                waiting.push_back((at, packet));
            } else {
                self.arrive(packet, faults, now);
            }
        }
        self.network.extend(waiting);
    }

    fn arrive(&mut self, packet: Packet, faults: Faults, now: Instant) {
        match packet {
            Packet::Turn { from, sent, .. } if self.percent(faults.moved) => {
                self.send(Packet::Elsewhere { to: from, sent }, faults);
            }
            Packet::Turn { from, sent, turn } => {
                let (outcome, notes) = self.store.turn(&turn, self.micros());
                self.send(Packet::Reply { to: from, sent, outcome }, faults);
                for (client, words) in notes {
                    if let Some(to) = self.nodes.iter().position(|node| node.id == client) {
                        for (id, wake_up) in words {
                            self.send(Packet::Wake { to, id, wake_up }, faults);
                        }
                    }
                }
            }
            Packet::Reply { to, sent, outcome } => {
                let node = &mut self.nodes[to];
                let Some(number) = node.land(sent, now) else { return };
                // As the driver: what ended by the clock has ended before a reply is looked at.
                node.state.tick(now);
                match outcome {
                    TurnOutcome::Answered(reply) => node.state.answered(number, reply, now),
                    TurnOutcome::Stale { epoch } => node.state.overtaken(number, epoch),
                }
            }
            Packet::Elsewhere { to, sent } => {
                let node = &mut self.nodes[to];
                let Some(number) = node.land(sent, now) else { return };
                node.state.redirected(number, &StoreError::elsewhere("moved"), now);
                node.state.moved();
            }
            Packet::Wake { to, id, wake_up } => {
                let node = &mut self.nodes[to];
                if node.id == id.client() {
                    node.state.wake(id, wake_up, now);
                }
            }
        }
    }

    fn drive(&mut self, faults: Faults) {
        let now = Instant::now();
        for from in 0..self.nodes.len() {
            let mut node = &mut self.nodes[from];
            if node.paused_until > now {
                continue;
            }
            node.state.set_subscribed(true, now);
            node.state.tick(now);
            while let Some(index) = node.awaited.iter().position(|&(_, _, end)| end <= now) {
                let (_, number, _) = node.awaited.remove(index);
                node.state.unanswered(number, &StoreError::timeout("lost"), now);
                if self.random.u8(..4) == 0 {
                    node.state.reconnected();
                }
            }
            node.collect(&mut self.grants);
            while let Some(outgoing) = node.state.next_turn(now, CALL_TIMEOUT, Some(1)) {
                self.sent += 1;
                node.awaited.push((self.sent, outgoing.number, now + CALL_TIMEOUT));
                self.pipelined += u64::from(node.awaited.len() > 1);
                let mut turn = Box::new(outgoing.turn);
                if let Some(meeting) = &mut turn.meets {
                    meeting.server = Some(Server { id: self.server, up: Millis::new(3_600_000) });
                }
                self.send(Packet::Turn { from, sent: self.sent, turn }, faults);
                node = &mut self.nodes[from];
            }
        }
    }

    fn disturb(&mut self, faults: Faults) {
        let which = self.random.usize(..self.nodes.len());
        if self.percent(faults.pause) {
            let ms = self.random.u64(50..5_000);
            self.nodes[which].paused_until = Instant::now() + Duration::from_millis(ms);
        }
        if self.percent(faults.crash) {
            self.nodes[which] = Node::new(&mut self.random, self.leases);
            self.crashes += 1;
            // What the network carries for the dead goes nowhere; its turns still arrive.
            self.network.retain(|(_, packet)| match packet {
                Packet::Reply { to, .. }
                | Packet::Elsewhere { to, .. }
                | Packet::Wake { to, .. } => *to != which,
                Packet::Turn { .. } => true,
            });
        }
        if self.percent(faults.kick) {
            self.kick(faults);
        }
        if self.percent(faults.limit) {
            let limit = self.random.bool().then(|| self.random.u32(..=LIMIT));
            self.store.set_limit(limit, self.micros());
        }
        if self.percent(faults.wipe) {
            self.store = MemoryState::default();
            self.wipes += 1;
        }
        if self.percent(faults.failover * 4) {
            self.copy = self.store.has_meta().then(|| self.store.clone());
        }
        if self.percent(faults.failover) {
            self.fail_over();
        }
        if self.percent(faults.key)
            && let Some(&key) = self.random.choice(faults.keys)
        {
            match key {
                Key::Permits => self.store.lose_permits(),
                Key::Queue => self.store.lose_queue(),
                Key::Clients => self.store.lose_clients(),
                Key::Meta => self.store.lose_meta(),
            }
            self.wipes += 1;
        }
    }

    fn fail_over(&mut self) {
        let Some(copy) = &self.copy else { return };
        self.store = copy.clone();
        self.server = ServerId::new(self.server.get() + 1).unwrap();
        self.store.move_to(self.server);
        self.network.clear();
        let now = Instant::now();
        self.nodes.iter_mut().for_each(|node| node.reconnect(now));
        self.failovers += 1;
        self.wipes += 1;
    }

    /// Marks one of the permits; its owner may hear of it.
    fn kick(&mut self, faults: Faults) {
        let now_ms = self.micros() / 1000;
        let holders = self.store.inspect(now_ms).holders;
        let Some(holder) = self.random.choice(&holders) else { return };
        let (_, note) = self.store.kick(holder.id, Kick::Mark, now_ms);
        let owner = note.and_then(|(id, _)| self.nodes.iter().position(|node| node.id == id));
        if let Some(to) = owner {
            self.send(Packet::Wake { to, id: holder.id, wake_up: WakeUp::Ask }, faults);
        }
    }

    fn live(&mut self) {
        let which = self.random.usize(..self.nodes.len());
        let node = &mut self.nodes[which];
        if node.paused_until > Instant::now() {
            return;
        }
        match self.random.u8(..10) {
            0..6 if node.waiting.len() < 6 => node.acquire(&mut self.random, self.leases),
            6..8 if !node.holding.is_empty() => {
                node.release(self.random.usize(..node.holding.len()));
            }
            8 if !node.waiting.is_empty() => {
                let counter = node.waiting.swap_remove(self.random.usize(..node.waiting.len()));
                node.state.cancel(counter, Instant::now());
            }
            _ => {}
        }
    }

    fn check(&mut self, faults: Faults) {
        let believed: u32 = self.nodes.iter().map(Node::believed).sum();
        self.peak = self.peak.max(believed);
        let lost = faults.wipe > 0
            || faults.keys.contains(&Key::Permits)
            || faults.failover > 0 && self.leases.grace == 0;
        assert!(lost || believed <= LIMIT, "seed {}: {believed} believed held", self.seed);
    }

    async fn run(&mut self, steps: u32, faults: Faults) {
        for _ in 0..steps {
            let ms = if self.percent(5) { self.random.u64(..1_500) } else { self.random.u64(..20) };
            advance(Duration::from_millis(ms)).await;
            self.disturb(faults);
            self.deliver(faults);
            self.live();
            self.drive(faults);
            self.check(faults);
        }
    }

    async fn pass_calmly(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            advance(Duration::from_millis(5)).await;
            self.deliver(CALM);
            self.drive(CALM);
        }
    }

    /// No more faults, and nobody lets go: states and store come to agree about who waits and holds.
    async fn come_to_agree(&mut self) {
        let now = Instant::now();
        self.nodes.iter_mut().for_each(|node| node.paused_until = now);
        self.store.set_limit(None, self.micros());
        self.pass_calmly(SETTLES_IN).await;
        let before = self.disagreements();
        self.pass_calmly(Duration::from_millis(50)).await; // what was just under way is over
        let after = self.disagreements();
        let both: Vec<_> = before.iter().filter(|one| after.contains(one)).collect();
        assert!(both.is_empty(), "seed {}: {both:?}", self.seed);
    }

    /// Waiters that the store does not list, and what it lists of living clients that none of them
    /// knows. After a loss of data the latter is left to its lease: epochs are data, too, and without
    /// them a turn that was given up long ago counts.
    fn disagreements(&mut self) -> Vec<(&'static str, PermitId)> {
        let listed = self.store.inspect(self.micros() / 1000);
        let live = listed.holders.iter().filter(|holder| !holder.expires_in.is_zero());
        let holders = live.map(|holder| holder.id);
        let written: Vec<_> = listed.waiters.iter().map(|one| one.id).chain(holders).collect();
        let mut disagree = Vec::new();
        for node in &self.nodes {
            let known: Vec<_> = node.state.waiter_ids().chain(node.state.held_ids()).collect();
            for &counter in &node.waiting {
                let id = node.state.waiter_id(counter).unwrap();
                if !written.contains(&id) {
                    disagree.push(("forgotten", id));
                }
            }
            let stray = |id: &&PermitId| id.client() == node.id && !known.contains(id);
            if self.wipes == 0 {
                disagree.extend(written.iter().filter(stray).map(|id| ("stray", *id)));
            }
        }
        disagree
    }

    /// Nobody new: all who wait are served, and all is given back.
    async fn come_to_rest(&mut self) {
        let rested = |world: &Self| {
            let rest = |node: &Node| {
                node.waiting.is_empty() && node.holding.is_empty() && node.state.is_flushed()
            };
            world.nodes.iter().all(rest)
        };
        let deadline = Instant::now() + Duration::from_secs(120);
        while !rested(self) {
            assert!(Instant::now() < deadline, "seed {}: somebody waits for ever", self.seed);
            advance(Duration::from_millis(5)).await;
            self.deliver(CALM);
            self.drive(CALM);
            for node in &mut self.nodes {
                while !node.holding.is_empty() {
                    node.release(0);
                }
            }
        }
        // Late turns of the dead still arrive; what they took ends with its lease.
        advance(Duration::from_secs(7)).await;
        self.deliver(CALM);
        if self.crashes == 0 && self.wipes == 0 {
            let left = self.store.inspect(self.micros() / 1000);
            let ids: Vec<PermitId> = left.holders.iter().map(|holder| holder.id).collect();
            assert!(ids.is_empty(), "seed {}: left to their leases: {ids:?}", self.seed);
        }
        advance(Duration::from_secs(31)).await;
        self.nodes[0].state.request_turn();
        for _ in 0..4 {
            self.drive(CALM);
            advance(Duration::from_millis(5)).await;
            self.deliver(CALM);
        }
        let left = self.store.inspect(self.micros() / 1000);
        assert_eq!((left.in_use, left.waiters_total), (0, 0), "seed {}", self.seed);
    }
}

async fn simulate(seeds: std::ops::Range<u64>, faults: Faults) {
    simulate_with(seeds, faults, LEASES).await;
}

async fn simulate_with(seeds: std::ops::Range<u64>, faults: Faults, leases: Leases) {
    let mut failovers = 0;
    let (mut grants, mut pipelined, mut peak, mut crashes) = (0, 0, 0, 0);
    let runs = seeds.end - seeds.start;
    for seed in seeds {
        let mut world = World::new(seed, leases);
        world.run(400, faults).await;
        world.come_to_agree().await;
        world.come_to_rest().await;
        grants += world.grants;
        pipelined += world.pipelined;
        peak = peak.max(world.peak);
        crashes += world.crashes;
        failovers += world.failovers;
    }
    assert!(grants > 10 * runs, "only {grants} grants were seen");
    assert!(pipelined > 5 * runs, "only {pipelined} turns went out beside another one");
    assert!(peak >= LIMIT, "the limit was never reached: {peak}");
    assert_eq!(crashes > 0, faults.crash > 0);
    assert_eq!(failovers > runs / 2, faults.failover > 0);
}

#[tokio::test(start_paused = true)]
async fn without_faults_all_are_served_and_nothing_is_left() {
    simulate(0..60, CALM).await;
}

#[tokio::test(start_paused = true)]
async fn lost_and_late_turns_replies_and_wake_ups_never_pass_the_limit_nor_leak() {
    simulate(1_000..1_150, Faults { lost: 8, late: 25, ..CALM }).await;
}

#[tokio::test(start_paused = true)]
async fn pauses_and_crashes_never_pass_the_limit_nor_leak() {
    simulate(2_000..2_150, Faults { lost: 4, late: 15, pause: 3, crash: 2, ..CALM }).await;
}

#[tokio::test(start_paused = true)]
async fn lost_data_heals_and_nobody_waits_for_ever() {
    simulate(3_000..3_100, Faults { lost: 3, late: 3, pause: 1, wipe: 1, ..CALM }).await;
}

/// The limit is passed until late holders hear that their room is taken.
#[tokio::test(start_paused = true)]
async fn failovers_to_older_data_heal_and_nobody_waits_for_ever() {
    simulate(25_000..25_060, Faults { lost: 3, late: 10, pause: 2, failover: 1, ..CALM }).await;
}

#[tokio::test(start_paused = true)]
async fn failovers_with_a_grace_of_the_longest_lease_never_pass_the_limit() {
    for (from, faults) in [
        (26_000, Faults { failover: 1, ..CALM }),
        (27_000, Faults { lost: 3, late: 10, pause: 3, failover: 1, ..CALM }),
        (28_000, Faults { lost: 5, late: 20, pause: 3, crash: 2, failover: 2, ..CALM }),
    ] {
        simulate_with(from..from + 60, faults, SHORT).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_queue_and_forgotten_clients_never_pass_the_limit_nor_leak() {
    let keys = &[Key::Queue, Key::Clients];
    simulate(11_000..11_100, Faults { lost: 4, late: 15, pause: 2, key: 3, keys, ..CALM }).await;
}

#[tokio::test(start_paused = true)]
async fn kicks_with_losses_never_pass_the_limit_nor_leak() {
    simulate(4_000..4_060, Faults { lost: 8, late: 25, kick: 4, ..CALM }).await;
}

#[tokio::test(start_paused = true)]
async fn changes_of_the_limit_never_pass_the_highest_nor_leak() {
    simulate(12_000..12_060, Faults { lost: 8, late: 25, limit: 4, ..CALM }).await;
}

#[tokio::test(start_paused = true)]
async fn moves_of_the_name_never_pass_the_limit_nor_leak() {
    simulate(15_000..15_060, Faults { moved: 10, ..CALM }).await;
    simulate(16_000..16_060, Faults { lost: 8, late: 25, moved: 15, ..CALM }).await;
    simulate(17_000..17_040, Faults { late: 20, pause: 3, crash: 2, moved: 40, ..CALM }).await;
}

/// Without `permits`, holders learn of it by their renewals only: the limit is passed until then.
#[tokio::test(start_paused = true)]
async fn a_lost_key_costs_nobody_its_place() {
    let keys = &[Key::Permits, Key::Queue, Key::Clients, Key::Meta];
    simulate(14_000..14_060, Faults { lost: 3, late: 3, key: 2, keys, ..CALM }).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_of_the_queue_never_passes_the_limit() {
    let keys = &[Key::Queue, Key::Clients, Key::Meta];
    simulate(13_000..13_200, Faults { lost: 3, late: 10, key: 2, keys, ..CALM }).await;
}

#[tokio::test(start_paused = true)]
async fn storms_of_all_kinds_never_pass_the_limit_nor_leak() {
    for (from, faults) in [
        (5_000, Faults { lost: 20, late: 40, ..CALM }),
        (6_000, Faults { late: 60, pause: 2, ..CALM }),
        (7_000, Faults { lost: 10, late: 30, pause: 5, crash: 3, ..CALM }),
        (
            8_000,
            Faults { lost: 5, late: 20, pause: 2, crash: 1, wipe: 2, kick: 2, limit: 1, ..CALM },
        ),
        (9_000, Faults { late: 50, wipe: 3, ..CALM }),
        (10_000, Faults { lost: 40, late: 10, ..CALM }),
    ] {
        simulate(from..from + 40, faults).await;
    }
}
