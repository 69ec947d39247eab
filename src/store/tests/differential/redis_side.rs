//! The Redis store: a real server whose scripts take their time from the test.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use ::redis::aio::MultiplexedConnection;
use test_support::expiry::expire_times;
use test_support::redis_server::RedisServer;

use crate::id::{ClientId, PermitId};
use crate::inspection::{Inspection, KickOutcome};
use crate::numbers::{PlaceId, ServerId};
use crate::store::memory::{Content, MetaContent};
use crate::store::redis::RedisConfig;
use crate::store::{
    Kick, Opened, Session, Store, Turn, TurnAnswer, TurnOutcome, WakeListener, WakeUp,
};
use crate::sync::lock;

use super::generator::Key;

pub(super) struct RedisSide {
    server: RedisServer,
    connection: MultiplexedConnection,
    sessions: Vec<(Arc<dyn Session>, Arc<Recorder>)>,
    name: Arc<str>,
}

/// The keys, each with its content and when it expires; 0 for never.
pub(super) type Snapshot = Vec<(String, Vec<u8>, i64)>;

#[derive(Default)]
struct Recorder {
    wake_ups: Mutex<Vec<(PermitId, WakeUp)>>,
}

impl WakeListener for Recorder {
    fn wake(&self, _: &str, id: PermitId, wake_up: WakeUp) {
        lock(&self.wake_ups).push((id, wake_up));
    }
    fn subscription_changed(&self) {}
    fn disconnected(&self) {}
    fn places_changed(&self) {}
}

impl RedisSide {
    pub(super) async fn start(clients: impl Iterator<Item = ClientId>) -> Self {
        let server = RedisServer::start().await;
        // So no session tells which server this is: the test tells.
        server.cmd(&["ACL", "SETUSER", "default", "-info"]).await;
        let connection = server.connection().await;
        let config = RedisConfig { url: server.url(), ..RedisConfig::default() };
        let store = config.store().unwrap().with_test_clock();
        let mut sessions = Vec::new();
        for client in clients {
            let recorder = Arc::new(Recorder::default());
            let Opened { session, io } =
                store.open(PlaceId::FIRST, client, recorder.clone()).await.unwrap();
            tokio::spawn(io.unwrap());
            assert!(session.is_subscribed());
            sessions.push((session, recorder));
        }
        Self { server, connection, sessions, name: "none yet".into() }
    }

    /// Changes to a new name, and drops the wake-ups of the old one.
    pub(super) async fn begin(&mut self, name: &Arc<str>) {
        self.name = Arc::clone(name);
        self.take_wake_ups().await;
    }

    pub(super) async fn set_clock(&mut self, now: u64) {
        let mut set = ::redis::cmd("SET");
        set.arg("test:clock").arg(now);
        set.query_async::<()>(&mut self.connection).await.unwrap();
    }

    pub(super) async fn set_server(&self, server: ServerId) {
        self.server.cmd(&["SET", "test:server", &server.get().to_string()]).await;
    }

    /// Copies all keys.
    pub(super) async fn snapshot(&self) -> Snapshot {
        let mut keys = Vec::new();
        let names = Key::ALL.map(|key| self.key(key));
        let times = expire_times(&mut self.connection.clone(), &names).await;
        for (key, at) in names.into_iter().zip(times) {
            let dump: Option<Vec<u8>> = self.server.query(&["DUMP", &key]).await;
            keys.extend(dump.map(|dump| (key, dump, at.max(0))));
        }
        keys
    }

    /// Puts all keys back as they were.
    pub(super) async fn roll_back(&self, snapshot: &Snapshot) {
        self.lose_all_keys().await;
        for (key, dump, at) in snapshot {
            let mut restore = ::redis::cmd("RESTORE");
            restore.arg(key).arg(at).arg(dump).arg("ABSTTL");
            restore.query_async::<()>(&mut self.connection.clone()).await.unwrap();
        }
    }

    pub(super) async fn turn(&self, client: usize, turn: &Turn) -> TurnOutcome {
        self.sessions[client].0.clone().turn(turn.clone()).await.unwrap()
    }

    /// Runs a turn whose write of this number fails, and all later ones of its kind if `for_good`. `None` if it has
    /// fewer writes.
    pub(super) async fn cut_turn(
        &self,
        client: usize,
        turn: &Turn,
        cut: usize,
        for_good: bool,
    ) -> Option<TurnAnswer> {
        self.server.cmd(&["MSET", "test:cut", &cut.to_string(), "test:writes", "0"]).await;
        if for_good {
            self.server.cmd(&["SET", "test:cut_for_good", "1"]).await;
        }
        let answer = self.sessions[client].0.clone().turn(turn.clone()).await;
        let writes: usize = self.server.query(&["GET", "test:writes"]).await;
        self.server.cmd(&["DEL", "test:cut", "test:cut_for_good", "test:writes"]).await;
        (writes >= cut).then_some(answer)
    }

