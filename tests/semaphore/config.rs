//! Bad input: refused before anything happens, in a sentence that says what was wrong and what is allowed.

use std::time::Duration;

use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, ms, within};
use zset_semaphore::{
    AcquireError, Backoff, Client, ClientBuilder, ConfigError, ConnectError, ExtendError,
    SemaphoreBuilder, StoreErrorKind, TryAcquireError,
};

const SECRET: &str = "hunter2";

#[track_caller]
fn names(error: &ConfigError, field: &str, value: &str, allowed: &str) {
    assert_eq!(error.field(), field);
    assert!(error.value().contains(value), "{:?} is not {value:?}", error.value());
    assert!(error.allowed().contains(allowed), "{:?} is not {allowed:?}", error.allowed());
    let told = error.to_string();
    assert!(told.contains(field), "{told:?} does not name the field {field:?}");
    assert!(told.contains(value), "{told:?} does not name the value {value:?}");
    assert!(told.contains(allowed), "{told:?} does not say {allowed:?}");
    assert!(told.len() < 400, "{told:?} is too long to be read");
}

#[track_caller]
fn refused_client(builder: ClientBuilder) -> ConfigError {
    match builder.build() {
        Err(error) => error,
        Ok(client) => panic!("accepted: {client:?}"),
    }
}

#[track_caller]
fn refused(change: impl FnOnce(SemaphoreBuilder) -> SemaphoreBuilder) -> ConfigError {
    match change(Client::in_memory().semaphore("jobs", 4)).build() {
        Err(error) => error,
        Ok(semaphore) => panic!("accepted: {semaphore:?}"),
    }
}

// Issue 2: bad input gets a clear error
#[test]
fn a_wrong_url_is_refused_with_what_is_allowed() {
    for (url, shown) in [
        ("", ""),
        ("redis//host", "***"),
        ("nonsense", "***"), // it may be a password
        ("host:6379", "host:6379"),
        ("http://host", "http://host"),
        ("redis://host:99999", "redis://host:***"),
        ("redis://host/x", "redis://host/***"),
    ] {
        let error = refused_client(Client::builder().url(url));
        names(&error, "url", shown, "redis://[user][:password@]host[:port][/db]");
        names(&Client::open(url).unwrap_err(), "url", shown, "unix:///path");
    }
}

// Issue 2: bad input gets a clear error
#[tokio::test]
async fn connecting_with_a_wrong_setting_names_it_too() {
    match Client::connect("nonsense://host").await.unwrap_err() {
        ConnectError::Config(error) => names(&error, "url", "nonsense://host", "redis://"),
        other => panic!("expected Config, got {other:?}"),
    }
}

// Issue 2: bad input gets a clear error
#[test]
fn a_wrong_setting_of_a_client_is_named_with_its_value_and_what_is_allowed() {
    let builder = Client::builder;
    for deadline in [Duration::ZERO, ms(9), Duration::from_secs(61), Duration::MAX] {
        let error = refused_client(builder().call_timeout(deadline));
        names(&error, "call_timeout", &format!("{deadline:?}"), "10 ms to 60 s");
    }
    for deadline in [ms(10), Duration::from_secs(60)] {
        builder().call_timeout(deadline).build().unwrap();
    }
    for prefix in ["", "a{b", "a}", "a\n", "a\0", &"x".repeat(65)] {
        let error = refused_client(builder().prefix(prefix));
        names(&error, "prefix", &format!("{prefix:?}"), "1 to 64 bytes");
    }
    let shown = format!("{:?}", "x".repeat(80));
    names(&refused_client(builder().prefix("x".repeat(9999))), "prefix", &shown, "1 to 64 bytes");
    for prefix in ["x", "prod:zsem:", "\u{1f980}:", &"x".repeat(64)] {
        builder().prefix(prefix).build().unwrap();
    }
    for label in ["a\nb", "\0", &"x".repeat(129)] {
        let error = refused_client(builder().label(label));
        let shown: String = label.chars().take(80).collect();
        names(&error, "label", &format!("{shown:?}"), "up to 128 bytes");
    }
    builder().label("x".repeat(128)).build().unwrap();
}

