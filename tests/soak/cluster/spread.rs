//! Thirty names, spread over all primaries.

use std::sync::OnceLock;
use std::time::Duration;

use test_support::redis_cluster::slots::{SLOTS, slot_of};

use crate::names::{Kind, Name, PLAIN, longest_lease_of};

/// How many names there are of each kind: one for each primary, on whose slots it is at the start.
const OF_EACH_KIND: u16 = 3;

/// The longest lease of all. It outlives an election.
pub const LONGEST_LEASE: Duration = Duration::from_millis(LONG_MS[0]);
const LONG_MS: &[u64] = &[10_000];

const KINDS: [Name; 10] = [
    Name { leases_ms: &[1_000], hold_ms: 5..60, tasks: 1, ..PLAIN },
    // Held for longer than a lease, so that all depends on renewals.
    Name { limit: 3, other_limit: 3, leases_ms: &[500, 2_000], hold_ms: 5..600, tasks: 1, ..PLAIN },
    Name {
        limit: 8,
        other_limit: 8,
        units: 1..=4,
        leases_ms: &[2_000],
        hold_ms: 20..200,
        tasks: 1,
        ..PLAIN
    },
    // As during a roll-out: the highest limit in use is the cap.
    Name { limit: 5, other_limit: 3, leases_ms: &[3_000], hold_ms: 20..200, tasks: 1, ..PLAIN },
    Name {
        limit: 4,
        other_limit: 4,
        leases_ms: &[800],
        hold_ms: 20..900,
        tasks: 1,
        kind: Kind::Manual,
        ..PLAIN
    },
    Name {
        limit: 2,
        other_limit: 2,
        leases_ms: &[1_000],
        hold_ms: 10..120,
        tasks: 1,
        kind: Kind::Polled,
        ..PLAIN
    },
    // An old copy of it has all its room, and a grant that a new primary lacks is believed in for long.
    Name {
        limit: 4,
        other_limit: 4,
        leases_ms: LONG_MS,
        hold_ms: 2_000..4_000,
        tasks: 1,
        kind: Kind::Called,
        ..PLAIN
    },
    // Twelve processes hold two units each, some of them for longer than an election takes. Those of the dead, and those that an old copy has, need room, too.
    Name {
        limit: 200,
        other_limit: 200,
        leases_ms: LONG_MS,
        hold_ms: 1_000..4_000,
        tasks: 2,
        kind: Kind::Roomy,
        ..PLAIN
    },
    Name {
        limit: 3,
        other_limit: 3,
        leases_ms: &[4_000],
        hold_ms: 2_000..4_000,
        tasks: 1,
        kind: Kind::Graceful,
        ..PLAIN
    },
    Name {
        limit: 4,
        other_limit: 4,
        leases_ms: &[3_000],
        hold_ms: 100..2_000,
        tasks: 1,
        kind: Kind::Replicated,
        ..PLAIN
    },
];

/// All of them.
pub fn names() -> &'static [Name] {
    static NAMES: OnceLock<Vec<Name>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let kinds = KINDS.iter().enumerate();
        let of_kind = |(number, kind): (usize, &Name)| {
            let kind = kind.clone();
            (0..OF_EACH_KIND)
                .map(move |third| Name { name: in_third(number, third), ..kind.clone() })
        };
        kinds.flat_map(of_kind).collect()
    })
}

/// A name whose slot is in that third of all slots.
fn in_third(kind: usize, third: u16) -> &'static str {
    let is_there = |name: &String| slot_of(name) / (SLOTS / OF_EACH_KIND + 1) == third;
    let found = (0..).map(|number| format!("spread-{kind}-{number}")).find(is_there);
    found.expect("names go on for ever").leak()
}

/// One of these names, if it is one.
pub fn name(name: &str) -> Option<&'static Name> {
    names().iter().find(|known| known.name == name)
}

/// Whether it is one of these names, and of that kind.
pub fn is_of(kind: Kind, of: &str) -> bool {
    name(of).is_some_and(|name| name.kind == kind)
}

/// Whether all handles of the name have a grace of its longest lease, where `grace` is that of the whole soak.
pub fn has_grace(of: &str, grace: Duration) -> bool {
    name(of).map_or(grace, |name| name.grace(grace)) >= longest_lease_of(of)
}
