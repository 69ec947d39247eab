//! Faults, drawn from a seed: each lane deals its kinds from a shuffled deck, so that all come to pass.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use fastrand::Rng;
use redis::FromRedisValue;
use tokio::time::{Instant, sleep};
use zset_semaphore::{Client, KickOutcome};

use crate::book::{Kick, Loss};
use crate::names::{Kind, NAMES, limit_of};
use crate::support::fault_proxy::FaultProxy;
use crate::support::ledger::monotonic_nanos;
use crate::support::processes::Child;
use crate::support::redis_server::RedisServer;
use crate::support::wait::PATIENCE;
use crate::witness::Witness;
use crate::worker::FORKS;

/// How long an operator's word may take, with the server paused or frozen.
const WORD: Duration = Duration::from_secs(20);

pub fn ms(random: &mut Rng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(random.u64(range))
}

/// Kinds in a random order, all of them before one comes again.
struct Deck<K: 'static> {
    kinds: &'static [K],
    left: Vec<K>,
}

impl<K: Copy> Deck<K> {
    fn new(kinds: &'static [K]) -> Self {
        Self { kinds, left: Vec::new() }
    }

    fn draw(&mut self, random: &mut Rng) -> K {
        if self.left.is_empty() {
            self.left = self.kinds.to_vec();
            random.shuffle(&mut self.left);
        }
        self.left.pop().expect("a deck has cards")
    }
}

/// How many faults of each kind there were.
#[derive(Default)]
pub struct Tally(Mutex<BTreeMap<&'static str, u64>>);

impl Tally {
    pub fn count(&self, kind: &'static str) {
        *self.0.lock().expect("no panic while counting").entry(kind).or_default() += 1;
    }

    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().expect("no panic while counting").clone()
    }
}

/// What all lanes share.
pub struct Scene {
    pub witness: Witness,
    pub tally: Tally,
    pub operator: Operator,
}

impl Scene {
    /// A fault of one process, or of all, has come and gone.
    fn done(&self, kind: &'static str, process: Option<u32>) {
        self.tally.count(kind);
        self.witness.state().struck(process, kind);
    }
}

// ---- the operator

/// Speaks to the server past all proxies.
pub struct Operator {
    redis: redis::Client,
    client: Client,
}

impl Operator {
    pub fn new(server: &RedisServer) -> Self {
        let redis = redis::Client::open(server.unix_url()).expect("the url of this server");
        let client = Client::builder()
            .url(server.unix_url().replace("redis+unix:", "unix:"))
            .call_deadline(WORD)
            .build()
            .expect("the url of this server");
        Self { redis, client }
    }

    /// None if the server was killed or replaced meanwhile.
    pub async fn command<T: FromRedisValue>(&self, words: &[&str]) -> Option<T> {
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(WORD))
            .set_response_timeout(Some(WORD));
        let connecting = self.redis.get_multiplexed_async_connection_with_config(&config);
        let mut connection = connecting.await.ok()?;
        redis::cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await.ok()
    }

    pub fn semaphore(&self, name: &str) -> zset_semaphore::ZSetSemaphore {
        self.client.semaphore(name, limit_of(name)).build().expect("a name that is allowed")
    }

    /// Sets or clears the override, and tells the witness what may be in force meanwhile.
    pub async fn move_limit(&self, witness: &Witness, name: &str, limit: Option<u32>) {
        let most = limit.unwrap_or(limit_of(name));
        let now = witness.state().limit_now(name);
        witness.state().limit(name, now.max(most));
        let semaphore = self.semaphore(name);
        let done = match limit {
            Some(limit) => semaphore.set_limit(limit).await,
            None => semaphore.clear_limit().await,
        };
        // Else it is not known, and the higher one may be in force.
        if done.is_ok() {
            witness.state().limit(name, most);
        }
    }

    /// Deletes one of the four keys; `permits` and `meta` are losses of data.
    pub async fn delete(&self, witness: &Witness, name: &str, key: &str) {
        let from = monotonic_nanos();
        if key == "meta" {
            witness.state().lost_meta(name);
        }
        let _: Option<i64> = self.command(&["DEL", &format!("zsem:{{{name}}}:{key}")]).await;
        match key {
            "permits" => witness.state().lost(name, loss_since(from)),
            // It may have come to pass at any instant of these.
            "meta" => witness.state().lost_meta(name),
            _ => {}
        }
    }

    /// Makes the server evict a key or two of its choice.
    async fn evict(&self, witness: &Witness) -> bool {
        let evicted = async || {
            let info: String = self.command(&["INFO", "stats"]).await.unwrap_or_default();
            info.lines()
                .find_map(|line| line.strip_prefix("evicted_keys:")?.trim().parse::<u64>().ok())
        };
        let memory: String = self.command(&["INFO", "memory"]).await.unwrap_or_default();
        let used = memory
            .lines()
            .find_map(|line| line.strip_prefix("used_memory:")?.trim().parse::<u64>().ok());
        let (Some(used), Some(before)) = (used, evicted().await) else { return false };
        let from = monotonic_nanos();
        let names = witness.state().names();
        for name in &names {
            witness.state().lost_meta(name);
        }
        let most = (used - 300).to_string();
        let tight: Option<()> = self
            .command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-random", "maxmemory", &most])
            .await;
        let _: Option<()> = self.command(&["PING"]).await;
        let mut wide: Option<()> = None;
        while wide.is_none() {
            wide = self.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
        }
        for name in &names {
            witness.state().lost(name, loss_since(from));
        }
        tight.is_some() && evicted().await.is_some_and(|after| after > before)
    }
}

