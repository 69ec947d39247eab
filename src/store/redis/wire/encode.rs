//! A turn as the arguments of its script.

use std::fmt::Display;
use std::io::Write;

use crate::id::{DEFAULT_LEASE, PermitId};
use crate::numbers::{Epoch, Incarnation, Millis, Seq};
use crate::store::{Server, Turn, WhenFull};

use super::names::{self, Section};

/// Writes words as arguments, without an allocation for each.
pub(crate) struct Args<'a> {
    cmd: &'a mut redis::Cmd,
    text: Vec<u8>,
}

impl<'a> Args<'a> {
    pub(crate) fn new(cmd: &'a mut redis::Cmd) -> Self {
        Self { cmd, text: Vec::with_capacity(64) }
    }

    pub(in crate::store::redis) fn put(&mut self, word: impl Display) -> &mut Self {
        self.text.clear();
        let _ = write!(self.text, "{word}"); // a Vec takes all
        self.cmd.arg(self.text.as_slice());
        self
    }

    fn ids(&mut self, ids: impl Iterator<Item = PermitId>) {
        for id in ids {
            self.text.clear();
            id.write_to(&mut self.text);
            self.cmd.arg(self.text.as_slice());
        }
    }

    fn section(&mut self, section: &str, ids: &[PermitId]) {
        if !ids.is_empty() {
            self.put(section).put(ids.len());
            self.ids(ids.iter().copied());
        }
    }
}

/// Writes a turn, its sections in the order in which the script reads them. `server` is the one that the
/// connection leads to.
pub(crate) fn write_turn(args: &mut Args<'_>, turn: &Turn, server: Option<Server>) {
    args.put(turn.client).put(turn.limit).put(Seq::or_zero(turn.seen));
    if turn.epoch > Epoch::default() {
        args.put(Section::EPOCH).put(turn.epoch.get());
    }
    if let Some(meeting) = &turn.meets {
        let known = meeting.known.map_or(0, Incarnation::get);
        let server = meeting.server.or(server);
        let id = server.map_or(0, |server| server.id.get());
        args.put(Section::MEET).put(known).put(meeting.grace).put(id);
        args.put(server.map_or(Millis::new(0), |server| server.up));
    }
    if turn.declares {
        args.put(Section::DECLARE).put(&turn.label);
    }
    write_releases(args, turn);
    args.section(Section::CANCEL, &turn.cancel);
    write_renewals(args, turn);
    write_asks(args, turn);
    write_admits(args, turn);
}

fn write_releases(args: &mut Args<'_>, turn: &Turn) {
    let light = turn.release.partition_point(|id| id.units() == 1);
    let (light, heavy) = turn.release.split_at(light);
    if !light.is_empty() {
        args.put(Section::RELEASE_LIGHT).put(light.len()).put(Seq::or_zero(turn.release_from));
        args.ids(light.iter().copied());
    }
    args.section(Section::RELEASE_HEAVY, heavy);
}

fn write_renewals(args: &mut Args<'_>, turn: &Turn) {
    if !turn.renew.is_empty() {
        args.put(Section::GRANTED_UNDER).put(turn.incarnation.map_or(0, Incarnation::get));
    }
    for run in turn.renew.chunk_by(|(_, a), (_, b)| a == b) {
        args.put(Section::RENEW).put(run.len()).put(run[0].1);
        args.ids(run.iter().map(|&(id, _)| id));
    }
}

fn write_asks(args: &mut Args<'_>, turn: &Turn) {
    if !turn.ask.is_empty() {
        args.put(Section::ASK).put(turn.ask.len());
    }
    for ask in &turn.ask {
        args.put(ask.id).put(Seq::or_zero(ask.ticket));
        write_when_full(args, ask.when_full);
    }
}

fn write_admits(args: &mut Args<'_>, turn: &Turn) {
    for run in turn.admit.chunk_by(|a, b| kind(a) == kind(b)) {
        match kind(&run[0]) {
            (WhenFull::Wait, 1, DEFAULT_LEASE) => {
                args.put(Section::ADMIT_PLAIN).put(run.len());
            }
            (when_full, units, lease) => {
                args.put(Section::ADMIT_OTHER).put(run.len());
                write_when_full(args, when_full);
                args.put(units).put(lease);
            }
        }
        args.ids(run.iter().map(|&(id, _)| id));
    }
}

/// What the newcomers of one run have in common.
fn kind(&(id, when_full): &(PermitId, WhenFull)) -> (WhenFull, u32, Millis) {
    (when_full, id.units(), id.lease_ms())
}

fn write_when_full(args: &mut Args<'_>, when_full: WhenFull) {
    match when_full {
        WhenFull::Wait => args.put(names::WhenFull::WAIT),
        WhenFull::Refuse => args.put(names::WhenFull::REFUSE),
        WhenFull::WaitBehind(most) => args.put(most),
    };
}
