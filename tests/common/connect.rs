//! Clients of real servers.

use zset_semaphore::{Client, ClientBuilder};

use test_support::wait::{PATIENCE, within};

/// A client that is connected. Also where a busy machine takes longer than the call timeout, since
/// few tests are about that.
pub(crate) async fn connected(builder: ClientBuilder) -> Client {
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
pub(crate) async fn connect(url: impl AsRef<str>) -> Client {
    connected(Client::builder().url(url)).await
}
