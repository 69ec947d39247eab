//! The count kept in this process: the same semantics as `lua/`, on tokio's clock.

mod books;

use std::collections::BTreeMap;
use std::fmt;
use std::future::ready;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::{Arc, Mutex, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::error::StoreError;
use crate::id::{ClientId, PermitId};
use crate::inspection::Inspection;
use crate::sync::lock;

use super::{BoxFuture, Ear, KickOutcome, Session, Store, Turn, TurnOutcome};

pub(crate) use books::Books;
use books::Opening;

/// How many turns lie between two looks for what time alone has ended, and how many names each looks at.
const LOOK_EVERY: u32 = 16;

/// A store inside this process, shared by all clients made from it. Cheap to clone.
///
/// It behaves as Redis does, reply for reply, and runs on tokio's clock: with
/// `tokio::time::pause` a test can let leases end without waiting. What a name takes of memory is
/// free again when nothing is held, nobody waits and no override is set; no call takes longer for
/// the number of names.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use zset_semaphore::{Client, MemoryStore};
///
/// let memory = MemoryStore::new();
/// let one = Client::with_memory(&memory).semaphore("jobs", 1).build()?;
/// let two = Client::with_memory(&memory).semaphore("jobs", 1).build()?;
/// let permit = one.acquire(1).await?;
/// assert!(two.try_acquire(1).await.is_err());
/// # drop(permit);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MemoryStore {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    /// Microseconds of the wall clock, given by the monotonic one.
    epoch_micros: u64,
    epoch: Instant,
}

/// Trees: a table that grows moves all it has at once.
#[derive(Default)]
struct State {
    books: BTreeMap<Arc<str>, Box<Books>>,
    ears: BTreeMap<ClientId, Weak<dyn Ear>>,
    /// The latest that a turn was told of the time, in microseconds.
    now: u64,
    /// No token or ticket in books that have gone is higher.
    last: u64,
    /// Whose books have become blank last: they go when the next one's do, so that one name that
    /// is used again and again keeps them.
    blank: Option<Arc<str>>,
    turns: u32,
    /// The name that was looked at last.
    looked_at: Option<Arc<str>>,
}

impl State {
    /// The books of `name` in the hands of `act`; they stay if anything is in them then.
    fn with_books<T>(
        &mut self,
        name: &Arc<str>,
        incarnation: u64,
        act: impl FnOnce(&mut Books, u64) -> T,
    ) -> T {
        let (now, last) = (self.now, self.last);
        let books = match self.books.get_mut(&**name) {
            Some(books) => books,
            None => {
                let books = Box::new(Books::open(Opening { incarnation, last }));
                self.books.entry(Arc::clone(name)).or_insert(books)
            }
        };
        let answer = act(books, now);
        if books.is_blank()
            && self.blank.as_ref() != Some(name)
            && let Some(before) = self.blank.replace(Arc::clone(name))
        {
            self.drop_if_blank(&before);
        }
        answer
    }

    fn drop_if_blank(&mut self, name: &str) {
        if let Some(books) = self.books.get(name)
            && books.is_blank()
        {
            self.last = self.last.max(books.last());
            self.books.remove(name);
        }
    }

    /// Ends what has come to its end by time alone, for the next few names.
    fn look_around(&mut self) {
        self.turns += 1;
        if self.turns < LOOK_EVERY {
            return;
        }
        self.turns = 0;
        let from = self.looked_at.take();
        let from = from.as_deref().map_or(Unbounded, Excluded);
        let mut over = Vec::new();
        let names = self.books.range_mut::<str, _>((from, Unbounded));
        for (name, books) in names.take(LOOK_EVERY as usize) {
            books.expire(self.now / 1000);
            if books.is_blank() {
                over.push(Arc::clone(name));
            }
            self.looked_at = Some(Arc::clone(name));
        }
        for name in over {
            self.drop_if_blank(&name);
        }
    }
}

/// Words for another client: the grants, or 0 for "ask about this id".
pub(crate) type Note = (ClientId, Vec<(PermitId, u64)>);

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let epoch_micros = u64::try_from(since.as_micros()).unwrap_or(0);
        Self {
            inner: Arc::new(Inner { state: Mutex::default(), epoch_micros, epoch: Instant::now() }),
        }
    }

    /// What the clock says; outside a runtime nothing, since that may run on a clock of its own.
    fn now_micros(&self) -> u64 {
        if Handle::try_current().is_err() {
            return 0;
        }
        let since = self.inner.epoch.elapsed().as_micros();
        self.inner.epoch_micros + u64::try_from(since).unwrap_or(u64::MAX / 2)
    }

    fn with_books<T>(&self, name: &Arc<str>, act: impl FnOnce(&mut Books, u64) -> T) -> T {
        let now = self.now_micros();
        let mut state = lock(&self.inner.state);
        // The time of a turn that has no clock is that of the one before: too early is safe.
        state.now = state.now.max(now).max(self.inner.epoch_micros);
        state.look_around();
        state.with_books(name, self.inner.epoch_micros, act)
    }

    fn settle(&self, turn: &Turn) -> TurnOutcome {
        let (outcome, notes) = self.with_books(&turn.name, |books, now| books.turn(turn, now));
        self.tell(&turn.name, notes);
        outcome
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

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("names", &lock(&self.inner.state).books.len()).finish()
    }
}

impl Store for MemoryStore {
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

    fn turn_at_once(&self, turn: &Turn) -> Option<TurnOutcome> {
        Some(self.settle(turn))
    }

    fn place(&self) -> String {
        "this process".to_owned()
    }
}

struct MemorySession {
    memory: MemoryStore,
    client: ClientId,
    _ear: Arc<dyn Ear>,
}

impl Drop for MemorySession {
    fn drop(&mut self) {
        lock(&self.memory.inner.state).ears.remove(&self.client);
    }
}

impl Session for MemorySession {
    fn turn(&self, turn: Turn) -> BoxFuture<'_, Result<TurnOutcome, StoreError>> {
        Box::pin(async move { Ok(self.memory.settle(&turn)) })
    }

    fn is_at_once(&self) -> bool {
        true
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
