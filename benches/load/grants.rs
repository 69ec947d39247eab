//! Who was let in, and whether it was in the order in which they had come. Pure.

/// How much later somebody of another process must have asked to count as later: the order in
/// which the server hears of two processes is not known to them.
const SLACK_NANOS: u64 = 3_000_000;

/// One of those who were let in; instants are of the clock that all processes share.
#[derive(Clone, Copy)]
pub(crate) struct Grant {
    /// Just before the first poll of the wait.
    pub(crate) asked: u64,
    /// Just after the first poll, which is what puts it in line.
    pub(crate) stood: u64,
    pub(crate) got: u64,
    /// The fencing token; `None` where the gate has none.
    pub(crate) token: Option<u64>,
}

impl Grant {
    pub(crate) fn to_words(self) -> String {
        format!("{}/{}/{}/{}", self.asked, self.stood, self.got, self.token.unwrap_or(0))
    }

    pub(crate) fn from_words(words: &str) -> Self {
        let mut numbers =
            words.split('/').map(|word| word.parse().expect("grants are told in integers"));
        let mut next = || numbers.next().expect("a grant has four numbers");
        let (asked, stood, got, token) = (next(), next(), next(), next());
        Self { asked, stood, got, token: (token > 0).then_some(token) }
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