fn loss_since(from: u64) -> Loss {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let micros = now.expect("a time after 1970").as_micros();
    Loss {
        from,
        to: monotonic_nanos(),
        to_us: u64::try_from(micros).expect("a time before 500 000"),
    }
}

// ---- faults of one process and its way to the server

#[derive(Clone, Copy)]
enum Of {
    Kill,
    Freeze,
    BlackHole,
    HeldRequests,
    HeldReplies,
    SlowReplies,
    Cut,
    Refused,
    OldConnectionsHeld,
    LostReply,
    HeldWakeUps,
    Close,
    CloseNow,
    Drop,
}

const OF_PROCESS: [Of; 14] = [
    Of::Kill,
    Of::Freeze,
    Of::BlackHole,
    Of::HeldRequests,
    Of::HeldReplies,
    Of::SlowReplies,
    Of::Cut,
    Of::Refused,
    Of::OldConnectionsHeld,
    Of::LostReply,
    Of::HeldWakeUps,
    Of::Close,
    Of::CloseNow,
    Of::Drop,
];

/// A process, and its two ways to the server.
pub struct Station {
    pub child: Child,
    index: usize,
    proxies: [FaultProxy; 2],
    seeds: Rng,
}

impl Station {
    pub async fn open(index: usize, server: &RedisServer, witness: &Witness, seeds: Rng) -> Self {
        let proxies =
            [FaultProxy::start(server.addr()).await, FaultProxy::start(server.addr()).await];
        proxies[1].without_resp3();
        let mut seeds = seeds;
        let child = spawn(index, &proxies, witness, &mut seeds).await;
        Self { child, index, proxies, seeds }
    }

    pub async fn storm(&mut self, scene: &Scene, end: Instant, mut random: Rng) {
        let mut deck = Deck::new(&OF_PROCESS);
        loop {
            sleep(ms(&mut random, 50..500)).await;
            let kind = deck.draw(&mut random);
            let mut random = random.fork();
            if Instant::now() >= end {
                return;
            }
            self.rush();
            let name = self.strike(kind, scene, &mut random).await;
            scene.done(name, Some(self.child.pid()));
        }
    }

    /// Has all tasks of that kind ask at once, where this process has some.
    pub fn rush(&mut self) {
        self.child.send("rush");
    }

