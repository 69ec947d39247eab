//! The same behaviour over both stores: a test body is run once with each.

use zset_semaphore::{Client, MemoryStore};

use test_support::redis_server::RedisServer;

/// Where the clients of a test keep their count.
pub(crate) enum Place {
    Memory(MemoryStore),
    Redis(Box<RedisServer>),
}

impl Place {
    /// A place of either kind, one after the other.
    pub(crate) async fn each() -> [Self; 2] {
        [Self::Memory(MemoryStore::new()), Self::Redis(Box::new(RedisServer::start().await))]
    }

    /// A client of its own, as another process would have.
    pub(crate) fn client(&self) -> Client {
        match self {
            Self::Memory(memory) => Client::with_memory(memory),
            Self::Redis(server) => Client::open(server.url()).unwrap(),
        }
    }
}
