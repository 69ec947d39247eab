//! How many are let in: the limit, who shares it, how large it may be, and what a name may be.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::common::inspect::emptied;
use crate::common::stores::Place;
use futures_util::future::join_all;
use test_support::ledger::{Ledger, Reporter};
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually, within};
use tokio::sync::Barrier;
use zset_semaphore::{AcquireError, Client, TryAcquireError, ZSetSemaphore};

fn semaphore(client: &Client, name: &str, limit: u32) -> ZSetSemaphore {
    client.semaphore(name, limit).build().unwrap()
}

// Behaviour 1
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_on_many_connections_never_pass_the_limit_and_reach_it_exactly() {
    const LIMIT: u32 = 7;
    const CLIENTS: usize = 8;
    const TASKS: usize = 12;
    for place in Place::each().await {
        let ledger = Ledger::start();
        let reporter = Reporter::connect(&ledger.address());
        let semaphores: Vec<_> =
            (0..CLIENTS).map(|_| semaphore(&place.client(), "crowd", LIMIT)).collect();
        let mut tasks = Vec::new();
        for (client, semaphore) in semaphores.iter().enumerate() {
            for task in 0..TASKS {
                let (semaphore, reporter) = (semaphore.clone(), reporter.clone());
                tasks.push(tokio::spawn(async move {
                    for round in 0..12 {
                        let units = 1 + u32::from((client + task + round) % 5 == 0);
                        let holder = format!("{client}/{task}/{round}");
                        let permit = semaphore.acquire(units).await.unwrap();
                        reporter.enter(&holder, units);
                        tokio::task::yield_now().await;
                        if round % 3 == 0 {
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        }
                        reporter.leave(&holder);
                        drop(permit);
                    }
                }));
            }
        }
        for task in tasks {
            within(PATIENCE * 6, task).await.unwrap();
        }
        ledger.assert_never_over(LIMIT);
        assert_eq!(ledger.overlap().units, u64::from(LIMIT), "the peak falls short of the limit");
        assert_eq!(ledger.holds().len(), CLIENTS * TASKS * 12);
        emptied(&semaphores[0]).await;
    }
}

// Behaviour 49
#[tokio::test]
async fn one_handle_shared_by_many_tasks_counts_every_permit_of_theirs() {
    for place in Place::each().await {
        let shared = semaphore(&place.client(), "shared", 32);
        let all_hold = Arc::new(Barrier::new(33));
        let tasks: Vec<_> = (0..32)
            .map(|_| {
                let (shared, all_hold) = (shared.clone(), Arc::clone(&all_hold));
                tokio::spawn(async move {
                    let permit = shared.acquire(1).await.unwrap();
                    all_hold.wait().await;
                    all_hold.wait().await;
                    permit.id()
                })
            })
            .collect();
        within(PATIENCE, all_hold.wait()).await;
        let books = shared.inspect().await.unwrap();
        assert_eq!((books.in_use, books.holders_total), (32, 32));
        let full = shared.try_acquire(1).await.unwrap_err();
        assert!(matches!(full, TryAcquireError::Full { in_use: 32, limit: 32, .. }), "{full:?}");
        within(PATIENCE, all_hold.wait()).await;
        let ids: HashSet<_> = join_all(tasks).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(ids.len(), 32);
        emptied(&shared).await;
    }
}

