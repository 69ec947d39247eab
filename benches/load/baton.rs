//! A process that hands one permit to and fro with another one: the child of
//! [`handover`](super::handover).

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, PushInfo, PushKind, Value};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use zset_semaphore::{Client, ZSetSemaphore};

use crate::support::child_role::{FromParent, say, setting};
use crate::support::ledger::monotonic_nanos;

pub(crate) const ROLE: &str = "baton";

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
    let baton = client.semaphore(setting("NAME"), 1).build().expect("a valid name");
    let mut floor = Floor::connect(&setting("URL"), &setting("OWN"), &setting("OTHER")).await;
    let hold = Duration::from_micros(setting("HOLD_US").parse().expect("a number"));
    let times: usize = setting("TIMES").parse().expect("a number");

    say("ready");
    from_parent.recv().await;
    let holds = pass_on(&baton, &mut floor, hold, times).await;
    for hold in holds {
        say(hold.to_line());
    }
    say("silence");
    // The other one may still send a message that it waits to see through.
    from_parent.recv().await;
    for latency in floor.heard() {
        say(format!("floor {latency}"));
    }
    say("silence");
    client.shutdown().await.expect("the server answers");
}

/// Holds it so often; asks again at once, and so waits for as long as the other one holds it.
async fn pass_on(
    baton: &ZSetSemaphore,
    floor: &mut Floor,
    hold: Duration,
    times: usize,
) -> Vec<Hold> {
    let mut holds = Vec::with_capacity(times);
    for time in 0..times {
        let asked = monotonic_nanos();
        let permit = baton.acquire(1).await.expect("nothing ends the wait");
        let (got, since) = (monotonic_nanos(), Instant::now());
        // In the middle, where both processes have been idle for about as long as at the end.
        sleep_until(since + hold / 2).await;
        floor.send().await;
        sleep_until(since + hold).await;

        let token = permit.fencing_token();
        let gave = monotonic_nanos();
        // Both ways to give back take turns.
        if time % 2 == 0 {
            permit.release().await.expect("the server answers");
        } else {
            drop(permit);
        }
        holds.push(Hold { token, asked, got, gave });
    }
    holds
}

/// What a hand-over cannot beat: PUBLISH in one process until a task of the other one has it.
struct Floor {
    connection: MultiplexedConnection,
    other: String,
    latencies: mpsc::UnboundedReceiver<u64>,
}

impl Floor {
    async fn connect(url: &str, own: &str, other: &str) -> Self {
        let (pushes, mut messages) = mpsc::unbounded_channel::<PushInfo>();
        let config = AsyncConnectionConfig::new().set_push_sender(pushes);
        let client = redis::Client::open(format!("{url}?protocol=resp3")).expect("the url");
        let mut connection =
            client.get_multiplexed_async_connection_with_config(&config).await.expect("connecting");
        connection.subscribe(own).await.expect("subscribing");

        let (heard, latencies) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(push) = messages.recv().await {
                let now = monotonic_nanos();
                if let Some(sent) = instant_in(&push) {
                    let _ = heard.send(now.saturating_sub(sent));
                }
            }
        });
        Self { connection, other: other.to_owned(), latencies }
    }

    async fn send(&mut self) {
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(&self.other).arg(monotonic_nanos());
        publish.query_async::<()>(&mut self.connection).await.expect("publishing");
    }

    fn heard(&mut self) -> Vec<u64> {
        std::iter::from_fn(|| self.latencies.try_recv().ok()).collect()
    }
}

fn instant_in(push: &PushInfo) -> Option<u64> {
    match (&push.kind, push.data.as_slice()) {
        (PushKind::Message, [_, Value::BulkString(text)]) => {
            std::str::from_utf8(text).ok()?.parse().ok()
        }
        _ => None,
    }
}