// Behaviour 4
#[test]
fn a_wrong_setting_of_a_semaphore_is_named_with_its_value_and_what_is_allowed() {
    for name in ["", "a{b}", "}", "line\nbreak", "nul\0", "tab\t", &"x".repeat(513)] {
        let error = Client::in_memory().semaphore(name, 4).build().unwrap_err();
        let shown: String = name.chars().take(80).collect();
        names(&error, "semaphore name", &format!("{shown:?}"), "1 to 512 bytes");
    }
    let long = Duration::from_secs(30 * 24 * 3600);
    for lease in [Duration::ZERO, ms(49), long + ms(1), Duration::MAX] {
        let error = refused(|builder| builder.lease(lease));
        names(&error, "lease", &format!("{lease:?}"), "50 ms to 30 days");
    }
    for lease in [ms(50), long] {
        Client::in_memory().semaphore("jobs", 4).lease(lease).build().unwrap();
    }
    let error = refused(|builder| builder.failover_grace(long + ms(1)));
    names(&error, "failover_grace", &format!("{:?}", long + ms(1)), "up to 30 days");
    for grace in [Duration::ZERO, long] {
        Client::in_memory().semaphore("jobs", 4).failover_grace(grace).build().unwrap();
    }
    let error = refused(|builder| builder.max_hold(Duration::ZERO));
    names(&error, "max_hold", "0ns", "more than 0");
    let error = refused(|builder| builder.label("a\u{7}b"));
    names(&error, "label", "a\\u{7}b", "without control characters");
    let error = refused(|builder| builder.backoff(Backoff::default().jitter(-0.5)));
    names(&error, "backoff jitter", "-0.5", "from 0 to 1");
    let error = refused(|builder| {
        builder.backoff(Backoff::exponential(ms(1), f64::NAN, Duration::from_secs(1)))
    });
    names(&error, "backoff factor", "NaN", "1 or more");
}

// Issue 2: bad input loses nothing
#[tokio::test]
async fn a_refused_handle_leaves_the_others_of_its_name_as_they_were() {
    let client = Client::in_memory();
    let jobs = client.semaphore("jobs", 2).build().unwrap();
    let held = jobs.acquire(1).await.unwrap();
    client.semaphore("jobs", 100).lease(ms(1)).build().unwrap_err();
    let second = jobs.acquire(1).await.unwrap();
    let full = jobs.try_acquire(1).await.unwrap_err();
    assert!(matches!(full, TryAcquireError::Full { in_use: 2, limit: 2, .. }), "{full:?}");
    drop((held, second));
}

// Behaviour 12, issue 2
#[tokio::test]
async fn a_wrong_number_of_units_or_lease_is_a_typed_error_at_once() {
    let jobs = Client::in_memory().semaphore("jobs", 4).build().unwrap();
    assert!(matches!(jobs.acquire(0).await, Err(AcquireError::ZeroUnits)));
    assert!(matches!(jobs.try_acquire(0).await, Err(TryAcquireError::ZeroUnits)));
    for units in [5, u32::MAX] {
        match jobs.acquire(units).await.unwrap_err() {
            AcquireError::TooLarge { units: asked, limit: 4 } => assert_eq!(asked, units),
            other => panic!("expected TooLarge, got {other:?}"),
        }
        let error = jobs.try_acquire(units).await.unwrap_err();
        assert!(matches!(error, TryAcquireError::TooLarge { limit: 4, .. }), "{error:?}");
    }
    let permit = jobs.acquire(1).await.unwrap();
    match permit.extend(ms(49)).await.unwrap_err() {
        ExtendError::Config(error) => names(&error, "extend", "49ms", "50 ms to 30 days"),
        other => panic!("expected Config, got {other:?}"),
    }
    assert!(!permit.is_lost());
}

