//! The task of a place's driver: what it does each time it is polled, and when it is polled next.

mod landing;
mod moves;
mod sending;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::alarm::Alarm;
use super::answers::Answers;
use super::burst::Burst;
use super::cell::SemaphoreCell;
use super::connection::Connection;
use super::gathering::Gathering;
use super::loss_log::LossLog;
use super::place::Place;
use super::self_wakes::WithoutSelfWakes;
use super::shared::Shared;
use super::state::SemaphoreState;
use super::timers::Timers;

pub(super) struct Driver {
    shared: Arc<Shared>,
    place: Arc<Place>,
    connection: Connection,
    answers: Answers,
    /// What the replies of one poll cause.
    burst: Burst,
    /// Ready semaphores that wait until fewer turns are in flight.
    backlog: VecDeque<Arc<SemaphoreCell>>,
    gathering: Gathering,
    timers: Timers,
    alarm: Alarm,
    loss_log: LossLog,
    /// When the driver ends although not everything is given back, once no caller is left.
    give_up_at: Option<Instant>,
    /// When the place is closed, if no name uses it until then.
    close_at: Option<Instant>,
    /// How often names may have come to other places, as far as this driver has looked.
    moves: u64,
    /// Also for a task that its runtime drops before it was ever polled.
    guard: EndGuard,
}

/// Tells the end of the driver's task, also when its runtime drops it.
struct EndGuard {
    shared: Arc<Shared>,
    place: Arc<Place>,
    done: bool,
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.shared.driver_ended(&self.place, self.done);
    }
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>, place: Arc<Place>) -> Self {
        Self {
            guard: EndGuard { shared: Arc::clone(&shared), place: Arc::clone(&place), done: false },
            shared,
            connection: Connection::new(Arc::clone(&place)),
            place,
            answers: Answers::default(),
            burst: Burst::default(),
            backlog: VecDeque::new(),
            gathering: Gathering::default(),
            timers: Timers::default(),
            alarm: Alarm::default(),
            loss_log: LossLog::default(),
            give_up_at: None,
            close_at: None,
            moves: 0,
        }
    }

    pub(super) async fn run(mut self) {
        let poll = poll_fn(move |cx| {
            let end = self.poll(cx);
            self.burst.run();
            end
        });
        WithoutSelfWakes::new(poll).await;
    }

    /// Does all there is to do now. Ready once the driver has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_ready(cx);
        loop {
            self.poll_connection(cx);
            self.poll_answers(cx);
            if (self.shared.is_abandoned() && self.may_end()) || self.closes_unused() {
                self.loss_log.tell(&self.shared.address_of(&self.place));
                self.guard.done = true;
                return Poll::Ready(());
            }
            if self.alarm.poll(self.next_look(), cx).is_pending() {
                break;
            }
            self.fire();
        }
        if self.leaves_backlog() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Lets ready semaphores send what they have, unless more callers are about to speak.
    fn poll_ready(&mut self, cx: &mut Context<'_>) {
        let place = &self.place;
        if self.gathering.poll(|| place.has_ready(), cx).is_pending() {
            return; // not registered: callers need not wake the driver meanwhile
        }
        self.place.register(cx.waker());
        self.follow_moves();
        self.pump_ready();
    }

    /// Opens or replaces the connection, or moves its bytes.
    fn poll_connection(&mut self, cx: &mut Context<'_>) {
        let given_up = self.connection.lost_unasked(&self.shared) || self.heed_complaint();
        if given_up {
            let unanswered = self.take_in_last_answers(cx);
            self.connection_changed(unanswered);
        }
        while self.connection.poll(&self.shared, cx).is_ready() {
            let unanswered = self.take_in_last_answers(cx);
            self.connection_changed(unanswered);
        }
    }

    fn poll_answers(&mut self, cx: &mut Context<'_>) {
        let mut woken = 0;
        while let Poll::Ready(landed) = self.answers.poll(cx) {
            woken += landed.turn.callers;
            self.land(landed);
        }
        self.gathering.expect(woken);
        self.shared.notify_flushed();
    }

    /// True if the connection was given up for a failed call beside the turns.
    fn heed_complaint(&mut self) -> bool {
        let Some((session, error)) = self.place.take_complaint() else { return false };
        self.connection.failed(&self.shared, &session, &error)
    }

    /// Returns when there is work to do, if nothing happens before.
    fn next_look(&self) -> Option<Instant> {
        let (timer, log) = (self.timers.first(), self.loss_log.tell_at());
        let (check, open) = (self.answers.check_at(), self.connection.opens_at());
        [timer, check, open, self.give_up_at, self.close_at, log].into_iter().flatten().min()
    }

    /// Runs the timers that are due.
    fn fire(&mut self) {
        let now = Instant::now();
        for landed in self.answers.take_overdue(now, self.place.link().heard_at()) {
            self.land(landed);
        }
        if self.loss_log.tell_at().is_some_and(|at| at <= now) {
            self.loss_log.tell(&self.shared.address_of(&self.place));
        }
        while let Some(cell) = self.timers.pop_due(now) {
            cell.with(SemaphoreState::timer_fired);
            self.pump_soon(&cell);
        }
    }

    /// Nobody can ask for anything any more: ends once all is handed back, or when the store has
    /// been away, or has taken nothing back, for too long: then the leases must do it.
    fn may_end(&mut self) -> bool {
        if self.shared.has_ended() {
            return true; // the driver of another place was dropped
        }
        let now = Instant::now();
        let patience = self.shared.call_timeout * 2;
        let away = || {
            let since = self.place.link().unconnected_since();
            since.is_some_and(|since| now.saturating_duration_since(since) > patience)
        };
        if self.answers.is_empty() && (self.shared.registry().is_flushed(self.place.id()) || away())
        {
            return true;
        }
        now >= *self.give_up_at.get_or_insert(now + patience)
    }
}
