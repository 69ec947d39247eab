//! Data of a newer schema: each script refuses it, and writes nothing.

use std::sync::Arc;

use super::deaf::Deaf;
use crate::error::{StoreError, StoreErrorKind};
use crate::id::{ClientId, DEFAULT_LEASE, PermitId};
use crate::numbers::{Epoch, PlaceId};
use crate::store::redis::RedisConfig;
use crate::store::{Kick, Opened, Store, Turn, WhenFull};
use test_support::expiry::expire_times;
use test_support::redis_server::RedisServer;

const KEYS: [&str; 4] = ["permits", "queue", "clients", "meta"];

fn id(counter: u64) -> PermitId {
    PermitId::new(ClientId::from_bits(255), counter, 1, DEFAULT_LEASE)
}

/// A turn with the limit 1.
fn turn(change: impl FnOnce(&mut Turn)) -> Turn {
    let mut turn = Turn::new("s".into(), ClientId::from_bits(255), "".into(), 1);
    turn.declares = true;
    change(&mut turn);
    turn
}

async fn dumps(server: &RedisServer) -> Vec<(Option<Vec<u8>>, i64)> {
    let keys = KEYS.map(|key| format!("zsem:{{s}}:{key}"));
    let times = expire_times(&mut server.connection().await, &keys).await;
    let mut dumps = Vec::new();
    for (key, at) in keys.iter().zip(times) {
        dumps.push((server.query(&["DUMP", key]).await, at));
    }
    dumps
}

fn assert_newer<T>(outcome: Result<T, StoreError>, call: &str) {
    let Err(error) = outcome else { panic!("{call} takes data of a newer schema") };
    assert_eq!(error.kind(), StoreErrorKind::NewerSchema, "{error}");
    assert!(error.is_final());
    let text = error.to_string();
    for part in ["schema 2", "knows 1", "upgrade"] {
        assert!(text.contains(part), "{call}: {text}");
    }
}

#[tokio::test]
async fn each_script_refuses_data_of_a_newer_schema_and_changes_no_key() {
    let server = RedisServer::start().await;
    let config = RedisConfig { url: server.url(), ..RedisConfig::default() };
    let store = config.store().unwrap();
    let opened =
        store.open(PlaceId::FIRST, ClientId::from_bits(255), Arc::new(Deaf)).await.unwrap();
    let Opened { session, io } = opened;
    tokio::spawn(io.unwrap());
    let admit = |counter| turn(|turn| turn.admit = vec![(id(counter), WhenFull::Wait)]);
    session.clone().turn(admit(1)).await.unwrap();
    session.clone().turn(admit(2)).await.unwrap();
    let meta = "zsem:{s}:meta";
    let mut state: Vec<u8> = server.query(&["HGET", meta, "state"]).await;
    assert_eq!(state[0], 1, "the schema is the first byte");
    state[0] = 2;
    let mut newer = ::redis::cmd("HSET");
    newer.arg(meta).arg("state").arg(state);
    newer.query_async::<()>(&mut server.connection().await).await.unwrap();

    let before = dumps(&server).await;
    assert!(before.iter().all(|(dump, _)| dump.is_some()));
    let name: Arc<str> = "s".into();
    for (call, turn) in [
        ("a silent turn", turn(|_| {})),
        ("a release", turn(|turn| turn.release = vec![id(1)])),
        ("an acquire", admit(3)),
        ("a renewal", turn(|turn| turn.renew = vec![(id(1), DEFAULT_LEASE)])),
        ("a higher epoch", turn(|turn| turn.epoch = Epoch::new(9))),
    ] {
        assert_newer(session.clone().turn(turn).await, call);
    }
    assert_newer(session.set_limit(name.clone(), Some(5)).await, "set_limit");
    assert_newer(session.set_limit(name.clone(), None).await, "clear_limit");
    assert_newer(session.kick(name.clone(), id(1), Kick::Mark).await, "kick");
    assert_newer(session.kick(name.clone(), id(1), Kick::Remove).await, "kick_now");
    assert_newer(session.inspect(name.clone()).await, "inspect");
    assert_eq!(dumps(&server).await, before);
}
