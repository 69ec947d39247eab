//! The backoff: how long to wait between two tries.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::error::ConfigError;

/// The waits between two tries: an iterator of [`Duration`], without a clock.
///
/// It is the pace at which a waiter asks the store when wake-ups are switched off
/// ([`Wake::Poll`](crate::Wake::Poll)) or cannot arrive (no pub/sub). While wake-ups arrive it is not
/// used. Each waiter begins with the first step, even if the backoff was iterated before it was given
/// to the semaphore.
///
/// # Default
///
/// [`Backoff::decay()`]: `max(floor, tail + (start - tail) * e^(-rate * i))` with start 1.0 s, tail
/// 0.4 s, rate 0.17, floor 0.5 s and no jitter. The waits become shorter, other than usual: a waiter
/// that has waited long is near the head of the queue, so it gains more by asking often.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use zset_semaphore::Backoff;
///
/// let waits: Vec<_> = Backoff::default().take(11).collect();
/// assert_eq!(waits[0], Duration::from_secs(1));
/// assert_eq!(waits[10].as_millis(), 509);
///
/// let three_tries = Backoff::fixed(Duration::from_millis(100)).tries(3);
/// assert_eq!(three_tries.count(), 3);
/// ```
#[derive(Clone)]
#[must_use = "a backoff does nothing until it is given to a semaphore or iterated"]
pub struct Backoff {
    shape: Shape,
    jitter: f64,
    tries: Option<u32>,
    seed: Option<u64>,
    run: Run,
}

/// How far a run through the sequence has come.
#[derive(Clone, Default)]
struct Run {
    step: u32,
    random: Option<fastrand::Rng>,
}

type Custom = Arc<dyn Fn(u32) -> Option<Duration> + Send + Sync>;

#[derive(Clone)]
enum Shape {
    Decay { start: Duration, tail: Duration, rate: f64, floor: Duration },
    Linear { start: Duration, step: Duration, most: Duration },
    Exponential { start: Duration, factor: f64, most: Duration },
    Custom(Custom),
}

impl Backoff {
    fn of(shape: Shape) -> Self {
        Self { shape, jitter: 0.0, tries: None, seed: None, run: Run::default() }
    }

    /// Returns the default, an exponential decay from one second to half a second.
    pub fn decay() -> Self {
        Self::decay_of(
            Duration::from_millis(1_000),
            Duration::from_millis(400),
            0.17,
            Duration::from_millis(500),
        )
    }

    /// Returns an exponential decay: `max(floor, tail + (start - tail) * e^(-rate * i))` for step `i`
    /// from 0.
    pub fn decay_of(start: Duration, tail: Duration, rate: f64, floor: Duration) -> Self {
        Self::of(Shape::Decay { start, tail, rate, floor })
    }

    /// Returns the same wait for each step.
    pub fn fixed(wait: Duration) -> Self {
        Self::linear(wait, Duration::ZERO, wait)
    }

    /// Returns waits that begin with `start` and grow by `step` each time, up to `most`.
    pub fn linear(start: Duration, step: Duration, most: Duration) -> Self {
        Self::of(Shape::Linear { start, step, most })
    }

    /// Returns waits that begin with `start` and grow by `factor` each time, up to `most`.
    pub fn exponential(start: Duration, factor: f64, most: Duration) -> Self {
        Self::of(Shape::Exponential { start, factor, most })
    }

    /// Returns the waits that `wait` gives for each step, from 0. `None`, or a panic, ends them.
    ///
    /// `wait` is called in the background while the semaphore is locked. It must be quick, and must
    /// not use a semaphore or a permit.
    pub fn from_fn(wait: impl Fn(u32) -> Option<Duration> + Send + Sync + 'static) -> Self {
        Self::of(Shape::Custom(Arc::new(wait)))
    }

    /// Sets by which share of itself a wait varies at most, up or down, evenly: 0 to 1. Default: 0.
    ///
    /// [`build()`](crate::SemaphoreBuilder::build) refuses other values.
    pub fn jitter(mut self, share: f64) -> Self {
        self.jitter = share;
        self
    }

    /// Sets after how many waits the sequence ends. A waiter then ends with
    /// [`AcquireError::GaveUp`](crate::AcquireError::GaveUp). Default: never.
    pub fn tries(mut self, tries: u32) -> Self {
        self.tries = Some(tries);
        self
    }

    /// Sets the seed of the jitter, which makes it repeatable. Default: another seed for each waiter.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Returns the same sequence from its first step, however far this one was iterated.
    pub(crate) fn restarted(&self) -> Self {
        Self { run: Run::default(), ..self.clone() }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let bad = |what, value: f64, allowed| Err(ConfigError::new(what, value, allowed));
        if !(0.0..=1.0).contains(&self.jitter) {
            return bad("backoff jitter", self.jitter, "a share from 0 to 1");
        }
        match self.shape {
            Shape::Decay { rate, .. } if !(rate.is_finite() && rate >= 0.0) => {
                bad("backoff rate", rate, "a finite number, 0 or more")
            }
            Shape::Exponential { factor, .. } if !(factor.is_finite() && factor >= 1.0) => {
                bad("backoff factor", factor, "a finite number, 1 or more")
            }
            _ => Ok(()),
        }
    }

