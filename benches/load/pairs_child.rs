//! What is compared in one process of ours; the crates that others made are in `benches/peers`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
#[cfg(feature = "metrics")]
use zset_semaphore::metrics::BUCKETS;
use zset_semaphore::{Client, Permit, ZSetSemaphore};

use crate::plain::Plain;
use crate::script::BareScript;
use closed_loop::{self, Candidate};
use test_support::child_role::{FromParent, setting};

pub(crate) const ROLE: &str = "candidate";

/// Without the feature there are no histograms.
#[cfg(not(feature = "metrics"))]
const BUCKETS: &[(&str, &[f64])] = &[];

/// Plays the candidate that the parent names.
pub(crate) async fn play(from_parent: FromParent) {
    let limit = setting("LIMIT").parse().expect("a number");
    let names: Vec<String> =
        (0..setting("NAMES").parse().expect("a number")).map(|n| format!("pairs-{n}")).collect();
    let url = setting("URL");
    match setting("CANDIDATE").as_str() {
        "ours" => closed_loop::play(Ours::new(&url, &names, limit).await, from_parent).await,
        "recorded" => {
            record();
            closed_loop::play(Ours::new(&url, &names, limit).await, from_parent).await;
        }
        "plain" => closed_loop::play(OnePlain::new(&url, names, limit).await, from_parent).await,
        "bare" => closed_loop::play(Bare::at(&url).await, from_parent).await,
        "tokio" => closed_loop::play(Local::new(names.len(), limit), from_parent).await,
        other => panic!("there is no candidate {other:?}"),
    }
}

/// Installs the recorder of the exporter for Prometheus, as a service would that is scraped.
fn record() {
    let mut builder = PrometheusBuilder::new();
    for (name, buckets) in BUCKETS {
        let matcher = Matcher::Full((*name).to_owned());
        builder = builder.set_buckets_for_metric(matcher, buckets).expect("there are buckets");
    }
    let prometheus = builder.install_recorder().expect("it is the first recorder");
    thread::spawn(move || {
        loop {
            thread::sleep(Duration::from_secs(1));
            prometheus.run_upkeep();
        }
    });
}

/// One at random, so that no name is met in step.
fn any<T>(of: &[T]) -> &T {
    &of[fastrand::usize(..of.len())]
}

pub(crate) struct Ours(Vec<ZSetSemaphore>);

impl Ours {
    pub(crate) async fn new(url: &str, names: &[String], limit: u32) -> Self {
        let client = Client::connect(url).await.expect("connecting");
        let semaphore =
            |name: &String| client.semaphore(name.as_str(), limit).build().expect("a valid name");
        Self(names.iter().map(semaphore).collect())
    }
}

impl Candidate for Ours {
    type Permit = Permit;

    async fn acquire(&self, _: usize) -> Permit {
        any(&self.0).acquire(1).await.expect("nothing ends the wait")
    }

    async fn release(&self, permit: Permit) {
        permit.release().await.expect("the server answers");
    }
}

struct OnePlain {
    plain: Plain,
    names: Vec<String>,
    limit: u32,
    next: AtomicU64,
}

impl OnePlain {
    async fn new(url: &str, names: Vec<String>, limit: u32) -> Self {
        Self { plain: Plain::at(url).await, names, limit, next: AtomicU64::new(0) }
    }
}

impl Candidate for OnePlain {
    type Permit = (usize, u64);

    async fn acquire(&self, _: usize) -> (usize, u64) {
        let name = fastrand::usize(..self.names.len());
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        assert!(
            self.plain.try_acquire(&self.names[name], self.limit, id).await,
            "there is room for all"
        );
        (name, id)
    }

    async fn release(&self, (name, id): (usize, u64)) {
        assert!(self.plain.release(&self.names[name], id).await, "it was held");
    }
}

pub(crate) struct Bare(BareScript);

impl Bare {
    pub(crate) async fn at(url: &str) -> Self {
        Self(BareScript::at(url).await)
    }
}

impl Candidate for Bare {
    type Permit = ();

    async fn acquire(&self, _: usize) {
        self.0.run().await;
    }

    async fn release(&self, (): ()) {
        self.0.run().await;
    }
}

struct Local(Vec<Arc<Semaphore>>);

impl Local {
    fn new(names: usize, limit: u32) -> Self {
        Self((0..names).map(|_| Arc::new(Semaphore::new(limit as usize))).collect())
    }
}

impl Candidate for Local {
    type Permit = OwnedSemaphorePermit;

    async fn acquire(&self, _: usize) -> OwnedSemaphorePermit {
        Arc::clone(any(&self.0)).acquire_owned().await.expect("nobody closes it")
    }

    async fn release(&self, permit: OwnedSemaphorePermit) {
        drop(permit);
    }
}
