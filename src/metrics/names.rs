//! The names of the metrics.

/// Histogram: how long callers waited for a permit, in seconds. Labels: `semaphore` and `outcome`.
///
/// It counts each [`Acquire`](crate::Acquire) and [`TryAcquire`](crate::TryAcquire) that was polled, once.
///
/// | outcome | meaning |
/// |---|---|
/// | `granted` | the caller got a permit |
/// | `timeout` | no permit came in time |
/// | `full` | there was no room, and the caller did not wait, or its backoff gave up |
/// | `queue_full` | too many waited already |
/// | `too_large` | the caller wanted more units than the limit, or none |
/// | `kicked` | an operator kicked the permit before the caller had it |
/// | `closed` | the semaphore or its client was closed, or there is no runtime |
/// | `refused` | the store refused |
/// | `cancelled` | the future was dropped |
pub const WAIT_SECONDS: &str = "zsem_wait_seconds";

/// Histogram: how long permits were held, in seconds. Labels: `semaphore` and `end`, which is `released` or `lost`.
///
/// A permit counts as held from its grant, and not from its hand-out, because its units are in use from then on. The two
/// differ if the caller's future is polled late, or waits for [replicas](crate::SemaphoreBuilder::replicated). The grant
/// counts from when its turn was sent, as the lease does, or from the wake-up that told of it. A permit that is granted
/// to a future that is then dropped counts as released.
pub const HELD_SECONDS: &str = "zsem_held_seconds";

/// Gauge: the units that this process holds. Label: `semaphore`.
///
/// It has the units that the store counts for this process: those of a permit from its [grant](HELD_SECONDS) on, and those
/// of a kicked permit until its holder gives them back. It moves with the turn that tells the store.
pub const HELD_UNITS: &str = "zsem_held_units";

/// Gauge: the callers of this process that wait for a grant, or for replicas to have it. Label: `semaphore`.
pub const WAITERS: &str = "zsem_waiters";

/// Gauge: the units that the whole cluster uses, as the last turn told. Label: `semaphore`.
pub const IN_USE_UNITS: &str = "zsem_in_use_units";

/// Gauge: the waiters in the queue of the store, as the last turn told. Label: `semaphore`.
pub const QUEUE_LENGTH: &str = "zsem_queue_length";

/// Gauge: the limit in force, as the last turn told. Like the other two gauges of the cluster, it is 0 before the first
/// turn, and while the process neither holds nor waits. Label: `semaphore`.
pub const LIMIT_UNITS: &str = "zsem_limit_units";

/// Counter: permits that were lost while they were held. Labels: `semaphore` and `reason`.
///
/// | reason | [`LostReason`](crate::LostReason) |
/// |---|---|
/// | `expired` | `Expired` |
/// | `kicked` | `Kicked` |
/// | `missing_in_store` | `MissingInStore` |
/// | `renewal_timeout` | `RenewalTimeout` |
/// | `max_hold` | `MaxHold` |
/// | `shutdown` | `Shutdown` |
pub const LOST_TOTAL: &str = "zsem_lost_total";

/// Counter: grants that a waiter learnt of by asking, although wake-ups should arrive. Label: `semaphore`.
pub const UNHEARD_GRANTS_TOTAL: &str = "zsem_unheard_grants_total";

/// Counter: how often the store had lost its data about a name, or another server had taken over. Label: `semaphore`.
pub const DATA_LOSSES_TOTAL: &str = "zsem_data_losses_total";

/// Counter: turns, which are the calls that carry all that a client has to say about one name. Label: `outcome`.
///
/// | outcome | the store |
/// |---|---|
/// | `answered` | answered |
/// | `stale` | had run a newer turn of this client, so it did nothing |
/// | `moved` | no longer had the name at this place |
/// | `refused` | answered with an error |
/// | `unanswered` | did not answer in time, or the connection broke |
pub const TURNS_TOTAL: &str = "zsem_turns_total";

/// Histogram: how long a turn took until it was answered or written off, in seconds. No label.
pub const TURN_SECONDS: &str = "zsem_turn_seconds";

/// Histogram: how many permits and waiters a turn named. No label.
pub const TURN_IDS: &str = "zsem_turn_ids";

/// Gauge: the connections of this process that are open: one for each client and each place of the store. No label.
pub const CONNECTED: &str = "zsem_connected";

/// Counter: attempts to open a connection. Label: `outcome`, which is `opened` or `failed`.
pub const CONNECTS_TOTAL: &str = "zsem_connects_total";

/// Counter of the layer: requests, each once, except exempt ones. Labels: `semaphore`, `outcome` and `reason`.
///
/// | outcome | the request |
/// |---|---|
/// | `permit` | was let through with a permit |
/// | `local`, `uncounted` | was let through by the outage policy |
/// | `weightless` | weighed nothing |
/// | `rejected` | was not let through; `reason` says why, as `tower::Reason::label` lists |
/// | `cancelled` | was dropped while it waited, most likely because its client went away |
///
/// For all outcomes but `rejected` the label `reason` is empty. A request that loses its permit while it runs was let
/// through before; the loss counts in [`LOST_TOTAL`].
#[cfg(feature = "tower")]
pub const REQUESTS_TOTAL: &str = "zsem_requests_total";

/// Histogram of the layer: how long requests waited, in seconds. Labels: `semaphore`, and `outcome` as for
/// [`REQUESTS_TOTAL`].
///
/// It also counts the time in which the limit of a key was looked up, and in which a request waited for a local cap.
#[cfg(feature = "tower")]
pub const REQUEST_WAIT_SECONDS: &str = "zsem_request_wait_seconds";

/// Gauge of the layer: the layers of this process whose outage policy decides about requests now. Label: `semaphore`.
#[cfg(feature = "tower")]
pub const OUTAGE: &str = "zsem_outage";

/// Gauge of the layer: units that are kept after a provider has refused a request, by `cooldown_on_429`. Label:
/// `semaphore`. They are in [`HELD_UNITS`], too.
#[cfg(feature = "tower")]
pub const RESTING_UNITS: &str = "zsem_resting_units";

/// Gauge of the layer: the keys that a keyed limit has in the cache of this process. Label: `semaphore`.
#[cfg(feature = "tower")]
pub const KEYS: &str = "zsem_keys";
