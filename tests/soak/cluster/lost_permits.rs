//! The permits about which a new primary lacks the last word, and what becomes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use test_support::ledger::monotonic_nanos;
use test_support::redis_cluster::RedisCluster;
use tokio::time::{Instant, sleep};
use zset_semaphore::PermitId;

use super::copy::Copy;
use super::spread;
use crate::names::Kind;
use crate::scene::Scene;
use crate::unbooked::Absence;

const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Who holds a permit has told so by then.
const TOLD: Duration = Duration::from_secs(1);

/// A name that the new primary does not know has no grace there.
const NEW_NAME: &str = "name new to the new primary";

/// What was lost in one or more failovers, and what became of it.
#[derive(Clone, Copy, Default)]
pub struct Sum {
    pub failovers: u64,
    /// Permits that the old primary had granted and the new one lacks; those of them that somebody believed in.
    pub grants: u64,
    pub grants_held: u64,
    /// Permits whose leases ended earlier for the new primary; those of them that somebody believed in.
    pub renewals: u64,
    pub renewals_held: u64,
    /// The most units of held permits that one failover lost of one name.
    pub most_units: u64,
    /// Of the grants held: the new primary has them again, and their holders go on.
    pub put_back: u64,
    /// Of those: `inspect` has shown them.
    pub inspected: u64,
    /// Of the grants held: the holder was told that the permit is missing.
    pub told_missing: u64,
    /// Of the grants held: given back, and ended in other ways, before any word of the new primary.
    pub given_back: u64,
    pub ended: u64,
    /// Grants of replicated names that somebody believed in at a failover. None of them may be lost.
    pub replicated_held: u64,
}

/// A permit of the old primary, as the new one lacks it.
struct Lost {
    name: String,
    id: String,
    units: u64,
    /// When its lease ends for the new primary, if it knows it.
    known: Option<u64>,
    /// When it ended for the old one, by CLOCK_MONOTONIC: nobody believes in it any more.
    until: u64,
    is_held: bool,
    fate: Fate,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Open,
    PutBack,
    ToldMissing,
    GivenBack,
    Ended,
}

impl Fate {
    /// What became of a permit whose holder told that it ended so.
    fn told(how: &str) -> Self {
        match how {
            "MissingInStore" => Self::ToldMissing,
            "done" => Self::GivenBack,
            _ => Self::Ended,
        }
    }
}

/// All that one failover has lost.
pub struct LostPermits {
    lost: Vec<Lost>,
    inspected: u64,
    replicated_held: u64,
}

impl LostPermits {
    /// Compares what the old primary had when it was killed with what the new one has, and tells the witness.
    pub fn between(
        scene: &Scene,
        kind: &'static str,
        grace: Duration,
        had: &Copy,
        has: &Copy,
    ) -> Self {
        let mut state = scene.witness.state();
        let now = monotonic_nanos();
        let (mut lost, mut replicated_held) = (Vec::new(), 0);
        for (name, id, end) in had.held() {
            let known = has.end_of(name, id);
            let is_held = state.hold_of(name, id).is_some_and(|hold| hold.until.is_none());
            let is_replicated = spread::is_of(Kind::Replicated, name);
            replicated_held += u64::from(is_replicated && is_held);
            if known.is_some_and(|known| known >= end) {
                continue;
            }
            if is_replicated && is_held && known.is_none() {
                state.find(format!(
                    "{name}: {id} is held, and the replica that takes over lacks it"
                ));
            }
            // The old primary was killed before `now`, and the new one gives out nothing before.
            let from = known.map_or(now, |known| has.earliest(known).max(now));
            let until = had.latest(end);
            let has_grace = spread::has_grace(name, grace);
            let is_new = !has.known.contains(name);
            if from < until {
                let kind = if has_grace && is_new { NEW_NAME } else { kind };
                let absence = Absence { from, until, kind, is_excused: is_new || !has_grace };
                state.is_unbooked(name, id, absence);
            }
            let units = u64::from(id.parse::<PermitId>().expect("a permit's id").units());
            let (name, id) = (name.to_owned(), id.to_owned());
            lost.push(Lost { name, id, units, known, until, is_held, fate: Fate::Open });
        }
        Self { lost, inspected: 0, replicated_held }
    }

