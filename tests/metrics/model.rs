//! Random lives of permits and waiters: whenever nothing moves, the gauges show what a simple model counts.

use std::future::Future;
use std::pin::Pin;

use fastrand::Rng;
use futures_util::FutureExt;
use metrics::with_local_recorder;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually, ms, within};
use tokio::time::sleep;
use zset_semaphore::metrics::{
    HELD_SECONDS, HELD_UNITS, IN_USE_UNITS, LIMIT_UNITS, LOST_TOTAL, QUEUE_LENGTH, WAITERS,
};
use zset_semaphore::{Client, LostReason, MemoryStore, Permit, Renew, ZSetSemaphore};

use crate::common::recorder::Record;

const STEPS: u32 = 60;

type Waiting = Pin<Box<dyn Future<Output = Option<Permit>>>>;

/// One client, and what its callers hold and wait for.
struct Process {
    record: &'static Record,
    client: Client,
    semaphores: Vec<ZSetSemaphore>,
    permits: Vec<Permit>,
    waiting: Vec<Waiting>,
}

impl Process {
    fn new(client: impl FnOnce() -> Client) -> Self {
        let (record, _guard) = Record::of_this_thread();
        let client = client();
        let renewing = client.semaphore("jobs", 4).lease(ms(30_000)).build().unwrap();
        let brief = client.semaphore("jobs", 4).lease(ms(400)).renew(Renew::Manual);
        let semaphores = vec![renewing, brief.build().unwrap()];
        Self { record, client, semaphores, permits: Vec::new(), waiting: Vec::new() }
    }

    /// The metrics of the name get another label.
    fn change_label(&mut self) {
        let labelled = self.client.semaphore("jobs", 4).metrics_name("work");
        self.semaphores.push(with_local_recorder(self.record, || labelled.build().unwrap()));
    }

    /// Looks at all futures.
    fn poll(&mut self) {
        let permits = &mut self.permits;
        self.waiting.retain_mut(|waiting| match waiting.as_mut().now_or_never() {
            Some(end) => {
                permits.extend(end);
                false
            }
            None => true,
        });
    }

    fn acquire(&mut self, random: &mut Rng) {
        let Some(semaphore) = random.choice(&self.semaphores) else { return };
        let units = random.u32(1..=3);
        self.waiting.push(match random.u8(..4) {
            0 => Box::pin(semaphore.try_acquire(units).map(Result::ok)),
            1 => Box::pin(semaphore.acquire(units).timeout(ms(50)).map(Result::ok)),
            _ => Box::pin(semaphore.acquire(units).map(Result::ok)),
        });
        if random.bool() {
            self.poll();
        }
    }

    /// Somebody comes or goes. Nobody looks at what that grants.
    async fn live(&mut self, random: &mut Rng, may_kick: bool) {
        match random.u8(..12) {
            0..5 if self.waiting.len() < 6 => self.acquire(random),
            5..8 if !self.permits.is_empty() => {
                drop(self.permits.swap_remove(random.usize(..self.permits.len())));
            }
            8 if !self.waiting.is_empty() => {
                drop(self.waiting.swap_remove(random.usize(..self.waiting.len())));
            }
            9 if may_kick && !self.permits.is_empty() => {
                let permit = &self.permits[random.usize(..self.permits.len())];
                let _ = self.semaphores[0].kick(permit.id()).await; // it may be lost already
            }
            10 => sleep(ms(random.u64(..450))).await,
            _ => {}
        }
    }

    /// Units held, and waiters. A kicked permit counts until its holder gives it back.
    fn model(&self) -> [f64; 2] {
        let is_held = |permit: &&Permit| {
            permit.lost().now_or_never().is_none_or(|reason| reason == LostReason::Kicked)
        };
        let held: u32 = self.permits.iter().filter(is_held).map(Permit::units).sum();
        [held.into(), self.waiting.len() as f64]
    }

    /// The sum over all labels.
    fn shown(&self, metric: &str) -> f64 {
        let gauges = self.record.gauges().into_iter();
        gauges.filter(|(series, _)| series.starts_with(metric)).map(|(_, value)| value).sum()
    }

