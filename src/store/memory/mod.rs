//! The count kept in this process: the same semantics as `lua/`, on tokio's clock.

mod books;

use std::collections::HashMap;
use std::fmt;
use std::future::ready;
use std::sync::{Arc, Mutex, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::error::StoreError;
use crate::id::{ClientId, PermitId};
use crate::semaphore::Inspection;
use crate::sync::lock;

use super::{BoxFuture, Ear, KickOutcome, Session, Store, Turn, TurnOutcome};

pub(crate) use books::Books;

/// How many turns go between two looks for names that nobody uses any more.
const SWEEP_EVERY: u32 = 4096;

/// A store inside this process, shared by all clients made from it. Cheap to clone.
///
/// It behaves as Redis does, reply for reply, and runs on tokio's clock: with
/// `tokio::time::pause` a test can let leases end without waiting.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use zset_semaphore::{Client, Memory};
///
/// let memory = Memory::new();
/// let one = Client::with_memory(&memory).semaphore("jobs", 1).build()?;
/// let two = Client::with_memory(&memory).semaphore("jobs", 1).build()?;
/// let permit = one.acquire(1).await?;
/// assert!(two.try_acquire(1).await.is_err());
/// # drop(permit);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Memory {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    /// Microseconds of the wall clock, given by the monotonic one.
    epoch_micros: u64,
    epoch: Instant,
}

#[derive(Default)]
struct State {
    books: HashMap<Arc<str>, Books>,
    ears: HashMap<ClientId, Weak<dyn Ear>>,
    turns: u32,
}

/// Words for another client: the grants, or 0 for "ask about this id".
pub(crate) type Note = (ClientId, Vec<(PermitId, u64)>);

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let epoch_micros = u64::try_from(since.as_micros()).unwrap_or(0);
        Self {
            inner: Arc::new(Inner { state: Mutex::default(), epoch_micros, epoch: Instant::now() }),
        }
    }

    fn now_micros(&self) -> u64 {
        let since = self.inner.epoch.elapsed().as_micros();
        self.inner.epoch_micros + u64::try_from(since).unwrap_or(u64::MAX / 2)
    }

    fn with_books<T>(&self, name: &Arc<str>, act: impl FnOnce(&mut Books, u64) -> T) -> T {
        let now = self.now_micros();
        let mut state = lock(&self.inner.state);
        state.turns += 1;
        if state.turns >= SWEEP_EVERY {
            state.turns = 0;
            state.books.retain(|_, books| {
                books.expire(now / 1000);
                !books.is_empty()
            });
        }
        match state.books.get_mut(name) {
            Some(books) => act(books, now),
            None => act(state.books.entry(Arc::clone(name)).or_default(), now),
        }
    }

    /// Delivers outside the lock: an ear may lead anywhere.
    fn tell(&self, name: &str, notes: Vec<Note>) {
        for (client, words) in notes {
            let ear = lock(&self.inner.state).ears.get(&client).and_then(Weak::upgrade);
            if let Some(ear) = ear {
                for (id, number) in words {
                    ear.wake(name, id, number);
                }
            }
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("names", &lock(&self.inner.state).books.len()).finish()
    }
}

impl Store for Memory {
    fn open(
        &self,
        client: ClientId,
        ear: Arc<dyn Ear>,
    ) -> BoxFuture<'_, Result<Arc<dyn Session>, StoreError>> {
        lock(&self.inner.state).ears.insert(client, Arc::downgrade(&ear));
        let session: Arc<dyn Session> =
            Arc::new(MemorySession { memory: self.clone(), client, _ear: ear });
        Box::pin(ready(Ok(session)))
    }

    fn place(&self) -> String {
        "this process".to_owned()
    }
}

struct MemorySession {
    memory: Memory,
    client: ClientId,
    _ear: Arc<dyn Ear>,
}

impl MemorySession {
    fn settle(&self, turn: &Turn) -> TurnOutcome {
        let (outcome, notes) =
            self.memory.with_books(&turn.name, |books, now| books.turn(turn, now));
        self.memory.tell(&turn.name, notes);
        outcome
    }
}

impl Drop for MemorySession {
    fn drop(&mut self) {
        lock(&self.memory.inner.state).ears.remove(&self.client);
    }
}

impl Session for MemorySession {
    fn turn(&self, turn: Turn) -> BoxFuture<'_, Result<TurnOutcome, StoreError>> {
        Box::pin(async move { Ok(self.settle(&turn)) })
    }

    fn is_at_once(&self) -> bool {
        true
    }

    fn turn_at_once(&self, turn: &Turn) -> Option<TurnOutcome> {
        Some(self.settle(turn))
    }

    fn inspect(&self, name: Arc<str>) -> BoxFuture<'_, Result<Inspection, StoreError>> {
        Box::pin(async move {
            Ok(self.memory.with_books(&name, |books, now| books.inspect(now / 1000)))
        })
    }

    fn set_limit(
        &self,
        name: Arc<str>,
        limit: Option<u32>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.memory.with_books(&name, |books, now| books.set_limit(limit, now));
            Ok(())
        })
    }

    fn kick(
        &self,
        name: Arc<str>,
        id: PermitId,
        now: bool,
    ) -> BoxFuture<'_, Result<KickOutcome, StoreError>> {
        Box::pin(async move {
            let (outcome, note) =
                self.memory.with_books(&name, |books, micros| books.kick(id, now, micros / 1000));
            self.memory.tell(&name, note.into_iter().collect());
            Ok(outcome)
        })
    }

    fn hears(&self) -> bool {
        true
    }

    fn is_alive(&self) -> bool {
        true
    }
}
