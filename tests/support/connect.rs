//! Clients of real servers.

#![allow(dead_code, unreachable_pub)] // each test binary uses a part of it

use zset_semaphore::{Client, ClientBuilder};

use crate::support::wait::{PATIENCE, within};

/// A client that is connected. Also where a busy machine takes longer than the call timeout, since
/// few tests are about that.
pub async fn connected(builder: ClientBuilder) -> Client {
    let connecting = async {
        loop {
            if let Ok(client) = builder.clone().connect().await {
                return client;
            }
        }
    };
    within(PATIENCE, connecting).await
}

/// As [`connected`], of default settings.
pub async fn connect(url: impl AsRef<str>) -> Client {
    connected(Client::builder().url(url)).await
}
