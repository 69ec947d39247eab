use super::*;
use crate::unbooked::Absence;

const MS: u64 = 1_000_000;

fn hold(token: u64, asked: u64, from: u64, until: u64) -> Hold {
    Hold {
        process: 1,
        id: format!("00000000000000aa:{token}/100"),
        units: 1,
        token,
        asked: asked * MS,
        from: from * MS,
        sure_until: until * MS,
        unsure_from: u64::MAX,
        removed: u64::MAX,
        until: Some(until * MS),
        how: "done".to_owned(),
        read: false,
    }
}

fn found(mut book: Book, holds: impl IntoIterator<Item = Hold>) -> Vec<String> {
    book.holds = holds.into_iter().enumerate().map(|(n, hold)| ((1, n as u64), hold)).collect();
    let mut found = Vec::new();
    // In two steps: what is found must not depend on where they meet.
    book.judge(0, 50 * MS, &mut found);
    book.judge(50 * MS, 10_000 * MS, &mut found);
    found
}

#[test]
fn who_comes_as_another_goes_is_not_one_too_many_and_who_comes_before_is() {
    let first = hold(1, 10, 20, 60);
    assert_eq!(found(Book::new("b", 1), [first.clone(), hold(2, 30, 60, 80)]), [""; 0]);
    let found = found(Book::new("b", 1), [first, hold(2, 30, 59, 80)]);
    assert!(matches!(&found[..], [one] if one.contains("2 units held at once")), "{found:?}");
}

#[test]
fn a_limit_that_was_lowered_binds_those_who_ask_later_only() {
    let mut lowered = Book::new("b", 2);
    lowered.limit(40 * MS, 1);
    let first = hold(1, 10, 20, 90);
    assert_eq!(found(lowered, [first.clone(), hold(2, 39, 70, 90)]), [""; 0]);
    let mut lowered = Book::new("b", 2);
    lowered.limit(40 * MS, 1);
    assert_eq!(found(lowered, [first, hold(2, 41, 70, 90)]).len(), 1);
}

#[test]
fn a_hold_of_before_a_loss_is_left_out_for_a_lease_and_one_of_after_it_never() {
    let loss = || {
        let mut book = Book::new("b", 1);
        book.lose(Loss { from: 30 * MS, to: 31 * MS, to_us: 0 });
        book
    };
    let old = hold(1, 10, 20, 130);
    let new = hold(TOKEN_SLACK_US + 1, 25, 40, 120);
    assert_eq!(found(loss(), [old.clone(), new.clone()]), [""; 0]);
    let at_once = hold(TOKEN_SLACK_US + 2, 50, 60, 70);
    assert_eq!(found(loss(), [old, new.clone(), at_once]).len(), 1);
    let goes_on = Hold { until: Some(140 * MS), ..hold(1, 10, 20, 140) };
    let longer = Hold { until: Some(140 * MS), ..new };
    assert_eq!(found(loss(), [goes_on, longer]).len(), 1);
}

#[test]
fn what_is_over_the_limit_is_measured_while_it_is_excused_and_found_else() {
    let killed = |from: u64, to: u64| {
        let mut book = Book::new("b", 1);
        book.excuse(from * MS, Cause { kind: "killed", forgets_numbers: false });
        book.end_of_excuse(to * MS, to * MS);
        book.holds.insert((1, 1), hold(1, 10, 20, 90));
        book.holds.insert((1, 2), hold(2, 30, 40, 70));
        let (mut found, mut sum) = (Vec::new(), Excess::default());
        // In two steps, and the second one begins in the midst of it.
        book.judge(0, 50 * MS, &mut found);
        book.judge(50 * MS, 10_000 * MS, &mut found);
        book.take_excess().into_iter().for_each(|(_, excess)| sum.add(excess));
        (found.len(), sum)
    };
    let thirty =
        Excess { times: 1, most_units: 1, longest: 30 * MS, total: 30 * MS, ..Excess::default() };
    assert_eq!(killed(25, 80), (0, thirty));
    // It goes on after all know what was lost.
    assert_eq!(killed(25, 60), (1, thirty));
    assert_eq!(killed(75, 80), (1, Excess::default()));
}

#[test]
fn who_is_unbooked_is_left_out_and_nobody_else() {
    let lacked = |id: &str| {
        let absence =
            Absence { from: 25 * MS, until: 80 * MS, kind: "overtaken", is_excused: true };
        let mut book = Book::new("b", 1);
        book.unbooked.add(id, absence);
        book
    };
    let (first, second) = (hold(1, 10, 20, 90), hold(2, 30, 40, 70));
    assert_eq!(found(lacked(&first.id), [first.clone(), second.clone()]), [""; 0]);
    assert_eq!(found(lacked("another"), [first.clone(), second]).len(), 1);
    // The second one goes on when the first one is in the books again.
    let found = found(lacked(&first.id), [first, hold(2, 30, 40, 85)]);
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn a_token_that_comes_twice_or_falls_is_found() {
    let wide = || Book::new("b", 9);
    let (first, later) = (hold(5, 10, 20, 30), 21);
    assert_eq!(found(wide(), [first.clone(), hold(6, later, 40, 50)]), [""; 0]);
    // Asked for before the first was seen: either order is right.
    assert_eq!(found(wide(), [first.clone(), hold(4, 15, 40, 50)]), [""; 0]);
    assert_eq!(found(wide(), [first.clone(), hold(4, later, 40, 50)]).len(), 1);
    assert_eq!(found(wide(), [first, hold(5, 15, 40, 50)]).len(), 1);
}

#[test]
fn a_token_that_falls_is_measured_where_numbers_were_forgotten_and_found_else() {
    for (forgets_numbers, tokens_to, count) in [(true, 60, 0), (true, 20, 1), (false, 60, 1)] {
        let mut book = Book::new("b", 9);
        book.excuse(15 * MS, Cause { kind: "given up", forgets_numbers });
        book.end_of_excuse(80 * MS, tokens_to * MS);
        let holds = [hold(5, 10, 20, 30), hold(4, 21, 40, 50)];
        assert_eq!(found(book, holds).len(), count, "{forgets_numbers} {tokens_to}");
    }
}

#[test]
fn who_is_kicked_and_believes_for_longer_than_a_lease_is_found() {
    let kicked = |until| {
        let mut book = Book::new("b", 1);
        let kick = Kick { from: 30 * MS, to: 31 * MS, hit: true, at_once: false };
        book.kicks.insert("00000000000000aa:1/100".to_owned(), kick);
        found(book, [hold(1, 10, 20, until)])
    };
    assert_eq!(kicked(131), [""; 0]);
    assert_eq!(kicked(132).len(), 1);
}
