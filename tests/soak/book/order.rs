//! Whether tokens rise, and whether those who are kicked know it in time.

use super::Book;

impl Book {
    pub(super) fn read_tokens(&mut self, to: u64, found: &mut Vec<String>) {
        let mut unread: Vec<_> =
            self.holds.values_mut().filter(|h| !h.read && h.from <= to).collect();
        unread.sort_unstable_by_key(|hold| hold.from);
        for hold in unread {
            hold.read = true;
            let token = hold.token;
            let seen = (hold.from, hold.id.clone());
            if let Some((_, other)) = self.tokens.insert(token, seen)
                && !self.excuses.excuses_token(hold.asked, hold.from)
            {
                found.push(format!(
                    "{}: token {token} given twice: {other}, {}",
                    self.name, hold.id
                ));
            }
            let before = self.highest.partition_point(|&(from, _)| from < hold.asked);
            let earlier = before.checked_sub(1).map_or(0, |index| self.highest[index].1);
            if earlier >= token && !self.excuses.excuses_token(hold.asked, hold.from) {
                let other = self.tokens.get(&earlier).map_or("?", |(_, id)| id);
                found.push(format!(
                    "{}: token {token} of {} is not above {earlier} of {other}, seen before that was asked for",
                    self.name, hold.id
                ));
            }
            let highest = self.highest.last().map_or(0, |&(_, token)| token);
            self.highest.push((hold.from, highest.max(token)));
        }
    }

    /// Who holds when it is kicked knows it at the next renewal, so within a lease. One who has not heard of its grant may
    /// ask again when that has expired, and be granted afresh.
    pub(super) fn read_kicks(&mut self, to: u64, found: &mut Vec<String>) {
        for hold in self.holds.values() {
            let (Some(until), Some(kick)) = (hold.until, self.kicks.get(&hold.id)) else {
                continue;
            };
            let latest = kick.to.saturating_add(hold.lease()); // a kick may have no known end
            // Data that is lost is lost with its marks. And who has not heard yet that `meta` was lost is put back under a
            // new incarnation, whatever removed it: he may have heard of the old one up to a lease ago.
            let lost = self.losses.iter().any(|loss| loss.to > kick.from && loss.from < until);
            let unheard = kick.from.saturating_sub(hold.lease());
            let healed =
                kick.at_once && self.meta_lost.iter().any(|&at| unheard < at && at < until);
            let held = kick.hit && hold.from <= kick.from;
            if held && !lost && !healed && until > latest && until <= to {
                let ms = |ns: u64| (i128::from(ns) - i128::from(kick.to)) as f64 / 1e6;
                found.push(format!(
                    "{}: {} of process {} was kicked{} and believed longer than a lease (ms after the kick): \
                     asked {:+.3}, held {:+.3} .. {:+.3} ({}); `meta` lost {:+.3?}",
                    self.name,
                    hold.id,
                    hold.process,
                    if kick.at_once { " at once" } else { "" },
                    ms(hold.asked),
                    ms(hold.from),
                    ms(until),
                    hold.how,
                    self.meta_lost.iter().rev().take(3).map(|&at| ms(at)).collect::<Vec<_>>()
                ));
            }
        }
    }
}
