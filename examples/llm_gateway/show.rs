//! The show: a crowd of clients, a live line, a table.

use std::io::{IsTerminal, stdout};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::interval;
use zset_semaphore::{Client, ZSetSemaphore};

use crate::common::crowd::{ask_all, print_waits};
use crate::common::output::{print, row, say};
use crate::common::shutdown::show_until_terminated;
use crate::common::{BoxError, Result, server, store};
use crate::gateway::{Upstream, gateway};
use crate::options::Options;

pub(crate) async fn show(options: &Options) -> Result<ExitCode> {
    let client = store::connect(store::client()).await?;
    show_until_terminated(chat_through_the_gateway(&client, options), &client).await
}

async fn chat_through_the_gateway(client: &Client, options: &Options) -> Result<ExitCode> {
    let (clients, streams, mut background) = (options.clients, options.streams, JoinSet::new());
    let upstream = Upstream::of(options, &mut background).await?;
    peaks(&upstream).await?; // Tells at once if nobody is there.
    let (app, chats) = gateway(client, upstream.clone(), options)?;
    let url = server::start("127.0.0.1:0", app, &mut background).await?;
    background.spawn(show_live(chats.clone()));
    say(format_args!("{clients} clients want {streams} answers through {url}"));

    let outcomes = ask_all(clients, streams, |number| {
        let (http, url) = (upstream.http.clone(), format!("{url}/chat"));
        let key = format!("key-{}", number % options.keys);
        let question = json!({ "max_tokens": 20, "user": key }).to_string();
        move || one_answer(http.post(&url).header("x-api-key", &key).body(question.clone()))
    });
    let outcomes = outcomes.await;
    let (took, (waits, failed)) = (outcomes.took, outcomes.served_and_failed());
    let ((peak, peak_of_key), limit) = (peaks(&upstream).await?, chats.inspect().await?.limit);
    background.shutdown().await;

    say("");
    row("streams served", format_args!("{} of {streams}", waits.len()));
    row("peak in parallel", format_args!("{peak}, as the upstream counted"));
    row("limit", limit);
    row("peak of one key", format_args!("{peak_of_key}, of {} keys", options.keys));
    row("limit per key", options.per_key);
    print_waits(waits, took, "streams");
    Ok(verdict((peak, limit), (peak_of_key, options.per_key), &failed))
}

fn verdict(
    (peak, limit): (u64, u32),
    (peak_of_key, per_key): (u64, u32),
    failed: &[BoxError],
) -> ExitCode {
    if peak > u64::from(limit) {
        eprintln!("llm_gateway: {peak} streams ran at once, more than the limit of {limit}");
    } else if peak_of_key > u64::from(per_key) {
        eprintln!("llm_gateway: {peak_of_key} streams of one key ran at once, not {per_key}");
    } else if let Some(error) = failed.first() {
        eprintln!("llm_gateway: {} streams failed; one of them: {error}", failed.len());
    } else {
        return ExitCode::SUCCESS;
    }
    ExitCode::FAILURE
}

/// Chats once; returns how long the first token took to come.
async fn one_answer(question: reqwest::RequestBuilder) -> Result<Duration> {
    let (asked, mut waited, mut text) = (Instant::now(), Duration::ZERO, String::new());
    let mut answer = question.send().await?;
    while let Some(chunk) = answer.chunk().await? {
        if text.is_empty() {
            waited = asked.elapsed();
        }
        text += &String::from_utf8_lossy(&chunk);
    }
    let whole = answer.status().is_success() && text.contains(r#""last":true"#);
    if whole { Ok(waited) } else { Err(format!("{}: {text}", answer.status()).into()) }
}

/// The most that the upstream has served at once, in all and for one user.
async fn peaks(upstream: &Upstream) -> Result<(u64, u64)> {
    let url = format!("{}/stats", upstream.url);
    let stats = async { upstream.http.get(&url).send().await?.bytes().await };
    let stats = stats.await.map_err(|error| format!("cannot ask the upstream: {error}"))?;
    let stats: Value = serde_json::from_slice(&stats).unwrap_or_default();
    let peak = stats["peak"].as_u64().ok_or_else(|| format!("{url} tells no peak"))?;
    Ok((peak, stats["peak_of_user"].as_u64().unwrap_or_default()))
}

async fn show_live(chats: ZSetSemaphore) {
    let terminal = stdout().is_terminal();
    let mut ticks = interval(Duration::from_millis(if terminal { 100 } else { 1000 }));
    let end = if terminal { "\x1b[K\r" } else { "\n" };
    loop {
        ticks.tick().await;
        let Ok(now) = chats.inspect().await else { continue };
        let (in_use, limit, queue) = (now.in_use, now.limit, now.waiters_total);
        print(format_args!("in use {in_use:>4} / limit {limit:>4}   queue {queue:>5}{end}"));
    }
}
