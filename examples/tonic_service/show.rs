//! The show: a crowd of clients, a table.

use std::process::ExitCode;
use std::time::Duration;

use tonic::{Code, Status};
use zset_semaphore::{Client, ZSetSemaphore};

use crate::client::{chat, chat_until_served, connect};
use crate::common::Result;
use crate::common::crowd::{ask_all, print_waits};
use crate::common::in_flight::InFlight;
use crate::common::output::{row, say};
use crate::common::shutdown::show_until_terminated;
use crate::options::Options;
use crate::retry::{pushback, retry_info};
use crate::service::{listen, start};

pub(crate) async fn show(
    client: &Client,
    chats: ZSetSemaphore,
    options: &Options,
) -> Result<ExitCode> {
    let load = InFlight::default();
    let (incoming, url) = listen("127.0.0.1:0")?;
    let verdict = async {
        tokio::select! {
            ended = start(incoming, chats.clone(), load.clone(), options) => {
                ended?;
                Err("the server has ended".into())
            }
            verdict = chat_with_the_service(&url, &chats, &load, options) => verdict,
        }
    };
    show_until_terminated(verdict, client).await
}

async fn chat_with_the_service(
    url: &str,
    chats: &ZSetSemaphore,
    load: &InFlight,
    options: &Options,
) -> Result<ExitCode> {
    let &Options { clients, chats: wanted, tokens, limit, .. } = options;
    say(format_args!("{clients} clients want {wanted} answers from {url}"));
    let mut channels = Vec::new();
    for _ in 0..clients {
        channels.push(connect(url).await?); // a connection of its own for each
    }
    let outcomes = ask_all(clients, wanted, |number| {
        let channel = channels[number].clone();
        move || chat_until_served(channel.clone(), tokens)
    });
    let outcomes = outcomes.await;
    let (took, (served, failed)) = (outcomes.took, outcomes.served_and_failed());
    let (waits, came_back): (Vec<_>, Vec<_>) = served.into_iter().unzip();
    let turned_away = chat_while_full(url, chats, options).await?;
    let peak = load.peak();

    say("");
    row("answers served", format_args!("{} of {wanted}", waits.len()));
    row("came back later", format_args!("{} times", came_back.iter().sum::<usize>()));
    row("peak in parallel", format_args!("{peak}, as the server counted"));
    row("limit", limit);
    print_waits(waits, took, "answers");
    row("when it is full", format_args!("{:?}: {}", turned_away.code(), turned_away.message()));
    let shown = |delay: Option<Duration>| delay.map_or("?".to_owned(), |it| format!("{it:?}"));
    row("retry header", shown(pushback(&turned_away)));
    row("retry details", shown(retry_info(&turned_away)));
    Ok(verdict(peak, limit, &failed, &turned_away))
}

/// What the service says to a client while all its permits are held.
async fn chat_while_full(url: &str, chats: &ZSetSemaphore, options: &Options) -> Result<Status> {
    let _all = chats.acquire(options.limit).await?;
    Ok(match chat(connect(url).await?, options.tokens, drop).await {
        Ok(_) => Status::ok("it was served, though nothing was free"),
        Err(status) => status,
    })
}

fn verdict(peak: usize, limit: u32, failed: &[Status], turned_away: &Status) -> ExitCode {
    let again = pushback(turned_away);
    let told = turned_away.code() == Code::ResourceExhausted && again.is_some();
    if u32::try_from(peak).is_ok_and(|peak| peak > limit) {
        eprintln!("tonic_service: {peak} answers streamed at once, more than the limit of {limit}");
    } else if let Some(error) = failed.first() {
        eprintln!("tonic_service: {} chats failed; one of them: {error}", failed.len());
    } else if !told || again != retry_info(turned_away) {
        eprintln!("tonic_service: a full service said {turned_away:?}");
    } else {
        return ExitCode::SUCCESS;
    }
    ExitCode::FAILURE
}