    /// Returns the session of some client, for calls that are not turns.
    fn operator(&self) -> &dyn Session {
        &*self.sessions[0].0
    }

    pub(super) async fn set_limit(&self, limit: Option<u32>) {
        self.operator().set_limit(self.name.clone(), limit).await.unwrap();
    }

    pub(super) async fn kick(&self, id: PermitId, kick: Kick) -> KickOutcome {
        self.operator().kick(self.name.clone(), id, kick).await.unwrap()
    }

    pub(super) async fn inspect(&self) -> Inspection {
        self.operator().inspect(self.name.clone()).await.unwrap()
    }

    /// Returns what the keys hold. Each key that is there expires when `meta` says.
    pub(super) async fn content(&self, now: u64) -> Content {
        let (content, expires_at) = self.content_and_times(now).await;
        let Content { permits, queue, clients, meta } = &content;
        let [permits_at, queue_at, clients_at, _] = expires_at;
        for (members, at) in [(permits, permits_at), (queue, queue_at), (clients, clients_at)] {
            // A `meta` that `set_limit` made again beside waiters alone leaves their expiry to the next turn.
            if let Some(meta) = meta.as_ref().filter(|meta| meta.ttl > 0 && !members.is_empty()) {
                assert_eq!(u64::try_from(at), Ok(meta.ttl), "{members:?}");
            }
        }
        content
    }

    /// Returns what the keys hold, and when each expires.
    pub(super) async fn content_and_times(&self, now: u64) -> (Content, [i64; 4]) {
        let mut all = ::redis::pipe();
        for key in [Key::Permits, Key::Queue, Key::Clients] {
            all.cmd("ZRANGE").arg(self.key(key)).arg(0).arg(-1).arg("WITHSCORES");
        }
        all.cmd("HGETALL").arg(self.key(Key::Meta));
        type Members = Vec<(String, f64)>;
        type Reply = (Members, Members, Members, HashMap<String, Vec<u8>>);
        let mut connection = self.connection.clone();
        let (permits, queue, clients, meta): Reply =
            all.query_async(&mut connection).await.unwrap();
        let keys = Key::ALL.map(|key| self.key(key));
        let times = expire_times(&mut connection, &keys).await;
        let meta = meta_content(&meta, u64::try_from(times[3]).ok(), now / 1000);
        (Content { permits, queue, clients, meta }, times)
    }

    pub(super) async fn lose(&self, key: Key) {
        self.server.cmd(&["DEL", &self.key(key)]).await;
        if matches!(key, Key::Meta) {
            // The memory store keeps in `meta` when the other keys expire.
            for key in [Key::Permits, Key::Queue, Key::Clients] {
                self.server.cmd(&["PERSIST", &self.key(key)]).await;
            }
        }
    }

    pub(super) async fn lose_all_keys(&self) {
        for key in Key::ALL {
            self.server.cmd(&["DEL", &self.key(key)]).await;
        }
    }

    /// Returns the wake-ups of each client since the last call. An answer on the same connection
    /// comes after all pushes on it.
    pub(super) async fn take_wake_ups(&self) -> Vec<Vec<(PermitId, WakeUp)>> {
        let mut wake_ups = Vec::new();
        for (session, recorder) in &self.sessions {
            session.inspect("nobody".into()).await.unwrap();
            wake_ups.push(std::mem::take(&mut *lock(&recorder.wake_ups)));
        }
        wake_ups
    }

    fn key(&self, key: Key) -> String {
        let key = match key {
            Key::Permits => "permits",
            Key::Queue => "queue",
            Key::Clients => "clients",
            Key::Meta => "meta",
        };
        format!("zsem:{{{}}}:{key}", self.name)
    }
}

/// Reads the fields of `meta`: the packed state, and one or two for each client.
fn meta_content(
    meta: &HashMap<String, Vec<u8>>,
    expires: Option<u64>,
    now_ms: u64,
) -> Option<MetaContent> {
    let state = meta.get("state")?;
    let double = |bytes: &[u8], nth: usize| {
        f64::from_le_bytes(bytes[8 * nth..][..8].try_into().unwrap()) as i64
    };
    let number = |nth| double(&state[3..], nth);
    let whole = |nth| u64::try_from(number(nth)).unwrap();
    let server = meta.get("server").map(|server| {
        assert_eq!(server.len(), 32);
        [0, 1, 2, 3].map(|nth| u64::try_from(double(server, nth)).unwrap())
    });
    let others = meta.iter().filter(|&(name, _)| name != "state" && name != "server");
    let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).unwrap();
    let mut fields: Vec<_> = others.map(|(name, value)| (name.clone(), text(value))).collect();
    fields.sort();
    Some(MetaContent {
        incarnation: whole(0),
        last: whole(1),
        extra: whole(2),
        ttl: whole(3),
        limit_override: u32::try_from(number(4)).ok(),
        expires,
        // The flag stays until a turn looks at the clock.
        grace: state[2] == 1 && server.is_some_and(|[.., ends]| ends > now_ms),
        server,
        fields,
    })
}
