//! What is logged: a line for permits that were lost, two for an outage, and none for what goes well.

use std::time::Duration;

use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually, within};
use tracing::Level;
use zset_semaphore::{Client, LostReason, MemoryStore, Permit, Renew};

use crate::common::log::Log;
use crate::common::stores::Place;

const LOST: &str = "permits were lost";

fn warnings() -> (Log, tracing::subscriber::DefaultGuard) {
    Log::of_this_thread(|metadata| *metadata.level() <= Level::INFO)
}

async fn short_lived(client: &Client, name: &str) -> Permit {
    let lease = Duration::from_millis(300);
    let semaphore = client.semaphore(name, 9).lease(lease).renew(Renew::Manual).build().unwrap();
    semaphore.acquire(1).await.unwrap()
}

#[tokio::test]
async fn permits_that_are_lost_together_make_one_line_with_number_reasons_and_the_oldest() {
    for place in Place::each().await {
        let client = place.client();
        let (log, _guard) = warnings();
        let kept = client.semaphore("kept", 9).build().unwrap();
        let (oldest, _held) = (kept.acquire(1).await.unwrap(), kept.acquire(1).await.unwrap());
        let short = [short_lived(&client, "a").await, short_lived(&client, "b").await];
        for permit in &short {
            assert_eq!(within(PATIENCE, permit.lost()).await, LostReason::Expired);
        }
        kept.kick(oldest.id()).await.unwrap();
        assert_eq!(within(PATIENCE, oldest.lost()).await, LostReason::Kicked);
        eventually("the loss is logged", PATIENCE, async || log.count(Level::WARN, LOST) > 0).await;
        let lines = log.take();
        let [(Level::WARN, line)] = &lines[..] else { panic!("{lines:?}") };
        let token = format!("token={}", oldest.fencing_token());
        let id = format!("oldest={}", oldest.id());
        for part in ["permits=3", "2: its lease ended", "1: it was kicked", &id, &token, "\"kept\""]
        {
            assert!(line.contains(part), "{part} is not in {line}");
        }
        // They are told once.
        drop((oldest, short));
        client.shutdown_now().await.unwrap();
        eventually("the end is logged", PATIENCE, async || log.count(Level::WARN, LOST) > 0).await;
        let lines = log.take();
        assert!(
            lines.len() == 1 && lines[0].1.contains("1: the client was shut down"),
            "{lines:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn losses_that_go_on_are_told_every_five_seconds() {
    let client = Client::with_memory(&MemoryStore::new());
    let (log, _guard) = warnings();
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(short_lived(&client, "a").await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    tokio::time::sleep(Duration::from_secs(6)).await;
    let lines = log.take();
    assert!((4..=5).contains(&lines.len()), "20 s of losses: {lines:?}");
    let told = lines.iter().map(|(_, line)| {
        let (_, rest) = line.split_once("permits=").unwrap();
        rest.split(' ').next().unwrap().parse::<usize>().unwrap()
    });
    assert_eq!(told.sum::<usize>(), 100);
}

#[tokio::test]
async fn an_outage_that_takes_permits_is_three_lines_and_what_goes_well_is_none() {
    let mut server = RedisServer::start().await;
    let (log, _guard) = warnings();
    let client = Client::open(server.url()).unwrap();
    let lease = Duration::from_millis(600);
    let jobs = client.semaphore("jobs", 4).lease(lease).build().unwrap();
    for _ in 0..10_000 {
        jobs.acquire(1).await.unwrap().release().await.unwrap();
    }
    assert_eq!(log.take(), []);
    let permits = [jobs.acquire(1).await.unwrap(), jobs.acquire(1).await.unwrap()];
    server.kill();
    for permit in &permits {
        assert_eq!(within(PATIENCE, permit.lost()).await, LostReason::RenewalTimeout);
    }
    eventually("the loss is logged", PATIENCE, async || log.count(Level::WARN, LOST) > 0).await;
    server.restart().await;
    drop(within(PATIENCE, jobs.acquire(1)).await.unwrap());
    eventually("the end is logged", PATIENCE, async || log.count(Level::INFO, "again") > 0).await;
    let lines = log.take();
    assert_eq!(lines.len(), 3, "{lines:?}");
    for (level, text) in [(Level::WARN, "no connection"), (Level::WARN, LOST)] {
        assert!(lines.iter().any(|(at, line)| *at == level && line.contains(text)), "{lines:?}");
    }
}
