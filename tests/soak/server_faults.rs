//! Faults of the server, and of all its connections.

use fastrand::Rng;
use tokio::time::{Instant, sleep};

use crate::operator::loss_since;
use crate::scene::{Deck, Scene, ms};
use test_support::ledger::monotonic_nanos;
use test_support::redis_server::RedisServer;

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
            let names = scene.witness.state().names();
            for name in &names {
                let loss = loss_since(from);
                scene.witness.state().lost(name, loss);
            }
            name
        }
    }
}