// Behaviour 2
#[tokio::test]
async fn two_handles_of_one_name_share_the_count_within_and_across_clients() {
    for place in Place::each().await {
        let client = place.client();
        let one = semaphore(&client, "jobs", 3);
        let two = semaphore(&client, "jobs", 3);
        let elsewhere = semaphore(&place.client(), "jobs", 3);
        let a = one.acquire(1).await.unwrap();
        let b = two.acquire(1).await.unwrap();
        let c = elsewhere.acquire(1).await.unwrap();
        for handle in [&one, &two, &elsewhere] {
            let full = handle.try_acquire(1).await.unwrap_err();
            assert!(matches!(full, TryAcquireError::Full { in_use: 3, .. }), "{full:?}");
            assert_eq!(handle.inspect().await.unwrap().in_use, 3);
        }
        let waiting = tokio::spawn(two.acquire(1));
        eventually("it waits", PATIENCE, async || one.inspect().await.unwrap().waiters_total == 1)
            .await;
        // What one handle frees, the other's waiter gets.
        c.release().await.unwrap();
        let d = within(PATIENCE, waiting).await.unwrap().unwrap();
        drop((a, b, d));
        emptied(&elsewhere).await;
    }
}

// Behaviour 2
#[tokio::test]
async fn names_are_case_sensitive() {
    for place in Place::each().await {
        let client = place.client();
        let names = ["jobs", "Jobs", "JOBS", "jobs ", " jobs"];
        let mut held = Vec::new();
        for name in names {
            held.push(semaphore(&client, name, 1).try_acquire(1).await.unwrap());
        }
        for name in names {
            assert!(semaphore(&client, name, 1).try_acquire(1).await.is_err(), "{name:?}");
        }
    }
}

// Behaviour 2
#[tokio::test]
async fn a_prefix_and_a_name_never_collide_with_another_prefix_and_name() {
    let server = RedisServer::start().await;
    let pairs = [
        ("zsem:", "a"),
        ("zsem:a", "a"),
        ("zsem:", "aa"),
        ("zsem", ":a"),
        ("zsem", "a"),
        ("z", "sem:a"),
        ("zsem:", "a:permits"),
        ("zsem:", "a:queue"),
        ("zsem:wake:", "a"),
        ("Zsem:", "a"),
    ];
    let mut held = Vec::new();
    for (prefix, name) in pairs {
        let client = Client::builder().url(server.url()).prefix(prefix).build().unwrap();
        let semaphore = semaphore(&client, name, 1);
        held.push(semaphore.try_acquire(1).await.unwrap_or_else(|e| panic!("{prefix}{name}: {e}")));
        let books = semaphore.inspect().await.unwrap();
        assert_eq!((books.in_use, books.holders_total), (1, 1), "{prefix:?} {name:?}");
    }
    let permits = server.keys().await.iter().filter(|key| key.ends_with("}:permits")).count();
    assert_eq!(permits, pairs.len());
}

// Behaviour 3
#[tokio::test]
async fn a_limit_of_zero_admits_nobody_and_is_no_error() {
    for place in Place::each().await {
        let none = semaphore(&place.client(), "paused", 0);
        let full = none.try_acquire(1).await.unwrap_err();
        assert!(matches!(full, TryAcquireError::Full { in_use: 0, limit: 0, .. }), "{full:?}");
        let waiting = tokio::spawn(none.acquire(5));
        eventually("it waits", PATIENCE, async || none.inspect().await.unwrap().waiters_total == 1)
            .await;
        let short = none.acquire(1).timeout(Duration::from_millis(100)).await.unwrap_err();
        assert!(matches!(short, AcquireError::Timeout { place: Some(1), .. }), "{short:?}");
        assert!(!waiting.is_finished());
        // The limit of zero was no mistake: once it is raised, who waited is let in.
        none.set_limit(5).await.unwrap();
        let permit = within(PATIENCE, waiting).await.unwrap().unwrap();
        assert_eq!(permit.units(), 5);
    }
}

