//! Sentinel: finds the primary, and notices when it has moved.
//!
//! # Implementation
//!
//! For the driver, a primary behind sentinels is one place whose address is looked up at each opening. All
//! known sentinels are asked at once. The first good answer wins, unless another one has a higher epoch: a
//! sentinel that was cut off still names the old primary. Where an operator has set the sentinels up anew, their
//! epochs begin again, and most of them have to agree. The connections to the sentinels stay open. The driver
//! polls them with the connection to the primary, which they end once the primary has moved. No task is started.

mod answer;
mod council;
mod link;
mod opinions;
mod refusal;
mod search;

#[cfg(test)]
mod tests;

use std::iter;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::error::StoreError;
use crate::store::{BoxFuture, Opened};
use crate::sync::lock;

use super::dial::Dial;
use super::url::Address;

use answer::{Answer, Known};
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
    /// How long a sentinel may take to be connected to and to answer, and a search to wait for a failover.
    patience: Duration,
    /// The sentinels that others have told of.
    learnt: Mutex<Vec<Address>>,
    /// Where the primary was found last.
    found: Mutex<Option<Address>>,
    /// The highest epoch since then.
    epoch: AtomicU64,
}

impl Sentinels {
    /// `patience` is how long a silent sentinel is waited for. It delays only the error where no other one
    /// answers.
    pub(super) fn new(seeds: Vec<Address>, master: String, dial: Dial, patience: Duration) -> Self {
        Self(Arc::new(Deployment {
            seeds,
            master,
            dial,
            patience,
            learnt: Mutex::default(),
            found: Mutex::default(),
            epoch: AtomicU64::new(0),
        }))
    }

    /// Finds the primary, and returns the connection to it that `connect` has opened. The connection ends when
    /// the primary has moved.
    pub(super) async fn open(&self, connect: Connect<'_>) -> Result<Opened, StoreError> {
        Search::new(self.clone(), connect).run().await
    }

    pub(super) fn master(&self) -> &str {
        &self.0.master
    }

    fn dial(&self) -> &Dial {
        &self.0.dial
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
        // Epochs begin again where an operator has set the sentinels up anew.
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
