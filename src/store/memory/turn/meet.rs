//! Meets the server: compares the server that runs this turn with the one that `meta` remembers.
//!
//! A server that takes over may have older data than clients were told. `lua/turn/meet.lua` says what follows.

use crate::numbers::{Incarnation, Millis, Seq};
use crate::store::Meeting;
use crate::store::bounds::CLOCKS_DIFFER;
use crate::store::memory::meta::KeptServer;

use super::RunningTurn;

impl RunningTurn<'_> {
    /// `is_new` is whether `meta` was just made; `is_behind`, whether it did not know a number that the caller
    /// has seen.
    pub(super) fn meet(&mut self, is_new: bool, is_behind: bool) {
        let kept = self.meta().server;
        let mut ends = kept.map_or(0, |kept| kept.grace_ends);
        if self.turn.meets.is_some() || is_behind && !is_new {
            let keeps = self.compare(kept, is_new, is_behind);
            self.meta().server = Some(keeps);
            ends = keeps.grace_ends;
        }
        let is_under_way = ends > self.now_ms;
        if is_under_way {
            self.grace_ends = ends;
            self.needed_until = self.needed_until.max(ends);
        }
        self.meta().grace = is_under_way;
    }

    /// Returns what `meta` keeps from now on.
    fn compare(&mut self, kept: Option<KeptServer>, is_new: bool, is_behind: bool) -> KeptServer {
        let present = self.reply.incarnation;
        let none = Meeting { known: Some(present), grace: Millis::new(0), server: None };
        let Meeting { known, grace, server: told } = self.turn.meets.unwrap_or(none);
        let before = kept.and_then(|kept| kept.server);
        let server = match (before, told.map(|told| told.id)) {
            // The caller may have asked another server, where a proxy stands between.
            (Some(before), Some(told)) if before != told => self.state.host.or(Some(told)),
            (before, told) => told.or(before),
        };
        let other = before.is_some() && server != before;
        let longest = kept.map_or(grace, |kept| kept.longest.max(grace));
        if !is_new && (other || is_behind && known >= Some(present)) {
            self.begin_incarnation();
            let (since, grace_ends) = (self.now_ms, self.now_ms + longest.get());
            return KeptServer { server, since, longest: grace, grace_ends };
        }
        let started = told.map_or(0, |told| self.now_ms.saturating_sub(told.up.get()));
        let since = kept.map_or(started, |kept| kept.since);
        let ends = kept.map_or(0, |kept| kept.grace_ends);
        KeptServer { server, since, longest, grace_ends: ends.max(since + longest.get()) }
    }

    fn begin_incarnation(&mut self) {
        // The numbers that were lost may be of a clock that was ahead of this one.
        let ahead = Seq::new(self.now + CLOCKS_DIFFER.get() * 1000);
        self.last = ahead.max(Some(Seq::after(self.last)));
        self.reply.incarnation = Incarnation::at(Seq::or_zero(self.last));
        self.meta().incarnation = self.reply.incarnation;
    }
}
