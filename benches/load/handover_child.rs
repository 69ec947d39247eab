//! A process that hands one permit to and fro with another one: the child of
//! [`handover`](super::handover).

use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use zset_semaphore::{Client, ZSetSemaphore};

use crate::handover_baselines::{Baseline, Baselines};
use test_support::child_role::{FromParent, say, setting};
use test_support::ledger::monotonic_nanos;

pub(crate) const ROLE: &str = "handover";

/// One hold, in nanoseconds of the clock that all processes share.
#[derive(Clone, Copy)]
pub(crate) struct Hold {
    pub(crate) token: u64,
    /// Just before `acquire`.
    pub(crate) asked: u64,
    /// When `acquire` had returned.
    pub(crate) got: u64,
    /// Just before the release.
    pub(crate) gave: u64,
}

impl Hold {
    fn to_line(self) -> String {
        format!("hold {} {} {} {}", self.token, self.asked, self.got, self.gave)
    }

    pub(crate) fn from_words(words: &str) -> Self {
        let mut numbers =
            words.split(' ').map(|word| word.parse().expect("holds are told in integers"));
        let mut next = || numbers.next().expect("a hold has four numbers");
        Self { token: next(), asked: next(), got: next(), gave: next() }
    }
}

pub(crate) async fn play(mut from_parent: FromParent) {
    let client = Client::connect(setting("URL")).await.expect("connecting");
    let semaphore = client.semaphore(setting("NAME"), 1).build().expect("a valid name");
    let baselines =
        Baselines::connect(&setting("BASELINES_URL"), &setting("OWN"), &setting("OTHER")).await;
    let hold = Duration::from_micros(setting("HOLD_US").parse().expect("a number"));
    let times: usize = setting("TIMES").parse().expect("a number");

    say("ready");
    from_parent.recv().await;
    // As requests and jobs are: tasks of the runtime, not its main future on a thread of its own.
    let passing = tokio::spawn(pass_on(semaphore, baselines, hold, times));
    let (holds, mut baselines) = passing.await.expect("it does not panic");
    for hold in holds {
        say(hold.to_line());
    }
    say("silence");
    // The other one may still send a message that it waits to see through.
    from_parent.recv().await;
    for (baseline, latency) in baselines.heard() {
        say(format!("baseline {} {latency}", baseline.label()));
    }
    say("silence");
    client.shutdown().await.expect("the server answers");
}

/// Holds it so often; asks again at once, and so waits for as long as the other one holds it.
async fn pass_on(
    semaphore: ZSetSemaphore,
    mut baselines: Baselines,
    hold: Duration,
    times: usize,
) -> (Vec<Hold>, Baselines) {
    let mut holds = Vec::with_capacity(times);
    for time in 0..times {
        let asked = monotonic_nanos();
        let permit = semaphore.acquire(1).await.expect("nothing ends the wait");
        let (got, since) = (monotonic_nanos(), Instant::now());
        // Both processes have been idle for half a hold before it, and again before the hand-over.
        sleep_until(since + hold / 2).await;
        baselines.send(BASELINES[time % BASELINES.len()]).await;
        sleep_until(since + hold).await;

        let token = permit.fencing_token();
        let gave = monotonic_nanos();
        // Both ways to give back take turns, and follow each of the baselines.
        if (time + time / BASELINES.len()).is_multiple_of(2) {
            permit.release().await.expect("the server answers");
        } else {
            drop(permit);
        }
        holds.push(Hold { token, asked, got, gave });
    }
    (holds, baselines)
}

/// One during each hold: two would warm each other's way through the processor. Most are those that hand-overs
/// are compared with.
const BASELINES: [Baseline; 8] = [
    Baseline::Try,
    Baseline::Try,
    Baseline::Publish,
    Baseline::Try,
    Baseline::Try,
    Baseline::Try,
    Baseline::List,
    Baseline::Try,
];
