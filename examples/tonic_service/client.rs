//! A client.

use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use tokio::time::sleep;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use crate::chat::{Question, STREAM, Token};
use crate::common::Result;
use crate::common::output::say;
use crate::retry::pushback;

/// Chats once; returns how long the first token took to come.
pub(crate) async fn chat(
    channel: Channel,
    tokens: u32,
    mut hear: impl FnMut(String),
) -> Result<Duration, Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
    let (path, codec) = (PathAndQuery::from_static(STREAM), ProstCodec::<_, Token>::default());
    let (asked, mut waited, mut heard) = (Instant::now(), Duration::ZERO, 0);
    let answer = grpc.server_streaming(Request::new(Question { tokens }), path, codec).await?;
    let mut answer = answer.into_inner();
    while let Some(token) = answer.message().await? {
        if heard == 0 {
            waited = asked.elapsed();
        }
        heard += 1;
        hear(token.text);
    }
    let cut = || Status::data_loss(format!("{heard} of {tokens} tokens came"));
    if heard == tokens { Ok(waited) } else { Err(cut()) }
}

/// As [`chat`], but comes back as often as the service says so. Returns how often it did, too.
pub(crate) async fn chat_until_served(
    channel: Channel,
    tokens: u32,
) -> Result<(Duration, usize), Status> {
    let mut came_back = 0;
    loop {
        let outcome = chat(channel.clone(), tokens, drop).await;
        match outcome.map_err(|status| (pushback(&status), status)) {
            Ok(waited) => return Ok((waited, came_back)),
            Err((None, status)) => return Err(status),
            Err((Some(pause), _)) => sleep(pause).await,
        }
        came_back += 1;
    }
}

pub(crate) async fn connect(url: &str) -> Result<Channel> {
    let wrong = |_| format!("--call is `{url}`; it must be like http://host:port");
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(wrong)?;
    let channel = endpoint.connect_timeout(Duration::from_secs(5)).connect().await;
    Ok(channel.map_err(|error| format!("cannot reach {url}: {}", innermost(&error)))?)
}

fn innermost(mut error: &dyn Error) -> &dyn Error {
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

/// Chats once and prints what the service says.
pub(crate) async fn call(url: &str, tokens: u32) -> Result<ExitCode> {
    let channel = connect(url).await?;
    let Err(status) = chat(channel, tokens, say).await else {
        return Ok(ExitCode::SUCCESS);
    };
    let again = pushback(&status).map(|pause| format!("; come back in {pause:?}"));
    let (code, message) = (status.code(), status.message());
    eprintln!("tonic_service: {code:?}: {message}{}", again.unwrap_or_default());
    Ok(ExitCode::FAILURE)
}
