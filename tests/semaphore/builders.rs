//! What was said to a builder stays in force, whatever is said after it.

use std::fmt::Debug;
use std::time::Duration;

use http::StatusCode;
use zset_semaphore::tower::{
    Answer, Keyed, KeyedBuilder, OutagePolicy, ReleaseOnResponse, WatchBody, ZSetSemaphoreLayer,
};
use zset_semaphore::{Backoff, Client, ClientBuilder, MemoryStore, Renew, SemaphoreBuilder, Wake};

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// What a builder has been told so far.
fn said(builder: impl Debug) -> String {
    format!("{builder:?}")
}

/// Says each two of these one after the other, in either order: both must be in force, as if either
/// had been said alone.
macro_rules! any_two_in_any_order {
    ($type:ty = $start:expr; $($method:ident($($arg:expr),*)),+ $(,)?) => {{
        let setters = [$((stringify!($method), (|b| b.$method($($arg),*)) as fn($type) -> $type)),+];
        for (first, one) in &setters {
            for (second, other) in setters.iter().filter(|(name, _)| name != first) {
                let both = said(other(one($start)));
                assert_eq!(both, said(one(other($start))), "{first} and {second} in either order");
                assert_ne!(both, said(other($start)), "{first} is lost when {second} is said");
                assert_ne!(both, said(one($start)), "{second} has no effect after {first}");
            }
        }
    }};
}

/// The steps that change the type of a layer.
macro_rules! step {
    (answer $layer:expr) => {
        $layer.answer()
    };
    (end $layer:expr) => {
        $layer.end_when_lost()
    };
    (end_and_answer $layer:expr) => {
        $layer.end_when_lost().answer()
    };
    (head $layer:expr) => {
        $layer.release_on_response()
    };
}

/// Says each of these before and after such a step.
macro_rules! before_and_after {
    ($step:ident; $($method:ident($($arg:expr),*)),+ $(,)?) => {$({
        let what = stringify!($method);
        let after = said(step!($step layer()).$method($($arg),*));
        assert_eq!(said(step!($step layer().$method($($arg),*))), after, "{what}");
        assert_ne!(said(step!($step layer())), after, "{what} has no effect");
    })+};
}

fn layer() -> ZSetSemaphoreLayer {
    ZSetSemaphoreLayer::new(Client::in_memory().semaphore("chats", 4).build().unwrap())
}

#[test]
fn semaphores() {
    let client = Client::in_memory();
    any_two_in_any_order!(
        SemaphoreBuilder = client.semaphore("jobs", 4);
        lease(secs(5)), renew(Renew::Manual), max_hold(secs(9)), max_queue(3), wake(Wake::Poll),
        backoff(Backoff::fixed(secs(2)).jitter(0.1)), label("gateway"), failover_grace(secs(7)),
    );
}

#[test]
fn clients() {
    any_two_in_any_order!(
        ClientBuilder = Client::builder();
        credentials("user", "secret"), prefix("a:"), call_timeout(secs(2)), label("gateway"),
    );
}

/// Of the two places the last one counts.
#[test]
fn a_client_keeps_its_count_where_it_was_told_last() {
    let place = |client: Client| {
        let all = said(client);
        all[all.find("store").unwrap()..].to_owned()
    };
    let (memory, url) = (MemoryStore::new(), "redis://127.0.0.1:1");
    let redis = place(Client::builder().url(url).build().unwrap());
    assert_ne!(place(Client::with_memory(&memory)), redis);
    let both = Client::builder().memory(&memory).prefix("a:").url(url).build().unwrap();
    assert_eq!(place(both), redis);
    let both = Client::builder().url(url).memory(&memory).build().unwrap();
    assert_eq!(place(both), place(Client::with_memory(&memory)));
}

#[test]
fn keyed_limits() {
    let client = Client::in_memory();
    type Key = fn(&u32) -> Option<String>;
    let key: Key = |_| None;
    any_two_in_any_order!(
        KeyedBuilder<Key> = Keyed::builder(&client, "plans", key, 1);
        capacity(5), idle_timeout(secs(7)), refresh_after(secs(8)),
    );
}

#[test]
fn layers() {
    any_two_in_any_order!(
        ZSetSemaphoreLayer = layer();
        timeout(secs(5)), total_timeout(secs(6)), max_queue(3), outage_policy(OutagePolicy::FailOpen),
        outage_after(secs(7)), cooldown_on_429(secs(8)),
    );
    any_two_in_any_order!(
        ZSetSemaphoreLayer<WatchBody> = layer().end_when_lost();
        timeout(secs(5)), total_timeout(secs(6)), max_queue(3), outage_policy(OutagePolicy::FailOpen),
        outage_after(secs(7)), cooldown_on_429(secs(8)),
    );
    any_two_in_any_order!(
        ZSetSemaphoreLayer<ReleaseOnResponse> = layer().release_on_response();
        timeout(secs(5)), total_timeout(secs(6)), max_queue(3), outage_policy(OutagePolicy::FailOpen),
        outage_after(secs(7)), end_when_lost(),
    );
    any_two_in_any_order!(
        ZSetSemaphoreLayer<Answer> = layer().answer();
        timeout(secs(5)), total_timeout(secs(6)), max_queue(3), outage_policy(OutagePolicy::FailOpen),
        outage_after(secs(7)), cooldown_on_429(secs(8)), end_when_lost(), add_limit_headers(), read_ahead(9),
        status(StatusCode::TOO_MANY_REQUESTS), answer_with(|_, _, answer| answer),
    );
}

#[test]
fn layers_that_change_their_type_on_the_way() {
    before_and_after!(
        answer;
        timeout(secs(5)), total_timeout(secs(6)), max_queue(3), outage_policy(OutagePolicy::FailOpen),
        outage_after(secs(7)), cooldown_on_429(secs(8)), end_when_lost(), weight(|_: &()| 1),
        exempt(|_: &()| true),
    );
    before_and_after!(
        end;
        timeout(secs(5)), total_timeout(secs(6)), max_queue(3), outage_policy(OutagePolicy::FailOpen),
        outage_after(secs(7)), cooldown_on_429(secs(8)), weight(|_: &()| 1), exempt(|_: &()| true),
    );
    before_and_after!(
        end_and_answer;
        timeout(secs(5)), total_timeout(secs(6)), max_queue(3), outage_policy(OutagePolicy::FailOpen),
        outage_after(secs(7)), cooldown_on_429(secs(8)), weight(|_: &()| 1), exempt(|_: &()| true),
    );
    before_and_after!(
        head;
        timeout(secs(5)), total_timeout(secs(6)), max_queue(3), outage_policy(OutagePolicy::FailOpen),
        outage_after(secs(7)), weight(|_: &()| 1), exempt(|_: &()| true),
    );
}