    /// Lets the fault come and go.
    async fn strike(&mut self, kind: Of, scene: &Scene, random: &mut Rng) -> &'static str {
        // Now and then longer than a client is presumed alive and any lease here lasts.
        let span = if random.u32(..8) == 0 { 3_000..4_500 } else { 50..1_200 };
        let span = ms(random, span);
        let first = random.usize(..2);
        // One of its ways, or both.
        let hit: Vec<&FaultProxy> =
            if random.bool() { vec![&self.proxies[first]] } else { self.proxies.iter().collect() };
        match kind {
            Of::Kill => {
                self.kill(&scene.witness).await;
                return "process killed";
            }
            Of::Freeze => {
                self.child.freeze();
                sleep(span).await;
                self.child.thaw();
                return "process frozen";
            }
            Of::Close => return self.send("close", "client closed"),
            Of::CloseNow => return self.send("close now", "client closed at once"),
            Of::Drop => return self.send("drop", "client dropped"),
            _ => {}
        }
        for proxy in &hit {
            match kind {
                Of::BlackHole => proxy.black_hole(),
                Of::HeldRequests => proxy.hold_requests(),
                Of::HeldReplies => proxy.hold_replies(),
                Of::Cut => proxy.cut(),
                Of::Refused => {
                    proxy.refuse(true);
                    proxy.cut();
                }
                Of::LostReply => proxy.lose_next_reply(),
                Of::HeldWakeUps => proxy.hold_wake_ups(),
                _ => {}
            }
        }
        match kind {
            Of::SlowReplies => {
                let end = Instant::now() + span;
                while Instant::now() < end {
                    let pause = ms(random, 5..120);
                    hit.iter().for_each(|proxy| proxy.hold_replies());
                    sleep(pause).await;
                    hit.iter().for_each(|proxy| proxy.pass());
                    sleep(pause / 4).await;
                }
            }
            Of::OldConnectionsHeld => {
                // Long enough to be replaced; what was held runs after that.
                let frozen: Vec<_> = hit.iter().map(|proxy| proxy.freeze_existing()).collect();
                sleep(span).await;
                frozen.into_iter().for_each(|frozen| frozen.release());
            }
            Of::Cut | Of::LostReply => {}
            _ => sleep(span).await,
        }
        for proxy in &hit {
            proxy.refuse(false);
            proxy.pass();
        }
        match kind {
            Of::BlackHole => "black hole",
            Of::HeldRequests => "requests held",
            Of::HeldReplies => "replies held",
            Of::SlowReplies => "slow replies",
            Of::Cut => "connections cut",
            Of::Refused => "connections refused",
            Of::OldConnectionsHeld => "old connections held",
            Of::LostReply => "reply lost",
            _ => "wake-ups held",
        }
    }

    fn send(&mut self, word: &str, name: &'static str) -> &'static str {
        self.child.send(word);
        name
    }

    async fn kill(&mut self, witness: &Witness) {
        let process = self.child.pid();
        let at = self.child.kill();
        witness.state().killed(process, at);
        self.child = spawn(self.index, &self.proxies, witness, &mut self.seeds).await;
    }
}

async fn spawn(
    index: usize,
    proxies: &[FaultProxy; 2],
    witness: &Witness,
    seeds: &mut Rng,
) -> Child {
    let env = [
        ("URL", proxies[0].url()),
        ("RESP2_URL", proxies[1].url()),
        ("WITNESS", witness.address()),
        ("SEED", seeds.u64(..).to_string()),
        ("INDEX", index.to_string()),
        ("SHARE", "1".to_owned()),
    ];
    let mut child = Child::spawn("worker", &env);
    child.expect_line("@working", PATIENCE).await;
    child
}

/// Above the numbers of those that stay.
const VISITOR: usize = 99;

/// Processes that come, work a little and go.
#[derive(Clone, Copy)]
enum Visit {
    WithAWord,
    WithNoWord,
    /// After it has forked, and with no word.
    Forked,
}

const VISITS: [Visit; 3] = [Visit::WithAWord, Visit::WithNoWord, Visit::Forked];

pub async fn visitors(scene: &Scene, url: &str, end: Instant, mut random: Rng) {
    let mut deck = Deck::new(&VISITS);
    loop {
        sleep(ms(&mut random, 300..1_500)).await;
        let visit = deck.draw(&mut random);
        let mut random = random.fork();
        if Instant::now() >= end {
            return;
        }
        let kind = come_and_go(visit, scene, url, &mut random).await;
        scene.tally.count(kind);
    }
}

