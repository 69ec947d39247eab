//! Turns as the crate itself sends them, recorded and sent again: what they say follows the crate, and the
//! driver is not in the way of the measurement.
//!
//! They meet the very keys that they met at first, since the script works differently on younger data.

use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use tokio::task::JoinSet;
use zset_semaphore::{Client, Permit, ZSetSemaphore};

use crate::monitor::{Monitor, Sent};
use crate::script::{Account, Pace, keys};
use test_support::redis_server::RedisServer;
use test_support::wait::eventually;

/// How often a recording does what it measures.
pub(crate) const ACTS: usize = 40;
const PATIENCE: Duration = Duration::from_secs(10);

/// What a caller does; each act makes one turn.
#[derive(Clone, Copy)]
pub(crate) enum Act {
    Acquire,
    Release,
    /// The first acquire of a name that nobody has used.
    FirstAcquire,
    /// A release that grants to the waiter of another client.
    HandOver,
}

impl Act {
    pub(crate) const ALL: [Self; 4] =
        [Self::Acquire, Self::Release, Self::FirstAcquire, Self::HandOver];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Acquire => "acquire one",
            Self::Release => "release one",
            Self::FirstAcquire => "acquire one, the first of its name",
            Self::HandOver => "release one, which grants to another client",
        }
    }

    /// On an empty server. Leases and signs of life are young when it returns.
    pub(crate) async fn record(self, server: &RedisServer) -> Recording {
        server.cmd(&["FLUSHALL"]).await;
        let client = Client::connect(server.url()).await.expect("connecting");
        let mut recorder = Recorder { server, monitor: Monitor::start(server).await };
        let recording = match self {
            Self::Acquire => acquires(&client, &mut recorder).await,
            Self::Release => releases(&client, &mut recorder).await,
            Self::FirstAcquire => first_acquires(&client, &mut recorder).await,
            Self::HandOver => hand_overs(&client, &mut recorder).await,
        };
        client.shutdown_now().await.expect("the server answers");
        recording
    }
}

struct Recorder<'a> {
    server: &'a RedisServer,
    monitor: Monitor<'a>,
}

impl Recorder<'_> {
    /// What `acts` makes clients send, and the keys that it meets.
    async fn record(&mut self, acts: impl Future<Output = ()>) -> (Keys, Vec<Sent>) {
        self.monitor.scripts().await;
        let keys = Keys::of(self.server).await;
        acts.await;
        (keys, self.monitor.scripts().await)
    }
}

/// The calls of one act, and the keys that they met.
pub(crate) struct Recording {
    keys: Keys,
    calls: Vec<redis::Cmd>,
}

impl Recording {
    fn new((keys, sent): (Keys, Vec<Sent>)) -> Self {
        let call = |sent: &Sent| {
            let mut call = redis::Cmd::new();
            call.arg(&sent.words);
            call
        };
        Self { keys, calls: sent.iter().map(call).collect() }
    }

    /// Microseconds of the server per act, all its calls together.
    pub(crate) async fn replay(&self, connection: &mut MultiplexedConnection, pace: Pace) -> f64 {
        self.keys.restore(connection).await;
        let before = Account::of(connection).await;
        match pace {
            Pace::BackToBack => {
                let mut pipeline = redis::pipe();
                for call in &self.calls {
                    pipeline.add_command(call.clone()).ignore();
                }
                pipeline.query_async::<()>(connection).await.expect("the turns run");
            }
            Pace::OneByOne => {
                for call in &self.calls {
                    call.query_async::<()>(connection).await.expect("the turn runs");
                }
            }
        }
        Account::of(connection).await.since(&before).usec() / ACTS as f64
    }
}

/// All keys of a server, as they were.
struct Keys(Vec<Key>);

struct Key {
    name: String,
    /// In milliseconds of the server's clock; 0 for never.
    expires_at: i64,
    dump: Vec<u8>,
}