// Issue 2: refused connection
#[tokio::test]
async fn a_refused_connection_says_where_and_what_to_look_at() {
    let mut server = RedisServer::start().await;
    let url = server.url();
    server.kill();
    match within(PATIENCE, Client::connect(&url)).await.unwrap_err() {
        ConnectError::Store(error) => {
            assert_eq!(error.kind(), StoreErrorKind::Unreachable, "{error}");
            let told = error.to_string();
            assert!(told.contains(&server.addr().to_string()), "{told}");
            assert!(told.contains("is the server running"), "{told}");
        }
        other => panic!("expected Store, got {other:?}"),
    }
    // Lazily opened, it starts all the same, and works once the server does.
    let jobs = Client::open(&url).unwrap().semaphore("jobs", 1).build().unwrap();
    let error = within(PATIENCE, jobs.try_acquire(1)).await.unwrap_err();
    assert!(matches!(error, TryAcquireError::Unavailable(_)), "{error:?}");
    server.restart_empty().await;
    drop(within(PATIENCE, jobs.acquire(1)).await.unwrap());
}

// Issue 2: refused connection
#[tokio::test]
async fn a_host_or_socket_that_is_not_there_is_an_error_and_no_hang() {
    for url in ["redis://no-such-host.invalid", "unix:///no/such/socket"] {
        match within(PATIENCE, Client::connect(url)).await.unwrap_err() {
            ConnectError::Store(error) => assert!(error.is_transient(), "{error:?}"),
            other => panic!("expected Store, got {other:?}"),
        }
    }
}

// Issue 2: no secret is told
#[tokio::test]
async fn no_password_is_in_any_error_or_debug_text() {
    let server = RedisServer::builder().password("another").start().await;
    let addr = server.addr();
    let urls = [
        format!("redis://:{SECRET}@{addr}"),
        format!("redis://app:{SECRET}@{addr}/3"),
        format!("redis://app:{SECRET}@{addr}/not-a-number"),
        format!("redis://app:{SECRET}@:{SECRET}@{addr}"),
        format!("redis://app:{SECRET}@host:99999"),
        format!("rediss://app:{SECRET}@{addr}"),
        format!("http://app:{SECRET}@{addr}"),
        format!("app:{SECRET}@{addr}"),
        format!("unix:///no/such/socket?pass={SECRET}"),
        format!("redis+unix:///no/such/socket?user=app&pass={SECRET}"),
    ];
    let mut told = Vec::new();
    for url in &urls {
        let builder = Client::builder().url(url).call_timeout(ms(100));
        told.push(format!("{builder:?}"));
        match builder.clone().build() {
            Ok(client) => {
                let jobs = client.semaphore("jobs", 1).build().unwrap();
                told.push(format!("{client:?} {jobs:?} {:?}", jobs.acquire(1)));
                let error = jobs.acquire(1).timeout(ms(100)).await.unwrap_err();
                told.push(format!("{error} {error:?} {:?}", std::error::Error::source(&error)));
                let error = jobs.inspect().await.unwrap_err();
                told.push(format!("{error} {error:?} {:?}", std::error::Error::source(&error)));
                let error = builder.connect().await.unwrap_err();
                told.push(format!("{error} {error:?} {:?}", std::error::Error::source(&error)));
            }
            Err(error) => told.push(format!("{error} {error:?}")),
        }
    }
    let builder = Client::builder().url(format!("redis://{addr}")).credentials("app", SECRET);
    told.push(format!("{builder:?}"));
    let error = builder.connect().await.unwrap_err();
    told.push(format!("{error} {error:?}"));
    told.retain(|text| text.contains(SECRET));
    assert!(told.is_empty(), "a password is told: {told:#?}");
}

// Behaviour 87
#[test]
fn a_client_in_memory_has_no_replicas_to_wait_for() {
    let builder = Client::in_memory().semaphore("jobs", 1);
    let error = builder.clone().replicated(1).build().unwrap_err();
    assert_eq!((error.field(), error.value()), ("replicated", "1"));
    assert!(error.allowed().contains("in memory"), "{error}");
    builder.replicated(0).build().unwrap();
}