async fn come_and_go(visit: Visit, scene: &Scene, url: &str, random: &mut Rng) -> &'static str {
    let env = [
        ("URL", url.to_owned()),
        ("RESP2_URL", url.to_owned()),
        ("WITNESS", scene.witness.address()),
        ("SEED", random.u64(..).to_string()),
        ("INDEX", VISITOR.to_string()),
        ("SHARE", "4".to_owned()),
    ];
    let forks = matches!(visit, Visit::Forked);
    let mut child = Child::spawn(if forks { "forking worker" } else { "worker" }, &env);
    let mut processes = vec![child.pid()];
    for _ in 1..if forks { FORKS } else { 1 } {
        let forked = child.expect_line("@forked ", PATIENCE).await;
        processes.push(forked.parse().expect("a process id"));
    }
    sleep(ms(random, 500..2_500)).await;
    if matches!(visit, Visit::WithAWord) {
        child.send("stop");
        // It says so if it could not give all back, which is no wonder under these faults.
        child.expect_line("@stopped", PATIENCE).await;
        child.wait_for_exit(PATIENCE).await;
        scene.witness.state().ended(child.pid());
        return "visitor came and went";
    }
    let at = monotonic_nanos();
    for process in processes {
        scene.witness.state().killed(process, at);
    }
    child.kill();
    // Its forks are children of nobody here; they have gone once nobody can write to its output.
    child.wait_for_end_of_output(PATIENCE).await;
    if forks { "visitor that forked ended with no word" } else { "visitor ended with no word" }
}

// ---- faults of the server

#[derive(Clone, Copy)]
enum OfServer {
    ClientsKilled,
    Paused,
    WritesPaused,
    ScriptsFlushed,
    Frozen,
    Wiped,
    RestartedEmpty,
}

const OF_SERVER: [OfServer; 5] = [
    OfServer::ClientsKilled,
    OfServer::Paused,
    OfServer::WritesPaused,
    OfServer::ScriptsFlushed,
    OfServer::Frozen,
];
const OF_SERVER_AND_DATA: [OfServer; 7] = [
    OfServer::ClientsKilled,
    OfServer::Paused,
    OfServer::WritesPaused,
    OfServer::ScriptsFlushed,
    OfServer::Frozen,
    OfServer::Wiped,
    OfServer::RestartedEmpty,
];

pub async fn server_storm(
    server: &mut RedisServer,
    scene: &Scene,
    wipes: bool,
    end: Instant,
    mut random: Rng,
) {
    let mut deck = Deck::new(if wipes { &OF_SERVER_AND_DATA } else { &OF_SERVER });
    loop {
        sleep(ms(&mut random, 600..2_500)).await;
        let kind = deck.draw(&mut random);
        let mut random = random.fork();
        if Instant::now() >= end {
            return;
        }
        let name = strike_server(server, kind, scene, &mut random).await;
        scene.done(name, None);
    }
}

async fn strike_server(
    server: &mut RedisServer,
    kind: OfServer,
    scene: &Scene,
    random: &mut Rng,
) -> &'static str {
    let span = if random.u32(..8) == 0 { 1_500..2_500 } else { 30..900 };
    let span = ms(random, span);
    let operator = &scene.operator;
    match kind {
        OfServer::ClientsKilled => {
            let list: String = operator.command(&["CLIENT", "LIST"]).await.unwrap_or_default();
            // The operator comes by the unix socket.
            for line in list.lines().filter(|line| line.contains("addr=127.0.0.1")) {
                if let Some(id) = line.split_whitespace().find_map(|word| word.strip_prefix("id="))
                    && random.bool()
                {
                    let _: Option<i64> = operator.command(&["CLIENT", "KILL", "ID", id]).await;
                }
            }
            "clients killed (CLIENT KILL)"
        }
        OfServer::Paused | OfServer::WritesPaused => {
            let writes = matches!(kind, OfServer::WritesPaused);
            let what = if writes { "WRITE" } else { "ALL" };
            let _: Option<()> =
                operator.command(&["CLIENT", "PAUSE", &span.as_millis().to_string(), what]).await;
            sleep(span).await;
            if writes { "writes paused (CLIENT PAUSE)" } else { "all paused (CLIENT PAUSE)" }
        }
        OfServer::ScriptsFlushed => {
            let _: Option<()> = operator.command(&["SCRIPT", "FLUSH"]).await;
            "scripts flushed"
        }
        OfServer::Frozen => {
            server.freeze();
            sleep(span).await;
            server.thaw();
            "server frozen"
        }
        OfServer::Wiped | OfServer::RestartedEmpty => {
            let from = monotonic_nanos();
            let names = scene.witness.state().names();
            for name in &names {
                scene.witness.state().lost_meta(name);
            }
            let name = if matches!(kind, OfServer::Wiped) {
                let _: Option<()> = operator.command(&["FLUSHALL"]).await;
                "all keys wiped (FLUSHALL)"
            } else {
                server.restart_empty().await;
                "server restarted empty"
            };
            for name in &scene.witness.state().names() {
                let loss = loss_since(from);
                scene.witness.state().lost(name, loss);
            }
            name
        }
    }
}

