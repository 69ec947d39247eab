//! What is made of the figures: percentiles, medians, fairness. Pure.

/// Times in nanoseconds, sorted.
pub struct Times(Vec<u64>);

impl Times {
    pub fn new(mut nanos: Vec<u64>) -> Self {
        nanos.sort_unstable();
        Self(nanos)
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The nearest rank, in microseconds; NaN where nothing was measured.
    pub fn percentile(&self, percent: f64) -> f64 {
        let rank = (percent / 100.0 * self.0.len() as f64).ceil() as usize;
        let nearest = self.0.get(rank.max(1) - 1);
        nearest.map_or(f64::NAN, |&nanos| nanos as f64 / 1e3)
    }

    pub fn p50(&self) -> f64 {
        self.percentile(50.0)
    }

    pub fn p99(&self) -> f64 {
        self.percentile(99.0)
    }
}

/// One figure of several rounds.
#[derive(Clone, Default)]
pub struct Rounds(Vec<f64>);

impl Rounds {
    pub fn push(&mut self, figure: f64) {
        self.0.push(figure);
    }

    /// NaN where nothing was measured.
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let upper = sorted.len() / 2;
        match sorted.len() {
            0 => f64::NAN,
            length if length % 2 == 1 => sorted[upper],
            _ => f64::midpoint(sorted[upper - 1], sorted[upper]),
        }
    }

    pub fn lowest(&self) -> f64 {
        self.extreme(f64::min)
    }

    pub fn highest(&self) -> f64 {
        self.extreme(f64::max)
    }

    /// NaN where nothing was measured, in any of the rounds.
    fn extreme(&self, more: fn(f64, f64) -> f64) -> f64 {
        let both = |a: f64, b: f64| if a.is_nan() || b.is_nan() { f64::NAN } else { more(a, b) };
        self.0.iter().copied().reduce(both).unwrap_or(f64::NAN)
    }

    /// This figure divided by another one of the same rounds.
    pub fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(figure, base)| figure / base).collect())
    }

    /// By how much this figure is more than another one of the same rounds.
    pub fn minus(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(figure, base)| figure - base).collect())
    }

    /// As "lowest..highest".
    pub fn spread(&self, decimals: usize) -> String {
        format!("{:.decimals$}..{:.decimals$}", self.lowest(), self.highest())
    }
}

/// Jain's index of fairness: 1 where all counts are equal, 1/n where one has everything.
pub fn jain(counts: &[u64]) -> f64 {
    let sum: f64 = counts.iter().map(|&count| count as f64).sum();
    let squares: f64 = counts.iter().map(|&count| (count as f64).powi(2)).sum();
    sum * sum / (counts.len() as f64 * squares)
}
