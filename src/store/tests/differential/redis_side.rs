//! The Redis store: a real server whose scripts take their time from the test.

use std::sync::{Arc, Mutex};

use ::redis::aio::MultiplexedConnection;
use test_support::redis_server::RedisServer;

use crate::id::{ClientId, PermitId};
use crate::inspection::{Inspection, KickOutcome};
use crate::store::redis::RedisConfig;
use crate::store::{Kick, Opened, Session, Store, Turn, TurnOutcome, WakeListener, WakeUp};
use crate::sync::lock;

use super::generator::Key;

pub(super) struct RedisSide {
    server: RedisServer,
    connection: MultiplexedConnection,
    sessions: Vec<(Arc<dyn Session>, Arc<Recorder>)>,
    name: Arc<str>,
}

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
}

impl RedisSide {
    pub(super) async fn start(clients: impl Iterator<Item = ClientId>) -> Self {
        let server = RedisServer::start().await;
        let connection = server.connection().await;
        let config = RedisConfig { url: server.url(), ..RedisConfig::default() };
        let store = config.store().unwrap().with_test_clock();
        let mut sessions = Vec::new();
        for client in clients {
            let recorder = Arc::new(Recorder::default());
            let Opened { session, io } = store.open(client, recorder.clone()).await.unwrap();
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

    pub(super) async fn turn(&self, client: usize, turn: &Turn) -> TurnOutcome {
        self.sessions[client].0.clone().turn(turn.clone()).await.unwrap()
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

    /// Returns how many clients are known, and how many fields `meta` has of clients.
    pub(super) async fn known_clients(&self) -> (usize, usize) {
        let clients = self.server.query(&["ZCARD", &self.key(Key::Clients)]).await;
        let fields: Vec<String> = self.server.query(&["HKEYS", &self.key(Key::Meta)]).await;
        let of_client = |field: &&String| field.len() == 16 || field.starts_with("l:");
        (clients, fields.iter().filter(of_client).count())
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