// Behaviour 3; with Redis in scale.rs
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_permits_are_held_at_once_in_memory() {
    const MANY: u32 = 100_000;
    let many = semaphore(&Client::in_memory(), "many", MANY);
    let permits = within(PATIENCE * 6, join_all((0..MANY).map(|_| many.acquire(1)))).await;
    let permits: Vec<_> = permits.into_iter().map(Result::unwrap).collect();
    let books = many.inspect().await.unwrap();
    assert_eq!((books.in_use, books.holders_total), (u64::from(MANY), u64::from(MANY)));
    assert!(permits.iter().all(|permit| !permit.is_lost()));
    let tokens: HashSet<_> = permits.iter().map(|permit| permit.fencing_token()).collect();
    assert_eq!(tokens.len(), permits.len());
    assert!(matches!(many.try_acquire(1).await, Err(TryAcquireError::Full { .. })));
    drop(permits);
    eventually("all are back", PATIENCE * 6, async || many.inspect().await.unwrap().in_use == 0)
        .await;
    assert!(many.try_acquire(MANY).await.is_ok());
}

// Behaviour 4
#[tokio::test]
async fn odd_names_are_taken_as_they_are_and_never_mangled() {
    let longest = "n".repeat(512);
    let widest = format!("{}nn", "名".repeat(170)); // 512 bytes
    let names = [
        "a",
        " ",
        "with space",
        "🦀🚦",
        "聊天-会话",
        r"back\slash\n",
        r#"quotes"and'ticks`"#,
        "per%sent %d $1 *?[a-z]",
        "colon:slash/star*2/500",
        "a\u{301}",
        "\u{e1}",
        longest.as_str(),
        widest.as_str(),
    ];
    for place in Place::each().await {
        let (client, other) = (place.client(), place.client());
        let mut held = Vec::new();
        for name in names {
            let here = semaphore(&client, name, 1);
            assert_eq!(here.name(), name);
            held.push(here.try_acquire(1).await.unwrap_or_else(|e| panic!("{name:?}: {e}")));
        }
        // The other client waits for each: the name goes through a wake-up, too.
        let waiting: Vec<_> =
            names.map(|name| tokio::spawn(semaphore(&other, name, 1).acquire(1))).into();
        for name in names {
            eventually("it waits", PATIENCE, async || {
                semaphore(&client, name, 1).inspect().await.unwrap().waiters_total == 1
            })
            .await;
        }
        if let Place::Redis(server) = &place {
            let keys = server.keys().await;
            for name in names {
                assert!(keys.contains(&format!("zsem:{{{name}}}:permits")), "{name:?}: {keys:?}");
            }
        }
        drop(held);
        for (name, waiting) in names.iter().zip(waiting) {
            let granted = within(PATIENCE, waiting).await.unwrap();
            assert!(granted.is_ok(), "{name:?}: {granted:?}");
        }
    }
}

// Behaviour 4
#[tokio::test]
async fn names_that_cannot_be_keys_are_refused_with_a_sentence() {
    let client = Client::in_memory();
    let too_long = "n".repeat(513);
    let too_wide = "名".repeat(171); // 513 bytes, but 171 characters
    let refused = [
        "",
        "nul\0",
        "tab\t",
        "line\nbreak",
        "del\u{7f}",
        "c1\u{85}",
        "{",
        "}",
        "a{b}",
        "{}",
        &too_long,
        &too_wide,
    ];
    for name in refused {
        let error = client.semaphore(name, 1).build().unwrap_err();
        assert_eq!(error.field(), "semaphore name", "{name:?}");
        let text = error.to_string();
        assert!(text.contains("1 to 512 bytes"), "what is allowed is missing: {text}");
        assert!(!text.chars().any(char::is_control), "a control character got out: {text:?}");
        let shown: String = name.escape_debug().take(20).collect();
        assert!(text.contains(&shown), "the value is missing: {text}");
        assert!(text.len() < 600, "{text}");
    }
}

// Behaviour 4
#[tokio::test]
async fn prefixes_that_would_break_the_keys_are_refused_with_a_sentence() {
    for prefix in ["", "a{b}", "{", "}", "line\n", &"p".repeat(65)] {
        let error = Client::builder().prefix(prefix).build().unwrap_err();
        assert_eq!(error.field(), "prefix", "{prefix:?}");
        assert!(error.to_string().contains("1 to 64 bytes"), "{error}");
    }
}
