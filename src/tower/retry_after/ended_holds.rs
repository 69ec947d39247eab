//! The lengths of the holds of a semaphore that have ended. Pure.

/// The half-life, in seconds, of the weight of a hold that has ended.
const HALF_LIFE: f64 = 120.0;
/// The number of buckets: lengths from 1 ms to over two hours, by powers of two.
const BUCKETS: f64 = 24.0;

/// The lengths of the holds that have ended, in seconds: a histogram in which older holds count less.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct EndedHolds {
    buckets: Vec<Bucket>,
}

/// The holds of about the same length.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Bucket {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Bucket {
    fn mean(&self) -> f64 {
        if self.count > 0.0 { self.sum / self.count } else { 0.0 }
    }
}

impl EndedHolds {
    /// Adds a hold.
    pub(super) fn record(&mut self, length: f64) {
        // A length is cut to some decades, so that squares stay finite.
        let length = length.min(1e9);
        let bucket = (length * 1000.0).log2().clamp(0.0, BUCKETS - 1.0) as usize;
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, Bucket::default());
        }
        if let Some(bucket) = self.buckets.get_mut(bucket) {
            bucket.count += 1.0;
            bucket.sum += length;
            bucket.squares += length * length;
        }
    }

    /// Reduces the weight of all holds, for `seconds` that have passed.
    pub(super) fn decay(&mut self, seconds: f64) {
        let factor = (-seconds / HALF_LIFE).exp2();
        for bucket in &mut self.buckets {
            bucket.count *= factor;
            bucket.sum *= factor;
            bucket.squares *= factor;
        }
    }

    /// Returns the mean length, weighted by time held.
    pub(super) fn mean_by_time(&self) -> f64 {
        let sum: f64 = self.buckets.iter().map(|bucket| bucket.sum).sum();
        let squares: f64 = self.buckets.iter().map(|bucket| bucket.squares).sum();
        if sum > 0.0 { squares / sum } else { 0.0 }
    }

    /// Returns in how many seconds a hold of this age may end, and how likely each of these times is.
    /// Returns nothing if the hold has outlived all that have ended.
    pub(super) fn ends_after(&self, age: f64) -> impl Iterator<Item = (f64, f64)> {
        let longer = move |bucket: &&Bucket| bucket.mean() > age;
        let all: f64 = self.buckets.iter().filter(longer).map(|bucket| bucket.count).sum();
        let buckets = self.buckets.iter().filter(longer);
        buckets.map(move |bucket| (bucket.mean() - age, bucket.count / all))
    }
}
