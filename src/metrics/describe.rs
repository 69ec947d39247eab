//! The descriptions of the metrics.

use ::metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

use super::names::*;

/// Describes all metrics to the recorder: each with a sentence and its unit.
///
/// Each client does this when it is made. Call it for an exporter that has to know all metrics before that.
pub fn describe() {
    describe_core();
    #[cfg(feature = "tower")]
    describe_layer();
}

fn describe_core() {
    let (seconds, count) = (Unit::Seconds, Unit::Count);
    describe_histogram!(WAIT_SECONDS, seconds, "How long callers waited for a permit.");
    describe_histogram!(HELD_SECONDS, seconds, "How long permits were held.");
    describe_gauge!(HELD_UNITS, count, "Units that this process holds.");
    describe_gauge!(WAITERS, count, "Callers of this process that wait for a permit.");
    describe_gauge!(IN_USE_UNITS, count, "Units that the cluster uses, as the last turn told.");
    describe_gauge!(QUEUE_LENGTH, count, "Waiters in the store's queue, as the last turn told.");
    describe_gauge!(LIMIT_UNITS, count, "The limit in force, as the last turn told.");
    describe_counter!(LOST_TOTAL, count, "Permits that were lost while they were held.");
    describe_counter!(UNHEARD_GRANTS_TOTAL, count, "Grants that a waiter learnt of by asking.");
    describe_counter!(DATA_LOSSES_TOTAL, count, "How often the store had lost its data.");
    describe_counter!(TURNS_TOTAL, count, "Turns, by outcome.");
    describe_histogram!(TURN_SECONDS, seconds, "How long turns took.");
    describe_histogram!(TURN_IDS, count, "How many permits and waiters turns named.");
    describe_gauge!(CONNECTED, count, "Open connections of this process.");
    describe_counter!(CONNECTS_TOTAL, count, "Attempts to open a connection, by outcome.");
}

#[cfg(feature = "tower")]
fn describe_layer() {
    let (seconds, count) = (Unit::Seconds, Unit::Count);
    describe_counter!(REQUESTS_TOTAL, count, "Requests, by outcome and reason.");
    describe_histogram!(REQUEST_WAIT_SECONDS, seconds, "How long requests waited.");
    describe_gauge!(OUTAGE, count, "Layers whose outage policy decides about requests now.");
    describe_gauge!(RESTING_UNITS, count, "Units kept after a provider has refused a request.");
    describe_gauge!(KEYS, count, "Keys in the cache of a keyed limit.");
}
