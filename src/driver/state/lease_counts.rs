//! The permits that are held, counted by the length of their lease. Pure.

use std::time::Duration;

/// How many permits are held for each length of a lease, the shortest first. A list, because nearly every
/// semaphore has one length.
#[derive(Debug, Default)]
pub(super) struct LeaseCounts {
    /// The last length stays in the list with a count of 0, so that a series of single permits allocates
    /// nothing.
    counts: Vec<(Duration, usize)>,
}

impl LeaseCounts {
    pub(super) fn add(&mut self, lease: Duration) {
        if self.shortest().is_none() {
            self.counts.retain(|&(length, _)| length == lease);
        }
        match self.find(lease) {
            Ok(index) => self.counts[index].1 += 1,
            Err(index) => self.counts.insert(index, (lease, 1)),
        }
    }

    pub(super) fn remove(&mut self, lease: Duration) {
        let Ok(index) = self.find(lease) else { return };
        let count = &mut self.counts[index].1;
        *count = count.saturating_sub(1);
        if *count == 0 && self.counts.len() > 1 {
            self.counts.remove(index);
        }
    }

    fn find(&self, lease: Duration) -> Result<usize, usize> {
        self.counts.binary_search_by_key(&lease, |&(length, _)| length)
    }

    /// The shortest lease of a permit that is held.
    pub(super) fn shortest(&self) -> Option<Duration> {
        self.counts.first().filter(|(_, count)| *count > 0).map(|(lease, _)| *lease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_is_that_of_a_permit_that_is_held() {
        let (short, long) = (Duration::from_millis(300), Duration::from_secs(30));
        let mut leases = LeaseCounts::default();
        assert_eq!(leases.shortest(), None);
        for lease in [long, short, short] {
            leases.add(lease);
        }
        leases.remove(short);
        assert_eq!(leases.shortest(), Some(short));
        leases.remove(short);
        assert_eq!(leases.shortest(), Some(long));
        leases.remove(long);
        assert_eq!(leases.shortest(), None);
        leases.add(short);
        assert_eq!((leases.shortest(), leases.counts.len()), (Some(short), 1));
    }
}
