//! The capped server: what to start from.

use std::fmt::Display;
use std::process::ExitCode;
use std::time::Duration;

use tonic::service::LayerExt;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use zset_semaphore::tower::ZSetSemaphoreLayer;
use zset_semaphore::{Client, ConfigError, ZSetSemaphore};

use crate::chat::Chat;
use crate::common::Result;
use crate::common::in_flight::InFlight;
use crate::common::output::say;
use crate::common::shutdown::{serve_until_drained, terminated};
use crate::options::{Mount, Options};

/// How long the answers of a service that crashed still count.
const LEASE: Duration = Duration::from_secs(10);

pub(crate) fn limit(client: &Client, options: &Options) -> Result<ZSetSemaphore, ConfigError> {
    client.semaphore(&options.name, options.limit).lease(LEASE).build()
}

/// Serves until the process is told to end, and then until no answer streams any more.
pub(crate) async fn start(
    incoming: TcpIncoming,
    chats: ZSetSemaphore,
    load: InFlight,
    options: &Options,
) -> Result<(), tonic::transport::Error> {
    // Behind this, a call holds a permit until its answer has ended or its client is gone. A call
    // that waits too long is told RESOURCE_EXHAUSTED, and when to come back.
    let cap = ZSetSemaphoreLayer::new(chats).timeout(options.max_wait).answer();
    let chat = Chat { load };
    match options.mount {
        Mount::Server => {
            let server = Server::builder().layer(cap).add_service(chat);
            server.serve_with_incoming_shutdown(incoming, terminated()).await
        }
        Mount::Service => {
            let server = Server::builder().add_service(cap.named_layer(chat));
            server.serve_with_incoming_shutdown(incoming, terminated()).await
        }
    }
}

pub(crate) async fn serve(
    addr: &str,
    client: &Client,
    chats: ZSetSemaphore,
    options: &Options,
) -> Result<ExitCode> {
    let (incoming, url) = listen(addr)?;
    let server = start(incoming, chats, InFlight::default(), options);
    say(format_args!("listening on {url}"));
    serve_until_drained(server, client).await?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn listen(addr: &str) -> Result<(TcpIncoming, String)> {
    let refused = |error: &dyn Display| format!("cannot listen on `{addr}`: {error}");
    let parsed = addr.parse().map_err(|error| refused(&error))?;
    let incoming = TcpIncoming::bind(parsed).map_err(|error| refused(&error))?;
    let url = format!("http://{}", incoming.local_addr()?);
    // Without this the kernel may keep a token back, to send it together with the next one.
    Ok((incoming.with_nodelay(Some(true)), url))
}
