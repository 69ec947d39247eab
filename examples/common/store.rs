//! Where the count is: in Redis if `REDIS_URL` is set, otherwise in this process.

use std::env;
use std::time::Duration;

use zset_semaphore::{Client, ClientBuilder, MemoryStore};

use super::Result;

pub(crate) fn client() -> ClientBuilder {
    match env::var_os("REDIS_URL") {
        Some(url) => Client::builder().url(url.to_string_lossy()),
        None => Client::builder().memory(&MemoryStore::new()),
    }
}

pub(crate) async fn connect(client: ClientBuilder) -> Result<Client> {
    // The default is 500 ms. With more, a start on a very busy machine does not fail.
    let connected = client.call_timeout(Duration::from_secs(3)).connect().await;
    Ok(connected.map_err(|error| format!("REDIS_URL: {error}"))?)
}
