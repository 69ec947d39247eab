//! What operators are told: the state of a semaphore in the store, and what a kick did.

use std::time::Duration;

use crate::id::{ClientId, PermitId};
#[cfg(feature = "serde")]
use crate::whole_millis;

/// The state of one semaphore in the store at one moment; made by
/// [`inspect`](crate::ZSetSemaphore::inspect).
///
/// # Serialization
///
/// With the feature `serde`, it is a map with the names of the fields as keys. Later versions may add keys; a reader
/// ignores those that it does not know.
///
/// - A duration is a whole number of milliseconds, rounded down, and its key ends with `_ms`: `failover_grace_ms`,
///   `lease_ms`, `expires_in_ms`, `waited_ms`. A duration beyond `u64` milliseconds is the highest number.
/// - An id is a string, as its `Display` writes it.
/// - What is not there (`None`) is null.
/// - A label is a string. U+FFFD stands where a client has set a label that is not UTF-8.
///
/// ```
/// # #[cfg(feature = "serde")] {
/// use zset_semaphore::Inspection;
///
/// let text = r#"{
///     "limit": 8, "declared_limit": 8, "limit_override": null, "failover_grace_ms": null,
///     "in_use": 2, "holders_total": 1, "waiters_total": 1,
///     "holders": [{
///         "id": "00c0ffee00c0ffee:7*2", "client": "00c0ffee00c0ffee", "label": "worker-1", "units": 2,
///         "lease_ms": 30000, "expires_in_ms": 28700, "kicked": false
///     }],
///     "waiters": [{
///         "id": "00000000000000ff:3", "client": "00000000000000ff", "label": null, "units": 1,
///         "ticket": 1767225600000000, "waited_ms": 1200
///     }]
/// }"#;
/// let seen: Inspection = serde_json::from_str(text)?;
/// assert_eq!(seen.holders[0].id.units(), 2);
/// assert_eq!(serde_json::to_value(&seen)?, serde_json::from_str::<serde_json::Value>(text)?);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Inspection {
    /// The limit in force: the override if there is one, else the declared limit, else the limit of the handle
    /// that asked.
    pub limit: u32,
    /// The highest limit that a handle of any known client has: of the 500 clients that were alive last, and
    /// of those that are listed. `None` if the store knows of none.
    ///
    /// A client declares its limit with its turns. The store forgets a client an hour after its last sign of
    /// life, or with all data of a name that nobody uses.
    pub declared_limit: Option<u32>,
    /// The override that [`set_limit`](crate::ZSetSemaphore::set_limit) set, if any.
    pub limit_override: Option<u32>,
    /// How long nothing new will be given out, after a failover or a restart of the server:
    /// [`failover_grace`](crate::SemaphoreBuilder::failover_grace). `None` as a rule.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "failover_grace_ms", with = "whole_millis::option")
    )]
    pub failover_grace: Option<Duration>,
    /// The units in use. Those of permits whose lease has just ended may be among them.
    pub in_use: u64,
    /// How many permits are held.
    pub holders_total: u64,
    /// How many wait.
    pub waiters_total: u64,
    /// The permits whose leases end first, at most 500.
    pub holders: Vec<Holder>,
    /// The first waiters in the order in which they will be served, at most 500.
    pub waiters: Vec<QueuedWaiter>,
}

/// A permit in an [`Inspection`], which tells how it is serialized.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Holder {
    /// The id of the permit.
    pub id: PermitId,
    /// The client that holds it.
    pub client: ClientId,
    /// The [label](crate::ClientBuilder::label) of that client.
    pub label: Option<String>,
    /// How many units the permit holds.
    pub units: u32,
    /// How long each renewal keeps the permit in the store: [`PermitId::lease`]. An
    /// [extension](crate::Permit::extend) may last longer.
    #[cfg_attr(feature = "serde", serde(rename = "lease_ms", with = "whole_millis"))]
    pub lease: Duration,
    /// How long until the lease ends, by the clock of the store.
    #[cfg_attr(feature = "serde", serde(rename = "expires_in_ms", with = "whole_millis"))]
    pub expires_in: Duration,
    /// Whether the permit was [kicked](crate::ZSetSemaphore::kick).
    pub kicked: bool,
}

/// A waiter in an [`Inspection`], which tells how it is serialized.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct QueuedWaiter {
    /// The id of the permit it waits for.
    pub id: PermitId,
    /// The client that waits.
    pub client: ClientId,
    /// The [label](crate::ClientBuilder::label) of that client.
    pub label: Option<String>,
    /// How many units it waits for.
    pub units: u32,
    /// The place in the queue: the waiter with the lowest ticket is served first. A ticket is the time of the
    /// store at which the waiter was queued, in microseconds since 1970, or a little more, so that no two are
    /// the same.
    pub ticket: u64,
    /// How long it has waited, by the clock of the store.
    #[cfg_attr(feature = "serde", serde(rename = "waited_ms", with = "whole_millis"))]
    pub waited: Duration,
}

