//! The turn as `lua/turn.lua` reads it, sent without the driver, and the server's account of it.

use futures_util::StreamExt;
use redis::Value;
use redis::aio::MultiplexedConnection;

use test_support::redis_server::RedisServer;

/// How the calls of a measurement follow each other.
#[derive(Clone, Copy)]
pub(crate) enum Pace {
    /// The server sleeps in between, and finds its caches used by others.
    OneByOne,
    /// As on a busy server.
    BackToBack,
}

/// The lists of a turn; all of them may be empty.
pub(crate) struct Turn<'a> {
    pub(crate) client: &'a str,
    pub(crate) limit: usize,
    pub(crate) release: Vec<String>,
    pub(crate) cancel: Vec<String>,
    /// With the lease in milliseconds.
    pub(crate) renew: Vec<(String, u64)>,
    pub(crate) ask: Vec<String>,
    pub(crate) admit: Vec<String>,
}

impl<'a> Turn<'a> {
    pub(crate) fn of(client: &'a str, limit: usize) -> Self {
        Self {
            client,
            limit,
            release: Vec::new(),
            cancel: Vec::new(),
            renew: Vec::new(),
            ask: Vec::new(),
            admit: Vec::new(),
        }
    }

    /// As `lua/turn.lua` wants them. No prefilled permit was ever taken from its owner, so any
    /// token does for the releases.
    fn arguments(&self) -> Vec<String> {
        const ANY_TOKEN: &str = "9007199254740991";
        let mut arguments: Vec<String> =
            vec![self.client.to_owned(), self.limit.to_string(), "0".to_owned()];
        let mut section = |head: &[&str], words: Vec<String>, count: usize| {
            if count > 0 {
                arguments.extend([head[0].to_owned(), count.to_string()]);
                arguments.extend(head[1..].iter().map(|&word| word.to_owned()));
                arguments.extend(words);
            }
        };
        section(&["r", ANY_TOKEN], self.release.clone(), self.release.len());
        section(&["c"], self.cancel.clone(), self.cancel.len());
        for run in self.renew.chunk_by(|(_, a), (_, b)| a == b) {
            let ids = run.iter().map(|(id, _)| id.clone()).collect();
            section(&["n", &run[0].1.to_string()], ids, run.len());
        }
        let asks = self.ask.iter().flat_map(|id| [id.clone(), "0".to_owned(), "w".to_owned()]);
        section(&["q"], asks.collect(), self.ask.len());
        section(&["w"], self.admit.clone(), self.admit.len());
        arguments
    }
}

/// What matters here of the answer to a turn.
pub(crate) struct Reply {
    pub(crate) in_use: i64,
    pub(crate) waiting: i64,
    /// Whether work was left for another turn.
    pub(crate) more: bool,
}

/// One client of a server, with the turn loaded.
pub(crate) struct Script {
    pub(crate) connection: MultiplexedConnection,
    turn: String,
    bare: BareScript,
}

impl Script {
    pub(crate) async fn load(server: &RedisServer) -> Self {
        let connection = server.connection().await;
        let turn = hash_of_turn(server).await;
        let bare = BareScript::load(connection.clone()).await;
        Self { connection, turn, bare }
    }

    pub(crate) async fn run_bare(&mut self) {
        self.bare.run().await;
    }