    /// What differs from the model, if anything does.
    fn difference(&mut self) -> Option<String> {
        self.poll();
        let (shown, model) = ([HELD_UNITS, WAITERS].map(|it| self.shown(it)), self.model());
        let cluster = [IN_USE_UNITS, QUEUE_LENGTH, LIMIT_UNITS].map(|it| self.shown(it));
        let is_idle_and_tells = model == [0.0; 2] && cluster != [0.0; 3];
        (shown != model || is_idle_and_tells)
            .then(|| format!("{shown:?} and {cluster:?} are shown, {model:?} are there"))
    }

    /// As [`difference`](Self::difference), of a store in memory. A permit whose lease ends just now is lost at once, but
    /// timers are up to a millisecond late.
    async fn settled_difference(&mut self) -> Option<String> {
        for _ in 0..3 {
            sleep(ms(1)).await;
            self.difference()?;
        }
        self.difference()
    }

    /// A kicked permit is given back before its lease ends, which would end it, too.
    fn drop_kicked(&mut self) {
        let kicked =
            |it: &Permit| it.lost().now_or_never().is_some_and(|it| it == LostReason::Kicked);
        self.permits.retain(|permit| !kicked(permit));
    }

    fn drop_all(&mut self) {
        self.semaphores.clear();
        self.permits.clear();
        self.waiting.clear();
    }

    /// Each loss has counted as the end of a permit, and once.
    fn check_losses(&self) {
        let losses: u64 = self.record.counts(LOST_TOTAL).values().sum();
        let ends = self.record.observed(HELD_SECONDS).into_iter();
        let lost = ends.filter(|(labels, _)| labels.ends_with(" lost")).map(|(_, count)| count);
        assert_eq!(losses, lost.sum::<u64>());
    }
}

#[tokio::test(start_paused = true)]
async fn in_memory_the_gauges_show_what_is_there_whenever_nothing_moves() {
    for seed in 0..150 {
        let mut random = Rng::with_seed(seed);
        let memory = MemoryStore::new();
        let mut processes = [0, 1].map(|_| Process::new(|| Client::with_memory(&memory)));
        for step in 0..STEPS {
            let which = random.usize(..2);
            processes[which].live(&mut random, true).await;
            if step == STEPS / 2 && random.bool() {
                processes[which].change_label();
            }
            processes.iter_mut().for_each(Process::poll);
            for process in &mut processes {
                assert_eq!(process.settled_difference().await, None, "seed {seed}, step {step}");
                process.drop_kicked();
            }
        }
        for process in &mut processes {
            end(process, &mut random).await;
            assert_eq!(process.settled_difference().await, None, "seed {seed}, at the end");
            process.drop_all();
            assert_eq!(process.settled_difference().await, None, "seed {seed}, all is dropped");
            process.check_losses();
        }
    }
}

/// Ends a client in one of several ways, or not at all.
async fn end(process: &mut Process, random: &mut Rng) {
    match random.u8(..4) {
        0 => process.client.shutdown_now().await.unwrap(),
        1 => process.semaphores[0].close(),
        2 => {
            process.permits.clear();
            process.client.shutdown().await.unwrap();
        }
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_server_that_comes_and_goes_the_gauges_show_what_is_there_whenever_nothing_moves() {
    let mut random = Rng::with_seed(7);
    let mut server = RedisServer::start().await;
    let url = server.url().to_owned();
    let mut processes = [0, 1].map(|_| Process::new(|| Client::open(url.as_str()).unwrap()));
    let mut is_up = true;
    for step in 0..2 * STEPS {
        if random.u8(..10) == 0 {
            match is_up {
                true => server.kill(),
                false => server.restart().await,
            }
            is_up = !is_up;
        }
        processes[random.usize(..2)].live(&mut random, is_up).await;
        for process in &mut processes {
            let what = format!("step {step}, while the server is up: {is_up}");
            eventually(&what, PATIENCE, async || process.difference().is_none()).await;
            process.drop_kicked();
        }
    }
    for process in &mut processes {
        process.drop_all();
        eventually("all is 0", PATIENCE, async || process.difference().is_none()).await;
        process.check_losses();
        within(PATIENCE, process.client.shutdown_now()).await.ok();
    }
}