    fn wait(&self, step: u32) -> Option<Duration> {
        match &self.shape {
            Shape::Decay { start, tail, rate, floor } => {
                let (start, tail) = (start.as_secs_f64(), tail.as_secs_f64());
                let wait = tail + (start - tail) * (-rate * f64::from(step)).exp();
                Some(seconds(wait).max(*floor))
            }
            Shape::Linear { start, step: more, most } => {
                Some(start.saturating_add(more.saturating_mul(step)).min(*most))
            }
            Shape::Exponential { start, factor, most } => {
                Some(seconds(start.as_secs_f64() * factor.powf(f64::from(step))).min(*most))
            }
            // It runs in the driver, which must not end by it.
            Shape::Custom(wait) => catch_unwind(AssertUnwindSafe(|| wait(step))).unwrap_or(None),
        }
    }

    fn jittered(&mut self, wait: Duration) -> Duration {
        if self.jitter == 0.0 {
            return wait;
        }
        let seed = self.seed;
        let random = self.run.random.get_or_insert_with(|| match seed {
            Some(seed) => fastrand::Rng::with_seed(seed),
            None => fastrand::Rng::new(),
        });
        seconds(wait.as_secs_f64() * (1.0 + self.jitter * (2.0 * random.f64() - 1.0)))
    }
}

/// Returns seconds as a duration. A number that is none (NaN, negative, too long) gives the nearest.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}

impl Default for Backoff {
    fn default() -> Self {
        Self::decay()
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if self.tries.is_some_and(|tries| self.run.step >= tries) {
            return None;
        }
        let wait = self.wait(self.run.step)?;
        self.run.step = self.run.step.saturating_add(1);
        Some(self.jittered(wait))
    }
}

impl fmt::Debug for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Backoff");
        match &self.shape {
            Shape::Decay { start, tail, rate, floor } => out
                .field("start", start)
                .field("tail", tail)
                .field("rate", rate)
                .field("floor", floor),
            Shape::Linear { start, step, most } => {
                out.field("start", start).field("step", step).field("most", most)
            }
            Shape::Exponential { start, factor, most } => {
                out.field("start", start).field("factor", factor).field("most", most)
            }
            Shape::Custom(_) => out.field("shape", &"custom"),
        };
        out.field("jitter", &self.jitter).field("tries", &self.tries).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn first(backoff: Backoff, n: usize) -> Vec<u128> {
        backoff.take(n).map(|d| d.as_millis()).collect()
    }

    #[test]
    fn default_sequence_falls_from_one_second_and_never_under_the_floor() {
        let waits: Vec<f64> = Backoff::default().take(100).map(|d| d.as_secs_f64()).collect();
        assert_eq!(waits[0], 1.0);
        assert!((waits[10] - 0.5096).abs() < 0.0001, "{}", waits[10]);
        assert!(waits.windows(2).all(|pair| pair[1] <= pair[0]));
        assert!(waits.iter().all(|&wait| wait >= 0.5));
        assert_eq!(waits[99], 0.5);
    }

    #[test]
    fn the_other_shapes() {
        assert_eq!(first(Backoff::fixed(ms(7)), 3), [7, 7, 7]);
        assert_eq!(first(Backoff::linear(ms(10), ms(5), ms(18)), 4), [10, 15, 18, 18]);
        assert_eq!(first(Backoff::exponential(ms(10), 2.0, ms(50)), 4), [10, 20, 40, 50]);
        assert_eq!(first(Backoff::from_fn(|i| (i < 2).then_some(ms(3))), 9), [3, 3]);
        assert_eq!(first(Backoff::fixed(ms(7)).tries(2), 9), [7, 7]);
    }

    #[test]
    fn jitter_stays_within_its_share_and_repeats_by_seed() {
        let jittered = || Backoff::fixed(ms(1_000)).jitter(0.2).seed(5);
        let waits = first(jittered(), 200);
        assert!(waits.iter().all(|wait| (800..=1_200).contains(wait)));
        assert!(waits.iter().any(|&wait| wait < 900) && waits.iter().any(|&wait| wait > 1_100));
        assert_eq!(waits, first(jittered(), 200));
        let unseeded = || Backoff::fixed(ms(1_000)).jitter(0.2);
        assert_ne!(first(unseeded(), 20), first(unseeded(), 20));
    }

    #[test]
    fn extreme_numbers_neither_panic_nor_shrink_to_nothing() {
        let last = Backoff::exponential(ms(10), 1e300, Duration::MAX).nth(50);
        assert_eq!(last, Some(Duration::MAX));
        let last = Backoff::linear(ms(10), Duration::MAX, Duration::MAX).nth(2);
        assert_eq!(last, Some(Duration::MAX));
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused() {
        for backoff in [
            Backoff::default().jitter(1.5),
            Backoff::default().jitter(f64::NAN),
            Backoff::decay_of(ms(1), ms(1), -1.0, ms(1)),
            Backoff::decay_of(ms(1), ms(1), f64::NAN, ms(1)),
            Backoff::exponential(ms(1), 0.5, ms(9)),
            Backoff::exponential(ms(1), f64::INFINITY, ms(9)),
        ] {
            assert!(backoff.check().is_err(), "{backoff:?}");
        }
        assert!(Backoff::default().jitter(1.0).check().is_ok());
    }
}