    /// All at once, so that the server goes from one to the next.
    pub(crate) async fn run_all(&mut self, name: &str, turns: &[Option<Turn<'_>>]) {
        let mut calls = redis::pipe();
        for turn in turns {
            let call = match turn {
                Some(turn) => self.call(name, turn),
                None => self.bare.call.clone(),
            };
            calls.add_command(call).ignore();
        }
        calls.query_async::<()>(&mut self.connection).await.expect("the turns run");
    }

    fn call(&self, name: &str, turn: &Turn<'_>) -> redis::Cmd {
        let mut call = redis::cmd("EVALSHA");
        call.arg(&self.turn).arg(4).arg(&keys(name)).arg(turn.arguments());
        call
    }

    pub(crate) async fn run(&mut self, name: &str, turn: &Turn<'_>) -> Reply {
        let call = self.call(name, turn);
        let reply: Vec<Value> =
            call.query_async(&mut self.connection).await.expect("the turn runs");
        let number = |index: usize| match reply.get(index) {
            Some(Value::Int(number)) => *number,
            other => panic!("the reply has {other:?} in place {index}"),
        };
        assert_ne!(number(0), 0, "the turn counts");
        Reply { in_use: number(2), waiting: number(3), more: number(0) & 8 != 0 }
    }

    pub(crate) async fn account(&mut self) -> Account {
        Account::of(&mut self.connection).await
    }
}

/// The least that a script call can cost.
#[derive(Clone)]
pub(crate) struct BareScript {
    connection: MultiplexedConnection,
    call: redis::Cmd,
}

impl BareScript {
    /// By a connection of its own.
    pub(crate) async fn at(url: &str) -> Self {
        Self::load(connect(url).await).await
    }

    async fn load(mut connection: MultiplexedConnection) -> Self {
        let mut call = redis::cmd("EVALSHA");
        call.arg(load(&mut connection, "return 1").await).arg(0);
        Self { connection, call }
    }

    pub(crate) async fn run(&self) {
        self.call.query_async::<()>(&mut self.connection.clone()).await.expect("it runs");
    }
}

/// As the crate connects: without a timer of the redis crate for each call.
pub(crate) async fn connect(url: &str) -> MultiplexedConnection {
    let client = redis::Client::open(url).expect("the url of a server");
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    let connected = client.get_multiplexed_async_connection_with_config(&config).await;
    connected.expect("connecting")
}

pub(crate) async fn load(connection: &mut MultiplexedConnection, text: &str) -> String {
    let mut load = redis::cmd("SCRIPT");
    load.arg("LOAD").arg(text);
    load.query_async(connection).await.expect("the script compiles")
}

/// The server's account of its scripts, by `INFO commandstats`.
pub(crate) struct Account {
    pub(crate) calls: u64,
    usec: u64,
}

impl Account {
    /// What all scripts together have taken so far.
    pub(crate) async fn of(connection: &mut MultiplexedConnection) -> Self {
        let mut info = redis::cmd("INFO");
        info.arg("commandstats");
        let text: String = info.query_async(connection).await.expect("INFO");
        let line = text.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:"));
        let field = |name: &str| {
            let value = line?.split(',').find_map(|pair| pair.strip_prefix(name))?;
            value.parse().ok()
        };
        Self { calls: field("calls=").unwrap_or(0), usec: field("usec=").unwrap_or(0) }
    }

    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self { calls: self.calls - earlier.calls, usec: self.usec - earlier.usec }
    }

    pub(crate) fn usec(&self) -> f64 {
        self.usec as f64
    }

    pub(crate) fn usec_per_call(&self) -> f64 {
        self.usec as f64 / self.calls as f64
    }
}

/// The keys of a semaphore.
pub(crate) fn keys(name: &str) -> [String; 4] {
    ["permits", "queue", "clients", "meta"].map(|key| format!("zsem:{{{name}}}:{key}"))
}

/// By what hash the crate calls the turn that it has loaded, as the server sees it.
async fn hash_of_turn(server: &RedisServer) -> String {
    let url = server.url();
    let client = redis::Client::open(url.as_str()).expect("the url of a server");
    let monitor = client.get_async_monitor().await.expect("a monitor");
    let client = zset_semaphore::Client::connect(&url).await.expect("connecting");
    let semaphore = client.semaphore("hash of the turn", 1).build().expect("a semaphore");
    drop(semaphore.acquire(1).await.expect("a permit"));
    let mut seen = monitor.into_on_message::<String>();
    loop {
        let line = seen.next().await.expect("the server shows the call");
        let call = line.split_once("\"EVALSHA\" \"").and_then(|(_, words)| words.split_once('"'));
        if let Some((hash, _)) = call {
            return hash.to_owned();
        }
    }
}
