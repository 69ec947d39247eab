//! How a holder goes on, and what it believes meanwhile.

use std::sync::atomic::Ordering;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, sleep, timeout};
use zset_semaphore::{LostReason, Permit};

use crate::book::nanos;
use crate::names::{Kind, MAX_HOLD};
use crate::reports::Event;
use crate::scene::ms;
use crate::worker::Worker;
use test_support::belief::local_deadline;
use test_support::ledger::monotonic_nanos;

/// How often a holder looks at its permit.
const LOOK: Duration = Duration::from_millis(10);

impl Worker {
    pub async fn hold(
        &self,
        permit: Permit,
        asked: u64,
        task: u32,
        holding: Duration,
        kind: Kind,
        random: &mut Rng,
    ) {
        let from = monotonic_nanos();
        let Some(sure_until) = local_deadline(&permit) else {
            let why = "lost before it was looked at".to_owned();
            return self.reporter.tell(&Event::Missed { task, why });
        };
        let hold = self.next_hold.fetch_add(1, Ordering::Relaxed);
        self.reporter.tell(&Event::Entered {
            task,
            hold,
            id: permit.id().to_string(),
            units: permit.units(),
            token: permit.fencing_token(),
            from,
            sure_until,
            // The longest hold counts from when the grant was heard of, which was after it was asked for.
            most: if kind == Kind::Bounded { asked + nanos(MAX_HOLD) } else { u64::MAX },
        });
        let extends = kind == Kind::Manual && random.u32(..4) > 0;
        let belief = Belief { hold, last_seen: from, sure_until };
        let (until, how) = self.believe(&permit, belief, Instant::now() + holding, extends).await;
        let lost = how != "done";
        self.reporter.tell(&Event::Left { hold, until, how });
        self.give_back(permit, lost, random).await;
    }

    /// Until when the holder believed for certain, and how it ended.
    async fn believe(
        &self,
        permit: &Permit,
        mut belief: Belief,
        end: Instant,
        extends: bool,
    ) -> (u64, String) {
        let lease = permit.id().lease();
        let mut extend_at = Instant::now() + lease / 3;
        loop {
            let now = monotonic_nanos();
            let Some(deadline) = local_deadline(permit) else {
                let reason = permit.lost().await;
                return (belief.lost(reason, now), format!("{reason:?}"));
            };
            belief.last_seen = now;
            if deadline > belief.sure_until {
                belief.sure_until = deadline;
                let hold = belief.hold;
                self.reporter.tell(&Event::Renewed { hold, sure_until: deadline });
            }
            if Instant::now() >= end || *self.stop.borrow() {
                return (now, "done".to_owned());
            }
            if extends && Instant::now() >= extend_at {
                extend_at = Instant::now() + lease / 3;
                // Bounded, so that its end is looked for.
                let _ = timeout(lease / 3, permit.extend(lease)).await;
            } else {
                tokio::select! {
                    biased;
                    _ = permit.lost() => {}
                    () = sleep(LOOK.min(end.saturating_duration_since(Instant::now()))) => {}
                }
            }
        }
    }

    async fn give_back(&self, permit: Permit, lost: bool, random: &mut Rng) {
        match random.u32(..4) {
            0 => {
                let how = match permit.release().await {
                    Ok(released) => format!("release: {released:?}"),
                    Err(error) => format!("release: {error:?}"),
                };
                if !lost {
                    self.reporter.count(how);
                }
            }
            1 => {
                let watch = permit.handle();
                let _ = timeout(ms(random, 0..20), watch.release()).await;
            }
            // Outside of any task.
            2 => drop(tokio::task::spawn_blocking(move || drop(permit)).await),
            _ => drop(permit),
        }
    }
}

struct Belief {
    hold: u64,
    /// The last instant at which `is_lost()` said no.
    last_seen: u64,
    /// The last deadline noted: it would have said no until then, by the clock.
    sure_until: u64,
}

impl Belief {
    /// Until when it was believed for certain, when it was seen at `now` that it is lost.
    fn lost(&self, reason: LostReason, now: u64) -> u64 {
        match reason {
            // By the clock, at the deadline noted or a later one.
            LostReason::Expired | LostReason::RenewalTimeout => {
                self.last_seen.max(self.sure_until).min(now)
            }
            // By a word, which may have come at once after the last look.
            _ => self.last_seen,
        }
    }
}
