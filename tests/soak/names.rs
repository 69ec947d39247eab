//! The names that all processes of a soak share, and what is asked of each.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use fastrand::Rng;

use crate::cluster::spread;
use crate::scene::ms;
use zset_semaphore::{Backoff, Client, Renew, Wake, ZSetSemaphore};

#[derive(Clone)]
pub struct Name {
    pub name: &'static str,
    /// The highest limit of any handle.
    pub limit: u32,
    /// What the handles of every other process say; as `limit` but for a roll-out.
    pub other_limit: u32,
    pub units: RangeInclusive<u32>,
    pub leases_ms: &'static [u64],
    pub hold_ms: Range<u64>,
    /// Tasks of one process.
    pub tasks: u32,
    pub kind: Kind,
}

/// What is special about a name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Plain,
    /// Fixed leases, extended by hand or not.
    Manual,
    /// Waiters learn of their grants by asking only.
    Polled,
    /// A bounded queue and a longest hold.
    Bounded,
    /// Its limit is overridden now and then.
    Moved,
    /// All tasks are of one client; they come at once, when the parent says so.
    Rush,
    /// There is room for more permits than there ever are, so that none is lost for want of room.
    Roomy,
    /// Its tasks ask once each time the parent says so, and it is idle before and after.
    Called,
    /// As `Called`, and its handles have a failover grace of the longest lease, whatever the others have.
    Graceful,
    /// Its grants are handed out when a replica has them.
    Replicated,
}

impl Kind {
    /// Whether its tasks wait until the parent says a word.
    pub fn is_called(self) -> bool {
        matches!(self, Self::Rush | Self::Called | Self::Graceful)
    }
}

pub const PLAIN: Name = Name {
    name: "mutex",
    limit: 1,
    other_limit: 1,
    units: 1..=1,
    leases_ms: &[1_000],
    hold_ms: 2..25,
    tasks: 2,
    kind: Kind::Plain,
};

pub const NAMES: [Name; 10] = [
    PLAIN,
    // Held for longer than a lease, so that all depends on renewals.
    Name {
        name: "brief",
        limit: 3,
        other_limit: 3,
        leases_ms: &[300, 500],
        hold_ms: 5..500,
        tasks: 3,
        ..PLAIN
    },
    Name {
        name: "heavy",
        limit: 16,
        other_limit: 16,
        units: 1..=8,
        leases_ms: &[2_000],
        hold_ms: 10..150,
        tasks: 4,
        ..PLAIN
    },
    Name {
        name: "crowd",
        limit: 40,
        other_limit: 40,
        units: 1..=2,
        leases_ms: &[3_000],
        hold_ms: 10..200,
        tasks: 14,
        ..PLAIN
    },
    Name {
        name: "manual",
        limit: 4,
        other_limit: 4,
        leases_ms: &[600],
        hold_ms: 20..900,
        tasks: 3,
        kind: Kind::Manual,
        ..PLAIN
    },
    Name { name: "polled", limit: 2, other_limit: 2, hold_ms: 5..80, kind: Kind::Polled, ..PLAIN },
    Name {
        name: "bounded",
        limit: 3,
        other_limit: 3,
        leases_ms: &[1_500],
        hold_ms: 10..400,
        tasks: 4,
        kind: Kind::Bounded,
        ..PLAIN
    },
    Name {
        name: "moved",
        limit: 8,
        other_limit: 8,
        units: 1..=4,
        leases_ms: &[1_000, 2_000],
        hold_ms: 10..150,
        tasks: 4,
        kind: Kind::Moved,
    },
    // All come at once to one client. They are too many to be served by asking about one a second.
    Name {
        name: "rush",
        limit: 5,
        other_limit: 5,
        hold_ms: 5..40,
        tasks: 120,
        kind: Kind::Rush,
        ..PLAIN
    },
    // As during a roll-out: the highest limit in use is the cap.
    Name { name: "rolled", limit: 5, other_limit: 3, hold_ms: 10..120, tasks: 3, ..PLAIN },
];

/// So many processes use the names that are idle until they are called.
const CALLED: usize = 6;
pub const MAX_QUEUE: u32 = 12;
pub const MAX_HOLD: Duration = Duration::from_millis(250);
pub const LONGEST_LEASE: Duration = Duration::from_millis(3_000);

/// Names that are used for a while and never again begin with this: their keys must vanish while the soak goes on.
pub const PASSING: &str = "passing-";
pub const PASSING_LIMIT: u32 = 2;
pub const PASSING_LEASE: Duration = Duration::from_millis(500);

/// The highest limit of the handles of a name.
pub fn limit_of(name: &str) -> u32 {
    let known = NAMES.iter().chain(spread::names()).find(|known| known.name == name);
    known.map_or(PASSING_LIMIT, |known| known.limit)
}

/// The longest lease of the handles of a name.
pub fn longest_lease_of(name: &str) -> Duration {
    let known = NAMES.iter().chain(spread::names()).find(|known| known.name == name);
    known.map_or(PASSING_LEASE, Name::longest_lease)
}

impl Name {
    pub fn longest_lease(&self) -> Duration {
        let longest = self.leases_ms.iter().max().expect("a name has a lease");
        Duration::from_millis(*longest)
    }

    /// The grace of its handles where all others have `grace`.
    pub fn grace(&self, grace: Duration) -> Duration {
        if self.kind == Kind::Graceful { grace.max(self.longest_lease()) } else { grace }
    }

    /// Whether the process of that number uses it.
    pub fn is_used_by(&self, index: usize) -> bool {
        match self.kind {
            Kind::Rush => index == 0,
            Kind::Called | Kind::Graceful => index < CALLED,
            _ => true,
        }
    }

    /// A length of time to hold a permit for.
    pub fn holding(&self, random: &mut Rng) -> Duration {
        // Some hold for longer than a lease, so that renewals matter and who is kicked would be seen to go on.
        let (one_in, times) = match self.kind {
            Kind::Called | Kind::Graceful => (1, 1),
            Kind::Roomy => (2, 3),
            _ => (10, 6),
        };
        let times = if random.u32(..one_in) == 0 { times } else { 1 };
        ms(random, self.hold_ms.clone()) * times
    }

    /// One handle for each lease.
    pub fn handles(&self, client: &Client, other: bool, grace: Duration) -> Vec<ZSetSemaphore> {
        let limit = if other { self.other_limit } else { self.limit };
        let handle = |&ms| {
            let builder = client.semaphore(self.name, limit).lease(Duration::from_millis(ms));
            let builder = builder.failover_grace(self.grace(grace));
            let builder = match self.kind {
                Kind::Plain | Kind::Moved | Kind::Rush | Kind::Roomy => builder,
                Kind::Called | Kind::Graceful => builder,
                Kind::Replicated => builder.replicated(1),
                Kind::Manual => builder.renew(Renew::Manual),
                Kind::Polled => {
                    builder.wake(Wake::Poll).backoff(Backoff::fixed(Duration::from_millis(60)))
                }
                Kind::Bounded => builder.max_queue(MAX_QUEUE).max_hold(MAX_HOLD),
            };
            builder.build().expect("these settings are allowed")
        };
        self.leases_ms.iter().map(handle).collect()
    }
}
