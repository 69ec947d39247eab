//! A server that has forgotten the scripts.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join3};

use super::deaf::Deaf;
use crate::id::{ClientId, DEFAULT_LEASE, PermitId};
use crate::numbers::{PlaceId, Seq};
use crate::store::redis::RedisConfig;
use crate::store::{Session, Store, Turn, TurnAnswer, TurnOutcome, WaiterOutcome, WhenFull};
use test_support::fault_proxy::FaultProxy;
use test_support::redis_server::RedisServer;
use test_support::server_program;
use test_support::wait::{PATIENCE, eventually};

fn client() -> ClientId {
    ClientId::from_bits(255)
}

const NAMES: usize = 32;

async fn open(url: String) -> Arc<dyn Session> {
    let store = RedisConfig { url, ..RedisConfig::default() }.store().unwrap();
    let opened = store.open(PlaceId::FIRST, client(), Arc::new(Deaf)).await.unwrap();
    tokio::spawn(opened.io.unwrap());
    opened.session
}

/// A turn that admits one newcomer.
fn admit(name: usize, counter: u64) -> Turn {
    let mut turn = Turn::new(format!("s{name}").into(), client(), "".into(), 9);
    turn.admit = vec![(PermitId::new(client(), counter, 1, DEFAULT_LEASE), WhenFull::Wait)];
    turn
}

/// One turn about each name.
fn admit_to_all(counter: u64) -> Vec<Turn> {
    (0..NAMES).map(|name| admit(name, counter)).collect()
}

fn token(answer: &TurnAnswer) -> Seq {
    match answer {
        Ok(TurnOutcome::Answered(reply)) => match reply.admitted[..] {
            [WaiterOutcome::Granted { token, earlier: false }] => token,
            ref other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// Makes the server forget the scripts, and what it has counted.
async fn forget(server: &RedisServer) {
    server.cmd(&["SCRIPT", "FLUSH"]).await;
    server.reset_stats().await;
}

// Behaviour 76
#[tokio::test]
async fn turns_that_find_no_script_run_once_each_and_in_their_order() {
    let server = RedisServer::start().await;
    let session = open(server.url()).await;
    forget(&server).await;
    let turns = |counter| session.clone().turns(admit_to_all(counter));
    let (first, second, third) = join3(turns(1), turns(2), turns(3)).await;
    for ((first, second), third) in first.iter().zip(&second).zip(&third) {
        assert!(token(first) < token(second) && token(second) < token(third));
    }
    assert_eq!(server.script_loads().await, 1);
    let turns = 3 * NAMES as u64;
    assert_eq!(server.script_calls_that_ran().await, turns);
    // Each turn twice; and one call before the load, whether the script is still missing.
    assert_eq!(server.script_calls().await, 2 * turns + 1);
}

// Behaviour 76
#[tokio::test]
async fn a_turn_does_not_overtake_those_that_wait_for_the_script() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let session = open(proxy.url()).await;
    forget(&server).await;
    // So that the script is there for a while before the client knows.
    proxy.delay_replies(Duration::from_millis(100));
    let later = async {
        eventually("it is loaded", PATIENCE, async || server.script_loads().await == 1).await;
        session.clone().turn(admit(0, 2)).await
    };
    let (first, second) = join(session.clone().turn(admit(0, 1)), later).await;
    assert!(token(&first) < token(&second), "{first:?} {second:?}");
}

// Behaviour 76
#[tokio::test]
async fn a_script_that_another_client_has_loaded_meanwhile_is_not_loaded_again() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let (late, other) = (open(proxy.url()).await, open(server.url()).await);
    forget(&server).await;
    // The other client loads the script before this one may ask for it again.
    proxy.delay_replies(Duration::from_millis(500));
    let others_first = async {
        eventually("it is missing", PATIENCE, async || server.script_calls().await == 1).await;
        proxy.hold_requests();
        token(&other.clone().turn(admit(0, 2)).await);
        proxy.delay_replies(Duration::ZERO);
        proxy.pass();
    };
    let (answer, ()) = join(late.clone().turn(admit(0, 1)), others_first).await;
    token(&answer);
    assert_eq!(server.script_loads().await, 1);
}

// Behaviour 76
#[tokio::test]
async fn a_script_that_goes_missing_again_is_loaded_again() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let session = open(proxy.url()).await;
    forget(&server).await;
    proxy.delay_replies(Duration::from_millis(500));
    let forgotten_again = async {
        eventually("it is loaded", PATIENCE, async || server.script_loads().await == 1).await;
        server.cmd(&["SCRIPT", "FLUSH"]).await;
    };
    let (answer, ()) = join(session.clone().turns(admit_to_all(1)), forgotten_again).await;
    for answer in &answer {
        token(answer);
    }
    // Redis 6.2 counts the flush among them.
    let flushes = u64::from(server_program::major_version() < 7);
    assert_eq!(server.script_loads().await, 2 + flushes);
    assert_eq!(server.script_calls_that_ran().await, NAMES as u64);
}

#[tokio::test]
async fn each_script_is_loaded_when_it_is_called_and_missing() {
    let server = RedisServer::start().await;
    let session = open(server.url()).await;
    let name: Arc<str> = "s0".into();
    for _ in 0..2 {
        session.set_limit(name.clone(), Some(3)).await.unwrap();
        session.inspect(name.clone()).await.unwrap();
        token(&session.clone().turn(admit(0, 1)).await);
    }
    assert_eq!(server.script_loads().await, 3);
}