/// What [`kick`](crate::ZSetSemaphore::kick) and [`kick_now`](crate::ZSetSemaphore::kick_now) did.
///
/// With the feature `serde`, it is one of the strings `not_held`, `marked`, `removed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum KickOutcome {
    /// Nobody holds a permit of that id.
    NotHeld,
    /// The permit is marked. It cannot be renewed. Its units are free when its holder has released it,
    /// or when its lease ends.
    Marked,
    /// The permit was removed at once.
    Removed,
}

#[cfg(test)]
#[cfg(feature = "serde")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn seen(left: Duration) -> Inspection {
        let id: PermitId = "00c0ffee00c0ffee:7*2/5000".parse().unwrap();
        let (client, label) = (id.client(), Some("a \u{fffd} \u{202e}".to_owned()));
        let holder = Holder {
            id,
            client,
            label,
            units: 2,
            lease: id.lease(),
            expires_in: left,
            kicked: true,
        };
        let (ticket, waited) = (1 << 53, Duration::MAX);
        let waiter = QueuedWaiter { id, client, label: None, units: 2, ticket, waited };
        Inspection {
            limit: 3,
            declared_limit: None,
            limit_override: Some(3),
            failover_grace: Some(Duration::from_millis(1)),
            in_use: u64::MAX,
            holders_total: 1,
            waiters_total: 1,
            holders: vec![holder],
            waiters: vec![waiter],
        }
    }

    #[test]
    fn an_inspection_has_the_documented_shape() {
        let wanted = json!({
            "limit": 3, "declared_limit": null, "limit_override": 3, "failover_grace_ms": 1,
            "in_use": u64::MAX, "holders_total": 1, "waiters_total": 1,
            "holders": [{
                "id": "00c0ffee00c0ffee:7*2/5000", "client": "00c0ffee00c0ffee",
                "label": "a \u{fffd} \u{202e}", "units": 2, "lease_ms": 5_000, "expires_in_ms": 1, "kicked": true,
            }],
            "waiters": [{
                "id": "00c0ffee00c0ffee:7*2/5000", "client": "00c0ffee00c0ffee", "label": null, "units": 2,
                "ticket": 1_u64 << 53, "waited_ms": u64::MAX,
            }],
        });
        assert_eq!(serde_json::to_value(seen(Duration::from_micros(1_999))).unwrap(), wanted);
    }

    #[test]
    fn an_inspection_in_whole_milliseconds_reads_back() {
        let mut seen = seen(Duration::from_millis(4_321));
        seen.waiters[0].waited = Duration::from_millis(u64::MAX);
        let text = serde_json::to_string(&seen).unwrap();
        assert_eq!(serde_json::from_str::<Inspection>(&text).unwrap(), seen);
        for outcome in [KickOutcome::NotHeld, KickOutcome::Marked, KickOutcome::Removed] {
            let text = serde_json::to_string(&outcome).unwrap();
            assert_eq!(serde_json::from_str::<KickOutcome>(&text).unwrap(), outcome);
        }
        assert_eq!(serde_json::to_value(KickOutcome::NotHeld).unwrap(), json!("not_held"));
    }

    #[test]
    fn keys_of_later_versions_are_ignored_and_what_is_wrong_is_refused() {
        let good = serde_json::to_value(seen(Duration::ZERO)).unwrap();
        let with = |pointer: &str, value: Value| {
            let mut changed = good.clone();
            *changed.pointer_mut(pointer).unwrap() = value;
            serde_json::from_value::<Inspection>(changed)
        };
        let mut later = good.clone();
        later["later"] = json!(1);
        assert!(serde_json::from_value::<Inspection>(later).is_ok());
        for (pointer, wrong) in [
            ("/holders/0/id", json!("7")),
            ("/holders/0/client", json!("00C0FFEE00C0FFEE")),
            ("/holders/0/lease_ms", json!(-1)),
            ("/holders/0/lease_ms", json!(1.5)),
            ("/failover_grace_ms", json!("1ms")),
        ] {
            assert!(with(pointer, wrong.clone()).is_err(), "{pointer}: {wrong}");
        }
        let told = with("/holders/0/id", json!("7")).unwrap_err().to_string();
        assert!(told.contains("no permit id"), "{told}");
    }
}
