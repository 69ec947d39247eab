//! What is traced, and how little is logged.

use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually, ms, within};
use tracing::Level;
use zset_semaphore::metrics::CONNECTS_TOTAL;
use zset_semaphore::{AcquireError, Client, Renew};

use crate::common::connect::connect;
use crate::common::inspect::{queue, queued};
use crate::common::log::{Log, SeenSpan};
use crate::common::recorder::Record;
use crate::common::stores::Place;

fn named(log: &Log, name: &str) -> Vec<SeenSpan> {
    log.spans().into_iter().filter(|span| span.name == name).collect()
}

fn assert_has(span: &SeenSpan, fields: &[&str]) {
    for field in fields {
        assert!(span.fields.contains(field), "no {field} in {span:?}");
    }
}

#[tokio::test]
async fn a_wait_is_a_span_at_debug_that_ends_with_it_and_tells_how() {
    for place in Place::each().await {
        let (log, _guard) = Log::of_this_thread(|metadata| *metadata.level() <= Level::DEBUG);
        let jobs = place.client().semaphore("jobs", 2).build().unwrap();
        let held = within(PATIENCE, jobs.acquire(2)).await.unwrap();
        let brief = jobs.acquire(1).timeout(ms(30)).await;
        assert!(matches!(brief, Err(AcquireError::Timeout { .. })));
        drop(jobs.acquire(1)); // never polled
        let waiting = queue(&jobs, jobs.acquire(1)).await;
        assert!(!named(&log, "acquire")[2].closed);
        waiting.abort();
        queued(&jobs, 0).await;
        drop(held);
        let spans = named(&log, "acquire");
        let [granted, timeout, cancelled] = &spans[..] else { panic!("{spans:?}") };
        for span in &spans {
            assert!(span.closed && span.level == Level::DEBUG, "{span:?}");
            assert!(span.entered > 0, "each poll is inside: {span:?}");
            assert_has(span, &["semaphore=\"jobs\""]);
        }
        assert_has(granted, &["units=2", "outcome=\"granted\""]);
        assert_has(timeout, &["units=1", "outcome=\"timeout\""]);
        assert_has(cancelled, &["outcome=\"cancelled\""]);
        assert!(named(&log, "turn").is_empty(), "that is TRACE");
    }
}

#[tokio::test]
async fn a_turn_is_a_span_at_trace_with_the_fields_of_a_call_to_a_database() {
    let server = RedisServer::start().await;
    let (log, _guard) = Log::of_this_thread(|metadata| *metadata.level() <= Level::TRACE);
    let jobs = connect(server.url()).await.semaphore("jobs", 2).build().unwrap();
    within(PATIENCE, jobs.acquire(1)).await.unwrap().release().await.unwrap();
    let spans = named(&log, "turn");
    assert_eq!(spans.len(), 2, "{spans:?}");
    let (port, address) = (server.addr().port(), server.addr().ip());
    for span in &spans {
        assert!(span.closed && span.level == Level::TRACE, "{span:?}");
        let address = format!("server.address=\"{address}\"");
        assert_has(span, &["db.system.name=\"redis\"", "db.operation.name=\"EVALSHA\"", &address]);
        assert_has(span, &[&format!("server.port={port} "), "otel.kind=\"client\""]);
        assert_has(span, &["semaphore=\"jobs\"", "ids=1 ", "outcome=\"answered\""]);
        let (_, procedure) = span.fields.split_once("db.stored_procedure.name=\"").unwrap();
        let known: Vec<u8> = server.query(&["SCRIPT", "EXISTS", &procedure[..40]]).await;
        assert_eq!(known, [1], "{span:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_turn_in_memory_is_a_span_without_a_database() {
    let (log, _guard) = Log::of_this_thread(|metadata| *metadata.level() <= Level::TRACE);
    let jobs = Client::in_memory().semaphore("jobs", 2).build().unwrap();
    drop(jobs.acquire(1).await.unwrap());
    let spans = named(&log, "turn");
    assert_eq!(spans.len(), 2, "{spans:?}");
    for span in &spans {
        assert!(span.closed && !span.fields.contains("db."), "{span:?}");
        assert_has(span, &["ids=1 ", "outcome=\"answered\""]);
    }
}

#[tokio::test]
async fn ten_thousand_pairs_log_nothing_at_info() {
    for place in Place::each().await {
        let (log, _guard) = Log::of_this_thread(|metadata| *metadata.level() <= Level::INFO);
        let jobs = place.client().semaphore("jobs", 4).build().unwrap();
        for _ in 0..10_000 {
            jobs.acquire(1).await.unwrap().release().await.unwrap();
        }
        assert_eq!((log.take(), log.spans().len()), (Vec::new(), 0));
    }
}

#[tokio::test]
async fn an_outage_without_a_loss_is_two_lines_at_info() {
    let mut server = RedisServer::start().await;
    let (record, _recorder) = Record::of_this_thread();
    let client = connect(server.url()).await;
    let jobs = client.semaphore("jobs", 4).build().unwrap();
    let (log, _guard) = Log::of_this_thread(|metadata| *metadata.level() <= Level::INFO);
    for _ in 0..3 {
        drop(within(PATIENCE, jobs.acquire(1)).await.unwrap());
    }
    server.kill();
    eventually("several attempts have failed", PATIENCE, async || {
        record.counts(CONNECTS_TOTAL).get("failed") >= Some(&3)
    })
    .await;
    let waiting = tokio::spawn(jobs.acquire(1));
    server.restart().await;
    let permit = within(PATIENCE, waiting).await.unwrap().unwrap();
    permit.release().await.unwrap();
    let lines = log.take();
    let [(Level::WARN, began), (Level::INFO, ended)] = &lines[..] else { panic!("{lines:?}") };
    assert!(began.contains("no connection") && ended.contains("connected again"), "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn a_loss_is_one_line_at_info() {
    let (log, _guard) = Log::of_this_thread(|metadata| *metadata.level() <= Level::INFO);
    let builder = Client::in_memory().semaphore("jobs", 9);
    let jobs = builder.lease(ms(100)).renew(Renew::Manual).build().unwrap();
    let permits = [jobs.acquire(1).await.unwrap(), jobs.acquire(1).await.unwrap()];
    for permit in &permits {
        permit.lost().await;
    }
    tokio::time::sleep(ms(10_000)).await;
    let lines = log.take();
    assert!(
        matches!(&lines[..], [(Level::WARN, line)] if line.contains("permits were lost")),
        "{lines:?}"
    );
}