impl Keys {
    async fn of(server: &RedisServer) -> Self {
        let mut keys = Vec::new();
        for name in server.keys().await {
            let expires_at: i64 = server.query(&["PEXPIRETIME", &name]).await;
            let dump = server.query(&["DUMP", &name]).await;
            keys.push(Key { name, expires_at: expires_at.max(0), dump });
        }
        Self(keys)
    }

    /// Removes all others.
    async fn restore(&self, connection: &mut MultiplexedConnection) {
        let mut restore = redis::pipe();
        restore.cmd("FLUSHALL").ignore();
        for Key { name, expires_at, dump } in &self.0 {
            restore.cmd("RESTORE").arg(name).arg(expires_at).arg(dump).arg("ABSTTL").ignore();
        }
        restore.query_async::<()>(connection).await.expect("restoring what was dumped");
    }
}

/// One who hears all wake-ups, as the waiter's client did.
pub(crate) async fn listener(server: &RedisServer) -> PubSub {
    let client = redis::Client::open(server.unix_url()).expect("the url of a server");
    let mut listener = client.get_async_pubsub().await.expect("connecting");
    listener.psubscribe("*").await.expect("subscribing");
    listener
}

async fn acquires(client: &Client, recorder: &mut Recorder<'_>) -> Recording {
    let semaphore = semaphore(client, "acquires", 1000);
    warm_up(&semaphore).await;
    let mut permits = Vec::new();
    Recording::new(recorder.record(async { permits = take(&semaphore).await }).await)
}

async fn releases(client: &Client, recorder: &mut Recorder<'_>) -> Recording {
    let semaphore = semaphore(client, "releases", 1000);
    warm_up(&semaphore).await;
    let permits = take(&semaphore).await;
    Recording::new(recorder.record(give_back(permits)).await)
}

async fn first_acquires(client: &Client, recorder: &mut Recorder<'_>) -> Recording {
    let mut permits = Vec::new();
    let acts = async {
        for name in 0..ACTS {
            let semaphore = semaphore(client, &format!("first-acquire-{name}"), 1000);
            permits.push(semaphore.acquire(1).await.expect("nobody else is there"));
        }
    };
    Recording::new(recorder.record(acts).await)
}

/// All units are held by one client, and as many waiters of another one wait.
async fn hand_overs(holder: &Client, recorder: &mut Recorder<'_>) -> Recording {
    const NAME: &str = "hand-overs";
    let all = u32::try_from(ACTS).expect("a few");
    let permits = take(&semaphore(holder, NAME, all)).await;
    let sent = recorder.monitor.scripts().await;
    let address = sent.first().expect("an acquire makes a turn").by.clone();

    let server = recorder.server;
    let waiter = Client::connect(server.url()).await.expect("connecting");
    let wanted = semaphore(&waiter, NAME, all);
    let mut waits = JoinSet::new();
    for _ in 0..ACTS {
        waits.spawn(wanted.acquire(1));
    }
    let [_, queue, ..] = keys(NAME);
    eventually("all wait", PATIENCE, async || {
        server.query::<usize>(&["ZCARD", &queue]).await == ACTS
    })
    .await;

    let (keys, mut sent) = recorder.record(give_back(permits)).await;
    // The waiter's client answers its grants in between.
    sent.retain(|sent| sent.by == address);
    while waits.join_next().await.is_some() {}
    waiter.shutdown_now().await.expect("the server answers");
    Recording::new((keys, sent))
}

fn semaphore(client: &Client, name: &str, limit: u32) -> ZSetSemaphore {
    client.semaphore(name, limit).build().expect("a valid name")
}

/// What a client says of itself is said then.
async fn warm_up(semaphore: &ZSetSemaphore) {
    let permit = semaphore.acquire(1).await.expect("nobody else is there");
    permit.release().await.expect("the server answers");
}

async fn take(semaphore: &ZSetSemaphore) -> Vec<Permit> {
    let mut permits = Vec::with_capacity(ACTS);
    for _ in 0..ACTS {
        permits.push(semaphore.acquire(1).await.expect("there is room for all"));
    }
    permits
}

async fn give_back(permits: Vec<Permit>) {
    for permit in permits {
        permit.release().await.expect("the server answers");
    }
}
