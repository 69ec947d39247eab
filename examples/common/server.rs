//! HTTP servers: one that listens, and one in the background.

use std::fmt::Debug;

use axum::Router;
use axum::serve::{Listener, ListenerExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::Result;

/// Returns the URL, too: that of the port that was chosen if `addr` asks for any.
pub(crate) async fn listen(addr: &str) -> Result<(impl Listener<Addr: Debug>, String)> {
    let bound = TcpListener::bind(addr).await;
    let listener = bound.map_err(|error| format!("cannot listen on `{addr}`: {error}"))?;
    let url = format!("http://{}", listener.local_addr()?);
    // Without this the kernel may keep a token back, to send it together with the next one.
    Ok((listener.tap_io(|socket| drop(socket.set_nodelay(true))), url))
}

/// Serves for as long as `background` lives; returns the URL.
pub(crate) async fn start(addr: &str, app: Router, background: &mut JoinSet<()>) -> Result<String> {
    let (listener, url) = listen(addr).await?;
    background.spawn(async { drop(axum::serve(listener, app).await) });
    Ok(url)
}
