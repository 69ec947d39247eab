//! Who was let in, and whether it was in the order in which they had come. Pure.

use std::collections::HashMap;

use crate::monitor::Seen;

/// How much later somebody of another process must have asked to count as later: the order in
/// which the server hears of two processes is not known to them.
const SLACK_NANOS: u64 = 3_000_000;

/// One of those who were let in; instants are of the clock that all processes share.
#[derive(Clone)]
pub(crate) struct Grant {
    /// Just before the first poll of the wait.
    pub(crate) asked: u64,
    /// Just after the first poll, which is what puts it in line.
    pub(crate) stood: u64,
    pub(crate) got: u64,
    /// The fencing token; `None` where the gate has none.
    pub(crate) token: Option<u64>,
    /// Of the permit; empty where the gate has none.
    pub(crate) id: String,
}

impl Grant {
    pub(crate) fn to_words(&self) -> String {
        let Self { asked, stood, got, token, id } = self;
        format!("{asked}/{stood}/{got}/{}/{id}", token.unwrap_or(0))
    }

    pub(crate) fn from_words(words: &str) -> Self {
        let words: Vec<&str> = words.splitn(5, '/').collect();
        let [asked, stood, got, token, id] = words[..] else {
            panic!("a grant has four numbers and an id: {words:?}")
        };
        let number = |word: &str| word.parse().expect("grants are told in integers");
        let token = number(token);
        Self {
            asked: number(asked),
            stood: number(stood),
            got: number(got),
            token: (token > 0).then_some(token),
            id: id.to_owned(),
        }
    }

    /// Without tokens, the instants at which tasks ran again are the best there is.
    fn order(&self) -> u64 {
        self.token.unwrap_or(self.got)
    }

    /// How long the other must have stood in line before this one asked, to have come before.
    fn slack(&self, same_process: bool) -> u64 {
        if same_process && self.token.is_some() { 0 } else { SLACK_NANOS }
    }
}

/// How many waiters were overtaken, by the order in which the server heard of them and granted to them.
///
/// A waiter that asks just after its grant, before it has heard of it, gets a second token, which is higher. So the
/// token that the server published counts, where it has published one.
pub(crate) struct Witnessed {
    grants: usize,
    overtaken: usize,
    /// Grants of ids that no script call named: who was overtaken cannot be known then.
    unseen: usize,
}

impl Witnessed {
    /// None where no script call named any of the ids.
    pub(crate) fn of(seen: &Seen, grants: impl Iterator<Item = Grant>) -> Option<Self> {
        let published = published(seen);
        let first_token = |grant: &Grant| {
            let published = published.get(&grant.id).copied();
            Some(grant.token?.min(published.unwrap_or(u64::MAX)))
        };
        let mut places = HashMap::new();
        for word in seen.scripts.iter().flat_map(|sent| &sent.words) {
            let next = places.len();
            places.entry(word.as_slice()).or_insert(next);
        }
        let mut tokens_and_places: Vec<_> = grants
            .filter_map(|grant| {
                Some((first_token(&grant)?, places.get(grant.id.as_bytes()).copied()))
            })
            .collect();
        tokens_and_places.sort_unstable();
        let places: Vec<usize> = tokens_and_places.iter().filter_map(|&(_, place)| place).collect();
        let overtaken_by = |(index, place): (usize, &usize)| {
            places[index + 1..].iter().filter(|&later| later < place).count()
        };
        let grants = tokens_and_places.len();
        let overtaken = places.iter().enumerate().map(overtaken_by).sum();
        (!places.is_empty()).then_some(Self { grants, overtaken, unseen: grants - places.len() })
    }

    /// NaN where some were not seen.
    pub(crate) fn overtaken(&self) -> f64 {
        if self.unseen > 0 { f64::NAN } else { self.overtaken as f64 }
    }

    /// Per grant.
    pub(crate) fn show(&self) -> String {
        match self.unseen {
            0 => format!("{:.5}", self.overtaken as f64 / self.grants as f64),
            unseen => format!("{unseen} of {} unseen", self.grants),
        }
    }
}

/// The token of the first wake-up of each id: `<name>\n<id> <token> ..`. Token 0 tells of no grant.
fn published(seen: &Seen) -> HashMap<String, u64> {
    let mut published = HashMap::new();
    for text in seen.wake_ups.iter().filter_map(|sent| sent.words.get(2)) {
        let text = String::from_utf8_lossy(text);
        let Some((_, pairs)) = text.split_once('\n') else { continue };
        let words: Vec<&str> = pairs.split(' ').collect();
        for pair in words.chunks_exact(2) {
            if let Some(token) = pair[1].parse().ok().filter(|&token| token > 0) {
                published.entry(pair[0].to_owned()).or_insert(token);
            }
        }
    }
    published
}

/// How many waiters were overtaken, summed over all grants; each comes with its process.
///
/// In one process this is exact: who stood in line before another one asked was before it, and
/// tokens tell the order of the grants.
pub(crate) fn overtaken(mut grants: Vec<(usize, Grant)>) -> usize {
    grants.sort_by_key(|(_, grant)| grant.order());
    let overtaken_by = |(index, (process, grant)): (usize, &(usize, Grant))| {
        let later = grants[index + 1..].iter();
        later
            .filter(|(other, waiter)| waiter.stood + grant.slack(other == process) < grant.asked)
            .count()
    };
    grants.iter().enumerate().map(overtaken_by).sum()
}
