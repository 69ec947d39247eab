//! Metrics: what semaphores, clients and layers tell the recorder of the `metrics` crate.
//!
//! The feature `metrics` turns them on. Each metric has a constant here, which is its name.
//!
//! # Recorder
//!
//! **Install the recorder before the first client is made.** A client looks for a recorder once, when it is made. One
//! that finds none records nothing for its whole life, and costs as much as without the feature. Keep it installed: some
//! instruments are made at their first use. Do not let an exporter drop idle series of `zsem_`, which would not come back.
//! The recorder must be one of version 0.24 of the `metrics` crate. The same applies to a layer and to a keyed limit,
//! which look when they are built.
//!
//! Instruments are called under locks of this crate. They must not panic, and must not call this crate.
//!
//! A client that finds a recorder also [describes](describe) all metrics to it.
//!
//! Some exporters, among them the one for Prometheus, turn a histogram into a summary unless they are given its
//! buckets. A summary cannot be added up over processes, so give them [`BUCKETS`].
//!
//! # Label `semaphore`
//!
//! Its value is the name of the semaphore, or what [`SemaphoreBuilder::metrics_name`] sets. For the semaphores of a keyed
//! limit and for layers, it is the name of the limit, so a key is never a label.
//!
//! A client counts a name under one value. If handles of one client have the same name, the first one that sets a value
//! decides. So a keyed limit labels the semaphore of a key, even if a handle was made by hand before. Until the first
//! request of that key, such a handle counts under its own name. To avoid that, give it the same `metrics_name`.
//!
//! A process uses at most [`MAX_SEMAPHORE_LABELS`] values. All further names share the value [`OTHER_SEMAPHORES`], and so
//! does a keyed limit whose name is empty.
//!
//! # Series
//!
//! All series of the counters and gauges of a semaphore exist, with 0, as soon as its first handle does. So `rate` and
//! `increase` see the first count. A histogram has about twenty series for each value of its labels, and most outcomes are
//! rare. Therefore [`WAIT_SECONDS`] starts with the outcomes `granted` and `timeout`, and the layer's histogram with none.
//! The others come with their first count, which `rate` does not see.
//!
//! # Gauges
//!
//! - [`HELD_UNITS`], [`WAITERS`] and the gauges of the layer are of this process: add them up over processes.
//! - [`IN_USE_UNITS`], [`QUEUE_LENGTH`] and [`LIMIT_UNITS`] are of the whole cluster, as the last turn told. All
//!   processes that hold or wait for a name tell the same, so take the highest: `max by (semaphore) (zsem_in_use_units)`. A
//!   process that neither holds nor waits is told nothing, so it shows 0. For a keyed limit, each process tells the sum
//!   over its own keys.
//! - Where several names share a value of the label, the gauges show their sum. Two clients of a process that use the
//!   same name count as two names; [`SemaphoreBuilder::metrics_name`] tells them apart.
//! - A gauge moves with the turns of its semaphore, so it is at most one turn late.
//! - When the last handle, permit and future of a name are dropped, its part of each gauge is 0. When the tokio runtime of
//!   a client ends, this is true of all its names, whatever is kept.
//!
//! [`SemaphoreBuilder::metrics_name`]: crate::SemaphoreBuilder::metrics_name
//!
//! # Examples
//!
#![cfg_attr(feature = "metrics", doc = "```")]
#![cfg_attr(not(feature = "metrics"), doc = "```ignore")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
//! use zset_semaphore::{Client, metrics};
//!
//! let mut builder = PrometheusBuilder::new();
//! for (name, buckets) in metrics::BUCKETS {
//!     builder = builder.set_buckets_for_metric(Matcher::Full((*name).to_owned()), buckets)?;
//! }
//! let prometheus = builder.install_recorder()?; // before the first client
//!
//! let jobs = Client::in_memory().semaphore("jobs", 4).build()?;
//! let permit = jobs.acquire(3).await?;
//! assert!(prometheus.render().contains("zsem_held_units{semaphore=\"jobs\"} 3"));
//! drop(permit);
//! assert!(prometheus.render().contains("zsem_held_units{semaphore=\"jobs\"} 0"));
//! # Ok(())
//! # }
//! ```
//!
//! # Implementation
//!
//! The core and the layer call the types that this module makes visible in the crate. Without the feature, those of
//! `silent` stand in for them, which have no size and do nothing. With the feature, each has its instruments behind
//! an `Option`, which is empty if nobody listens.

mod outcome;
#[cfg(not(feature = "metrics"))]
mod silent;

#[cfg(feature = "metrics")]
mod buckets;
#[cfg(feature = "metrics")]
mod client;
#[cfg(feature = "metrics")]
mod describe;
#[cfg(feature = "metrics")]
mod histograms;
#[cfg(feature = "metrics")]
mod label;
#[cfg(all(feature = "metrics", feature = "tower"))]
mod layer;
#[cfg(feature = "metrics")]
mod listener;
#[cfg(feature = "metrics")]
mod name_meter;
#[cfg(feature = "metrics")]
mod names;
#[cfg(feature = "metrics")]
mod semaphore;
#[cfg(feature = "metrics")]
mod share;
#[cfg(feature = "metrics")]
mod state;
#[cfg(feature = "metrics")]
mod waiting;

#[cfg(all(test, feature = "metrics"))]
mod tests;

#[cfg(feature = "metrics")]
pub use buckets::{
    BUCKETS, HELD_SECONDS_BUCKETS, TURN_IDS_BUCKETS, TURN_SECONDS_BUCKETS, WAIT_SECONDS_BUCKETS,
};
#[cfg(feature = "metrics")]
pub use describe::describe;
#[cfg(feature = "metrics")]
pub use label::{MAX_SEMAPHORE_LABELS, OTHER_SEMAPHORES};
#[cfg(feature = "metrics")]
pub use names::*;

#[cfg(all(feature = "metrics", feature = "tower"))]
pub(crate) use layer::{KeysMeter, LayerMeter};
#[cfg(feature = "tower")]
pub(crate) use outcome::{Rejected, RequestOutcome};
pub(crate) use outcome::{TurnEnd, WaitOutcome};
#[cfg(not(feature = "metrics"))]
pub(crate) use silent::{ClientMeter, Connected, Meter, NameMeter, SentAt, StateMeter, Waiting};
#[cfg(all(not(feature = "metrics"), feature = "tower"))]
pub(crate) use silent::{KeysMeter, LayerMeter};
#[cfg(feature = "metrics")]
pub(crate) use {
    client::{ClientMeter, Connected, SentAt},
    name_meter::NameMeter,
    semaphore::Meter,
    state::StateMeter,
    waiting::Waiting,
};
