//! The show: the same calls by three clients.

use std::process::ExitCode;
use std::time::Duration;

use axum::http::StatusCode;
use hyper_util::client::legacy;
use hyper_util::rt::TokioExecutor;
use tokio::task::JoinSet;
use zset_semaphore::Client;
use zset_semaphore::tower::ZSetSemaphoreLayer;

use crate::capped::{HyperClient, by_hyper, by_reqwest, capped_hyper, capped_reqwest};
use crate::common::crowd::ask_all;
use crate::common::output::say;
use crate::common::{BoxError, Result, server};
use crate::options::Options;
use crate::provider::{self, ask_stats};

/// How long the calls of a process that crashed still count.
const LEASE: Duration = Duration::from_secs(10);

pub(crate) async fn show(client: &Client, options: &Options) -> Result<ExitCode> {
    let calls = client.semaphore(&options.name, options.limit).lease(LEASE).build()?;
    let cap = ZSetSemaphoreLayer::new(calls);
    let http: HyperClient = legacy::Client::builder(TokioExecutor::new()).build_http();
    let hyper_capped = capped_hyper(cap.clone(), http.clone());
    let reqwest_capped = capped_reqwest(cap, reqwest::Client::builder().no_proxy().build()?);

    if let Some(url) = &options.provider {
        ask_stats(url).await?; // Tells at once if nobody is there.
    }
    say(format_args!(
        "{} callers make {} calls, with each client\n",
        options.callers, options.calls
    ));
    say("client       answered   refused   peak at the provider");
    // Without a cap first; but not at a provider that others call meanwhile.
    if options.provider.is_none() {
        call_all("no cap", options, move |url| by_hyper(http.clone(), url)).await?;
    }
    let by_hyper = move |url| by_hyper(hyper_capped.clone(), url);
    let by_reqwest = move |url| by_reqwest(reqwest_capped.clone(), url);
    let capped = [
        ("hyper-util", call_all("hyper-util", options, by_hyper).await?),
        ("reqwest", call_all("reqwest", options, by_reqwest).await?),
    ];
    for (name, Tally { refused, peak, allowed, failed, .. }) in &capped {
        if *refused > 0 || peak > allowed {
            eprintln!(
                "outbound_show: {name}: {refused} refused, {peak} at once where {allowed} may be"
            );
        } else if let Some(error) = failed.first() {
            eprintln!("outbound_show: {name}: {} calls failed; one of them: {error}", failed.len());
        } else {
            continue;
        }
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Default)]
struct Tally {
    answered: usize,
    refused: usize,
    peak: u64,
    allowed: u64,
    failed: Vec<BoxError>,
}

/// Lets all callers call by one client, and prints what came of it.
async fn call_all<F>(
    name: &str,
    options: &Options,
    call: impl Fn(String) -> F + Clone + Send + 'static,
) -> Result<Tally>
where
    F: Future<Output = Result<StatusCode>> + Send + 'static,
{
    let mut background = JoinSet::new();
    let provider = match &options.provider {
        Some(url) => url.clone(),
        None => {
            let routes = provider::routes(options.allowed);
            server::start("127.0.0.1:0", routes, &mut background).await?
        }
    };
    let outcomes = ask_all(options.callers, options.calls, |_| {
        let (call, url) = (call.clone(), format!("{provider}/complete"));
        move || call(url.clone())
    });
    let mut tally = Tally::default();
    for outcome in outcomes.await.all {
        match outcome {
            Ok(status) if status.is_success() => tally.answered += 1,
            Ok(StatusCode::TOO_MANY_REQUESTS) => tally.refused += 1,
            Ok(status) => tally.failed.push(format!("the provider answers {status}").into()),
            Err(error) => tally.failed.push(error),
        }
    }
    (tally.peak, tally.allowed) = ask_stats(&provider).await?;
    let Tally { answered, refused, peak, allowed, .. } = &tally;
    say(format_args!("{name:<12} {answered:>8}   {refused:>7}   {peak}, where {allowed} may be"));
    background.shutdown().await;
    Ok(tally)
}
