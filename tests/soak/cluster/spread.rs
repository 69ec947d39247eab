//! Thirty names, spread over all primaries.

use std::sync::OnceLock;

use crate::names::{Kind, Name, PLAIN};

const COUNT: usize = 30;

const KINDS: [Name; 6] = [
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
];

/// All of them: five of each kind.
pub fn names() -> &'static [Name] {
    static NAMES: OnceLock<Vec<Name>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let name = |(number, kind): (usize, Name)| Name {
            name: format!("spread-{number}").leak(),
            ..kind
        };
        KINDS.iter().cloned().cycle().take(COUNT).enumerate().map(name).collect()
    })
}