    /// Waits until it is known of all of them what became of them, or until their leases have ended.
    pub async fn settle(&mut self, cluster: &RedisCluster, primary: usize, scene: &Scene) {
        let began = Instant::now();
        loop {
            let names: BTreeSet<_> = self.open().map(|lost| lost.name.clone()).collect();
            for name in names {
                let mut put_back = Vec::new();
                for (index, end) in self.ends_at(cluster, primary, &name).await {
                    if self.look_at(index, end, scene) {
                        put_back.push(self.lost[index].id.clone());
                    }
                }
                if !put_back.is_empty() {
                    self.inspected += are_shown(scene, &name, &put_back).await;
                }
            }
            let told = began.elapsed() > TOLD;
            if self.open().all(|lost| told && !lost.is_held) {
                break;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn open(&self) -> impl Iterator<Item = &Lost> {
        self.lost.iter().filter(|lost| lost.fate == Fate::Open)
    }

    /// When the leases of the open ones of a name end for the primary, by their index here.
    async fn ends_at(
        &self,
        cluster: &RedisCluster,
        primary: usize,
        name: &str,
    ) -> Vec<(usize, Option<f64>)> {
        let of_name = |(_, lost): &(usize, &Lost)| lost.fate == Fate::Open && lost.name == name;
        let asked: Vec<_> = self.lost.iter().enumerate().filter(of_name).collect();
        let key = format!("zsem:{{{name}}}:permits");
        let mut words = vec!["ZMSCORE", &key];
        words.extend(asked.iter().map(|(_, lost)| lost.id.as_str()));
        let ends: Vec<Option<f64>> = cluster.nodes[primary].query(&words).await;
        asked.into_iter().map(|(index, _)| index).zip(ends).collect()
    }

    /// Takes in when the lease of one of them ends for the primary. Returns whether it was put back.
    fn look_at(&mut self, index: usize, end: Option<f64>, scene: &Scene) -> bool {
        let mut state = scene.witness.state();
        let lost = &mut self.lost[index];
        let hold = state.hold_of(&lost.name, &lost.id);
        let how = hold.and_then(|hold| hold.until.map(|_| hold.how.clone()));
        lost.is_held |= hold.is_some();
        if end.is_some_and(|end| lost.known.is_none_or(|known| end as u64 > known)) {
            state.is_booked(&lost.name, &lost.id);
            lost.fate = how.map_or(Fate::PutBack, |how| Fate::told(&how));
        } else if let Some(how) = how {
            lost.fate = Fate::told(&how);
        } else if monotonic_nanos() > lost.until {
            lost.fate = Fate::Ended;
        }
        lost.is_held_grant() && lost.fate == Fate::PutBack
    }

    pub fn sum(&self) -> Sum {
        let count = |is: fn(&Lost) -> bool| self.lost.iter().filter(|lost| is(lost)).count() as u64;
        let fate = |fate| {
            self.lost.iter().filter(|lost| lost.is_held_grant() && lost.fate == fate).count() as u64
        };
        let mut units: BTreeMap<&str, u64> = BTreeMap::new();
        for lost in self.lost.iter().filter(|lost| lost.is_held) {
            *units.entry(&lost.name).or_default() += lost.units;
        }
        Sum {
            failovers: 1,
            grants: count(|lost| lost.known.is_none()),
            grants_held: count(Lost::is_held_grant),
            renewals: count(|lost| lost.known.is_some()),
            renewals_held: count(|lost| lost.known.is_some() && lost.is_held),
            most_units: units.into_values().max().unwrap_or(0),
            put_back: fate(Fate::PutBack),
            inspected: self.inspected,
            told_missing: fate(Fate::ToldMissing),
            given_back: fate(Fate::GivenBack),
            ended: fate(Fate::Ended),
            replicated_held: self.replicated_held,
        }
    }
}

impl Lost {
    fn is_held_grant(&self) -> bool {
        self.is_held && self.known.is_none()
    }
}

/// Compares what was put back with what operators are shown. Returns how many of these permits they are shown.
async fn are_shown(scene: &Scene, name: &str, ids: &[String]) -> u64 {
    let Ok(books) = scene.operator.semaphore(name).inspect().await else { return 0 };
    // Who has left had told so before.
    sleep(LOOK_EVERY).await;
    let mut state = scene.witness.state();
    let mut shown = 0;
    for id in ids {
        let is_shown = books.holders.iter().any(|holder| holder.id.to_string() == *id);
        shown += u64::from(is_shown);
        let now = monotonic_nanos();
        let believes = state.hold_of(name, id).is_some_and(|hold| {
            hold.until.is_none() && hold.unsure_from > now && hold.sure_until > now
        });
        if believes && !is_shown {
            state.find(format!("{name}: {id} was put back, and `inspect` does not show it"));
        }
    }
    shown
}

impl Sum {
    pub fn add(&mut self, other: Self) {
        self.failovers += other.failovers;
        self.grants += other.grants;
        self.grants_held += other.grants_held;
        self.renewals += other.renewals;
        self.renewals_held += other.renewals_held;
        self.most_units = self.most_units.max(other.most_units);
        self.put_back += other.put_back;
        self.inspected += other.inspected;
        self.told_missing += other.told_missing;
        self.given_back += other.given_back;
        self.ended += other.ended;
        self.replicated_held += other.replicated_held;
    }
}
