//! What the log tells of an outage. Alone in their process: with others beside it `tracing` may take
//! their lack of a subscriber for that of all.

#![cfg(all(feature = "redis", feature = "tower"))]
#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tower::{Layer, ServiceExt, service_fn};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};
use zset_semaphore::Client;
use zset_semaphore::tower::{Outage, ZSetSemaphoreLayer};

use support::redis_server::RedisServer;
use support::wait::{PATIENCE, eventually, within};

#[tokio::test]
async fn an_outage_and_its_end_are_told_by_one_line_each() {
    let lines = Lines::default();
    let _guard = tracing::subscriber::set_default(lines.clone());
    let mut server = RedisServer::start().await;
    let client = Client::connect(server.url()).await.unwrap();
    let semaphore = client.semaphore("s", 4).build().unwrap();
    let service = ZSetSemaphoreLayer::new(semaphore)
        .outage(Outage::Open)
        .away_after(Duration::from_millis(200))
        .hold_head()
        .layer(service_fn(async |()| Ok::<_, Infallible>(())));
    for outage in 1..=2 {
        within(PATIENCE, service.clone().oneshot(())).await.unwrap();
        server.kill();
        let crowd = (0..50).map(|_| within(PATIENCE, service.clone().oneshot(())));
        for end in futures_util::future::join_all(crowd).await {
            end.unwrap();
        }
        server.restart_empty().await;
        eventually("the end is told", PATIENCE, async || {
            within(PATIENCE, service.clone().oneshot(())).await.unwrap();
            lines.of(Level::INFO, "the store is back") == outage
        })
        .await;
        assert_eq!(lines.of(Level::WARN, "the store is away"), outage, "{:?}", lines.0);
        assert_eq!(lines.of(Level::WARN, "no connection"), outage, "{:?}", lines.0);
        assert_eq!(lines.of(Level::INFO, "connected again"), outage, "{:?}", lines.0);
    }
}

#[tokio::test]
async fn a_server_that_comes_back_empty_is_told_by_one_line_for_all_names() {
    let lines = Lines::default();
    let _guard = tracing::subscriber::set_default(lines.clone());
    let mut server = RedisServer::start().await;
    let client = Client::connect(server.url()).await.unwrap();
    let mut held = Vec::new();
    for nth in 0..200 {
        let semaphore = client.semaphore(format!("s-{nth}"), 2).build().unwrap();
        held.push(within(PATIENCE, semaphore.acquire(1)).await.unwrap());
    }
    let last = held.pop().unwrap();
    within(PATIENCE, last.release()).await.unwrap();
    server.kill();
    server.restart_empty().await;
    eventually("all that is held is put back", PATIENCE, async || {
        server.keys().await.iter().filter(|key| key.ends_with(":permits")).count() == held.len()
    })
    .await;
    eventually("the loss is told", PATIENCE, async || lines.of(Level::WARN, "lost its data") > 0)
        .await;
    assert_eq!(lines.of(Level::WARN, "lost its data"), 1, "{:?}", lines.0);
    assert_eq!(lines.of(Level::WARN, "semaphores=199 held=199"), 1, "{:?}", lines.0);
    assert!(held.iter().all(|permit| !permit.is_lost()));
}

/// What was logged, by level.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<(Level, String)>>>);

impl Lines {
    fn of(&self, level: Level, what: &str) -> usize {
        let lines = self.0.lock().unwrap();
        lines.iter().filter(|(at, line)| *at == level && line.contains(what)).count()
    }
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, "{field}={value:?} ");
    }
}

impl Subscriber for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().unwrap().push((*event.metadata().level(), text.0));
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}
