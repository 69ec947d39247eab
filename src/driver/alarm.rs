//! The driver's only timer of the runtime.
//!
//! # Implementation
//!
//! A move of a timer of the runtime takes a lock, and may wake the thread that sleeps until the next timer. So
//! the alarm is moved only to an earlier instant. If nothing is due at that instant any more, it goes off in
//! vain.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

#[derive(Default)]
pub(super) struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
    /// When it goes off.
    set_for: Option<Instant>,
}

impl Alarm {
    /// Ready at `at` or earlier. Pending until the next call without an instant.
    pub(super) fn poll(&mut self, at: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = at else { return Poll::Pending };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if self.set_for.is_none_or(|set_for| at < set_for) {
            sleep.as_mut().reset(at);
            self.set_for = Some(at);
        }
        let rings = sleep.as_mut().poll(cx);
        if rings.is_ready() {
            self.set_for = None;
        }
        rings
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_goes_off_in_time_however_often_it_is_moved() {
        let (mut alarm, start) = (Alarm::default(), Instant::now());
        let at = |seconds| Some(start + Duration::from_secs(seconds));
        for instant in [at(9), at(5), at(7), None] {
            assert!(poll_fn(|cx| alarm.poll(instant, cx)).now_or_never().is_none());
        }
        poll_fn(|cx| alarm.poll(at(8), cx)).await;
        assert_eq!(start.elapsed(), Duration::from_secs(5), "as it was set before");
        poll_fn(|cx| alarm.poll(at(8), cx)).await;
        assert_eq!(start.elapsed(), Duration::from_secs(8));
        poll_fn(|cx| alarm.poll(at(2), cx)).await; // past
        assert_eq!(start.elapsed(), Duration::from_secs(8));
    }
}
