//! The list of the names in use.

use std::time::Duration;

use test_support::redis_server::RedisServer;
use zset_semaphore::{Client, ControlError, MemoryStore, StoreErrorKind};

use crate::common::stores::Place;

async fn listed(client: &Client) -> Vec<String> {
    let found = client.names(|_| true).await.unwrap();
    assert!(found.complete);
    found.names
}

#[tokio::test]
async fn names_with_holders_waiters_or_an_override_are_listed_in_order_and_no_others() {
    for place in Place::each().await {
        let client = place.client();
        assert_eq!(listed(&client).await, Vec::<String>::new());
        let full = client.semaphore("jobs [1] *", 1).build().unwrap();
        let _held = full.acquire(1).await.unwrap();
        let shut = client.semaphore("chats", 0).build().unwrap();
        let waiter = tokio::spawn(shut.acquire(1));
        let paused = client.semaphore("a:b", 3).build().unwrap();
        paused.set_limit(0).await.unwrap();
        while shut.inspect().await.unwrap().waiters_total == 0 {
            tokio::task::yield_now().await;
        }
        client.semaphore("never used", 3).build().unwrap();
        if let Place::Redis(server) = &place {
            server.cmd(&["HSET", "zsem:no-braces:meta", "a", "b"]).await;
            server.cmd(&["HSET", "other:{jobs}:meta", "a", "b"]).await;
        }
        let other = place.client();
        assert_eq!(listed(&other).await, ["a:b", "chats", "jobs [1] *"]);
        let some = other.names(|name| name.contains('s')).await.unwrap();
        assert_eq!(some.names, ["chats", "jobs [1] *"]);
        waiter.abort();
    }
}

#[tokio::test]
async fn a_prefix_with_the_characters_of_patterns_lists_its_own_names_alone() {
    let server = RedisServer::start().await;
    for (prefix, name) in [("app[1]*:", "mine"), ("app1x:", "theirs"), (r"a\b?:", "odd")] {
        let client = Client::builder().url(server.url()).prefix(prefix).build().unwrap();
        client.semaphore(name, 1).build().unwrap().set_limit(2).await.unwrap();
        assert_eq!(listed(&client).await, [name], "{prefix}");
    }
}

#[tokio::test]
async fn a_list_ends_with_ten_thousand_names_and_says_so() {
    let server = RedisServer::start().await;
    let many = "for i = 1, 10001 do \
                redis.call('HSET', string.format('zsem:{%05d}:meta', i), 'a', 'b') end";
    server.cmd(&["EVAL", many, "0"]).await;
    let client = Client::open(server.url()).unwrap();
    let found = client.names(|_| true).await.unwrap();
    assert_eq!((found.names.len(), found.complete), (10_000, false));
    let found = client.names(|name| name != "00005").await.unwrap();
    assert_eq!((found.names.len(), found.complete), (10_000, true));
    assert!(found.names.is_sorted());
}

#[tokio::test]
async fn a_list_that_the_server_refuses_or_does_not_answer_is_an_error() {
    let mut server = RedisServer::start().await;
    server.cmd(&["ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all", "-scan"]).await;
    let url = format!("redis://app:pw@{}", server.addr());
    let refused = Client::open(url).unwrap().names(|_| true).await.unwrap_err();
    let ControlError::Unavailable(error) = &refused else { panic!("{refused:?}") };
    assert_eq!(error.kind(), StoreErrorKind::NotPermitted);
    assert!(refused.to_string().contains("listing the names"), "{refused}");

    let client = Client::builder().url(server.url()).call_timeout(Duration::from_millis(200));
    let client = client.connect().await.unwrap();
    server.freeze();
    let silent = client.names(|_| true).await.unwrap_err();
    server.thaw();
    assert!(
        matches!(&silent, ControlError::Unavailable(error) if error.kind() == StoreErrorKind::Timeout),
        "{silent:?}"
    );
}

#[test]
fn outside_of_a_runtime_a_list_is_an_error() {
    let client = Client::with_memory(&MemoryStore::new());
    let mut list = std::pin::pin!(client.names(|_| true));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let polled = list.as_mut().poll(&mut context);
    assert!(matches!(polled, std::task::Poll::Ready(Err(ControlError::NoRuntime))));
}
