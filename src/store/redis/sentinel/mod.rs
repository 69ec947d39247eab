//! Sentinel: finds the primary, and notices when it has moved.
//!
//! # Implementation
//!
//! For the driver, a primary behind sentinels is one place whose address is looked up at each opening. All
//! known sentinels are asked at once. The first good answer wins, unless another one has a higher epoch: a
//! sentinel that was cut off still names the old primary. If an operator has reset the sentinels, their
//! epochs begin again, and most of them have to agree. The connections to the sentinels stay open. The driver
//! polls them with the connection to the primary, which they end once the primary has moved. No task is started.

mod answer;
mod council;
mod link;
mod opinions;
mod promotion;
mod refusal;
mod search;
mod watch;

#[cfg(test)]
mod tests;

use std::iter;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::StoreError;
use crate::store::{BoxFuture, Opened};
use crate::sync::lock;

use super::dial::Dial;
use super::url::Address;

use answer::{Answer, Known};
use promotion::CONFIRMED;
use search::Search;

/// The maximum number of sentinels that are asked.
const MOST: usize = 12;

/// Opens a connection to the primary, which should be at an address. Returns where it is.
pub(super) type Connect<'a> =
    Box<dyn Fn(Address) -> BoxFuture<'a, Result<(Opened, Address), StoreError>> + Send + Sync + 'a>;

/// The sentinels of one primary.
#[derive(Clone)]
pub(super) struct Sentinels(Arc<Deployment>);

struct Deployment {
    seeds: Vec<Address>,
    /// The name of the primary.
    master: String,
    /// How the sentinels are connected to.
    dial: Dial,
    /// How the primary and the replicas are connected to.
    primary: Dial,
    /// How long a sentinel may take to be connected to and to answer, and a search to wait for a failover.
    patience: Duration,
    /// The sentinels that others have told of.
    learnt: Mutex<Vec<Address>>,
    /// Where the primary was found last.
    found: Mutex<Option<Address>>,
    /// The highest epoch since then.
    epoch: AtomicU64,
    /// What the last search has connected to, or tried to.
    tried: Mutex<Vec<Known>>,
    /// The replica that has said last that it was promoted, and when.
    promoted: Mutex<Option<(Known, Instant)>>,
    /// The name of the connections to the sentinels.
    name: Mutex<Arc<str>>,
}

impl Sentinels {
    /// `patience` is how long a silent sentinel is waited for. It delays only the error where no other one
    /// answers.
    pub(super) fn new(
        seeds: Vec<Address>,
        master: String,
        [dial, primary]: [Dial; 2],
        patience: Duration,
    ) -> Self {
        Self(Arc::new(Deployment {
            seeds,
            master,
            dial,
            primary,
            patience,
            learnt: Mutex::default(),
            found: Mutex::default(),
            epoch: AtomicU64::new(0),
            tried: Mutex::default(),
            promoted: Mutex::default(),
            name: Mutex::new(Arc::from("")),
        }))
    }

    /// Finds the primary, and returns the connection to it that `connect` has opened. The connection ends when
    /// the primary has moved.
    ///
    /// `name` is that of the connections to the sentinels.
    pub(super) async fn open(
        &self,
        connect: Connect<'_>,
        name: Arc<str>,
    ) -> Result<Opened, StoreError> {
        *lock(&self.0.name) = name;
        Search::new(self.clone(), connect).run().await
    }

    /// Returns a future that ends once the sentinels name a primary that the last search has not tried.
    pub(super) fn watch(&self) -> BoxFuture<'static, ()> {
        Box::pin(watch::news(self.clone()))
    }

    pub(super) fn master(&self) -> &str {
        &self.0.master
    }

    fn dial(&self) -> &Dial {
        &self.0.dial
    }

    /// How the primary and the replicas are connected to.
    pub(super) fn primary(&self) -> &Dial {
        &self.0.primary
    }

    fn name(&self) -> Arc<str> {
        Arc::clone(&lock(&self.0.name))
    }

    fn note_promoted(&self, replica: &Known) {
        *lock(&self.0.promoted) = Some((replica.clone(), Instant::now()));
    }

    /// Returns the replica that was promoted, if the sentinels may not have named it yet.
    fn promoted(&self) -> Option<Known> {
        let promoted = lock(&self.0.promoted).clone();
        promoted.filter(|(_, at)| at.elapsed() < CONFIRMED).map(|(replica, _)| replica)
    }

    fn note_tried(&self, primary: &Known) {
        lock(&self.0.tried).push(primary.clone());
    }

    fn has_tried(&self, primary: &Known) -> bool {
        lock(&self.0.tried).contains(primary)
    }

    fn forget_tried(&self) {
        lock(&self.0.tried).clear();
    }

    fn patience(&self) -> Duration {
        self.0.patience
    }

    /// Returns the sentinels to ask, the seeds first.
    fn known(&self) -> Vec<Address> {
        self.0.seeds.iter().chain(&*lock(&self.0.learnt)).cloned().collect()
    }

    /// Remembers the epoch, a sentinel that has answered, and those that it has told of, instead of those from before.
    /// One that was cut off may know of few others.
    fn learn(&self, sentinel: &Address, answer: &Answer) {
        let epoch = answer.primary.epoch;
        if self.0.epoch.fetch_max(epoch, Ordering::Relaxed) <= epoch {
            let all = iter::once(sentinel).chain(&answer.others).take(MOST);
            *lock(&self.0.learnt) = all.cloned().collect();
        }
    }

    /// Returns the highest epoch that is known. A sentinel that names a lower one was probably cut off.
    fn epoch(&self) -> u64 {
        self.0.epoch.load(Ordering::Relaxed)
    }

    /// Notes where the primary is. The log tells when it has moved.
    fn found(&self, Known { address, epoch }: &Known) {
        // Epochs begin again if an operator has reset the sentinels.
        self.0.epoch.store(*epoch, Ordering::Relaxed);
        let before = lock(&self.0.found).replace(address.clone());
        if let Some(before) = before.filter(|before| before != address) {
            let master = self.master();
            tracing::info!(master, from = %before, to = %address, "the primary has moved");
        }
    }

    /// Returns what the log calls the store.
    pub(super) fn address(&self) -> String {
        let master = self.master();
        match &*lock(&self.0.found) {
            Some(primary) => format!("{master} at {primary}"),
            None => {
                let seeds: Vec<_> = self.0.seeds.iter().map(Address::to_string).collect();
                format!("{master} behind the sentinels {}", seeds.join(", "))
            }
        }
    }
}