// ---- what operators do, and data that is lost

#[derive(Clone, Copy)]
enum OfData {
    Kick,
    KickNow,
    LimitMoved,
    LimitZero,
    Queue,
    Clients,
    Meta,
    Permits,
    Evicted,
}

const OF_DATA: [OfData; 9] = [
    OfData::Kick,
    OfData::KickNow,
    OfData::LimitMoved,
    OfData::LimitZero,
    OfData::Queue,
    OfData::Clients,
    OfData::Meta,
    OfData::Permits,
    OfData::Evicted,
];

pub async fn data_storm(scene: &Scene, end: Instant, mut random: Rng) {
    let mut deck = Deck::new(&OF_DATA);
    loop {
        sleep(ms(&mut random, 100..900)).await;
        let kind = deck.draw(&mut random);
        let mut random = random.fork();
        if Instant::now() >= end {
            break;
        }
        if let Some(name) = strike_data(kind, scene, &mut random).await {
            scene.done(name, None);
        }
    }
    for name in NAMES.iter().filter(|name| name.kind == Kind::Moved) {
        scene.operator.move_limit(&scene.witness, name.name, None).await;
    }
}

/// None if there was nothing to strike.
async fn strike_data(kind: OfData, scene: &Scene, random: &mut Rng) -> Option<&'static str> {
    let (operator, witness) = (&scene.operator, &scene.witness);
    let name = random.choice(&NAMES)?.name;
    match kind {
        OfData::Kick => kick(scene, name, false, random).await,
        OfData::KickNow => kick(scene, name, true, random).await,
        OfData::LimitMoved => {
            operator.move_limit(witness, "moved", Some(random.u32(4..14))).await;
            sleep(ms(random, 200..1_500)).await;
            if random.bool() {
                operator.move_limit(witness, "moved", None).await;
            }
            Some("limit moved")
        }
        OfData::LimitZero => {
            operator.move_limit(witness, "moved", Some(0)).await;
            sleep(ms(random, 200..1_500)).await;
            operator.move_limit(witness, "moved", None).await;
            Some("limit set to 0")
        }
        OfData::Queue => {
            operator.delete(witness, name, "queue").await;
            Some("`queue` deleted")
        }
        OfData::Clients => {
            operator.delete(witness, name, "clients").await;
            Some("`clients` deleted")
        }
        OfData::Meta => {
            operator.delete(witness, name, "meta").await;
            Some("`meta` deleted")
        }
        OfData::Permits => {
            operator.delete(witness, name, "permits").await;
            Some("`permits` deleted")
        }
        OfData::Evicted => operator.evict(witness).await.then_some("keys evicted"),
    }
}

async fn kick(scene: &Scene, name: &str, at_once: bool, random: &mut Rng) -> Option<&'static str> {
    let semaphore = scene.operator.semaphore(name);
    let holders = semaphore.inspect().await.ok()?.holders;
    let id = random.choice(&holders)?.id;
    let from = monotonic_nanos();
    let told = |hit, to| {
        let kick = Kick { from, to, hit, at_once };
        scene.witness.state().kicked(name, &id.to_string(), kick);
    };
    // Told before it comes to pass: what it may end is not certain from here on.
    told(false, u64::MAX);
    let outcome = if at_once { semaphore.kick_now(id).await } else { semaphore.kick(id).await };
    let hit = matches!(outcome, Ok(KickOutcome::Marked | KickOutcome::Removed));
    told(hit, monotonic_nanos());
    hit.then_some(if at_once { "kicked at once" } else { "kicked" })
}
