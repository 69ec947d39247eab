//! All that a state holds, in the form of the keys in Redis: for the test that compares both stores.

use super::meta::Meta;
use super::score::is_kicked;
use super::sorted_set::SortedSet;
use super::state::MemoryState;

/// What the keys of a semaphore hold. Members of equal scores are in the order of their texts.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Content {
    pub(crate) permits: Vec<(String, f64)>,
    pub(crate) queue: Vec<(String, f64)>,
    pub(crate) clients: Vec<(String, f64)>,
    pub(crate) meta: Option<MetaContent>,
}

#[derive(Debug, PartialEq)]
pub(crate) struct MetaContent {
    pub(crate) incarnation: u64,
    pub(crate) last: u64,
    pub(crate) extra: u64,
    pub(crate) ttl: u64,
    pub(crate) limit_override: Option<u32>,
    pub(crate) expires: Option<u64>,
    /// Whether a grace is under way.
    pub(crate) grace: bool,
    /// The server, since when a grace counts, the longest one that was wanted, and when it ends.
    pub(crate) server: Option<[u64; 4]>,
    /// The other fields with their values, sorted.
    pub(crate) fields: Vec<(String, String)>,
}

impl MemoryState {
    /// Returns how many permits and waiters there are.
    pub(crate) fn ids(&self) -> u64 {
        self.permits.len() + self.queue.len()
    }

    pub(crate) fn content(&self, now_ms: u64) -> Content {
        let deadline = |score| (score / 2) as f64 + if is_kicked(score) { 0.5 } else { 0.0 };
        let mut clients: Vec<_> = self
            .clients
            .iter()
            .map(|(client, &until)| (client.to_string(), until as f64))
            .collect();
        clients.sort_by(|(a, at), (b, bt)| at.total_cmp(bt).then_with(|| a.cmp(b)));
        Content {
            permits: members(&self.permits, deadline),
            queue: members(&self.queue, |ticket| ticket as f64),
            clients,
            meta: self.meta.as_ref().map(|it| meta(it, now_ms)),
        }
    }
}

fn members(set: &SortedSet, score: impl Fn(u64) -> f64) -> Vec<(String, f64)> {
    set.iter().map(|(number, id)| (id.to_string(), score(number))).collect()
}

fn meta(meta: &Meta, now_ms: u64) -> MetaContent {
    let epochs =
        meta.epochs.iter().map(|(client, epoch)| (client.to_string(), epoch.get().to_string()));
    let declared = meta.declared.iter().map(|(client, declared)| {
        (format!("l:{client}"), format!("{} {}", declared.limit, declared.label))
    });
    let mut fields: Vec<_> = epochs.chain(declared).collect();
    fields.sort();
    MetaContent {
        incarnation: meta.incarnation.get(),
        last: meta.last.map_or(0, |last| last.get()),
        extra: meta.extra,
        ttl: meta.ttl,
        limit_override: meta.limit_override,
        expires: meta.expires,
        grace: meta.grace_left(now_ms).is_some(),
        server: meta.server.map(|kept| {
            let id = kept.server.map_or(0, |server| server.get());
            [id, kept.since, kept.longest.get(), kept.grace_ends]
        }),
        fields,
    }
}
