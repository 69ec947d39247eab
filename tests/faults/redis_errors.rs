//! What Redis can answer instead of a reply: each is an error that names its cause, and passes or does not.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually, ms, within};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use zset_semaphore::{
    AcquireError, Client, ConnectError, ControlError, StoreError, StoreErrorKind, TryAcquireError,
    ZSetSemaphore,
};

fn semaphore(url: &str) -> ZSetSemaphore {
    let client = Client::builder().url(url).call_timeout(ms(300)).build().unwrap();
    client.semaphore("jobs", 4).build().unwrap()
}

async fn refused_try(semaphore: &ZSetSemaphore) -> StoreError {
    match within(PATIENCE, semaphore.try_acquire(1)).await {
        Err(TryAcquireError::Unavailable(error)) => error,
        other => panic!("expected Unavailable, got {other:?}"),
    }
}

/// What `acquire` says that the store refused for good.
async fn refused(semaphore: &ZSetSemaphore) -> StoreError {
    match within(PATIENCE, semaphore.acquire(1)).await {
        Err(AcquireError::Refused(error)) => error,
        other => panic!("expected Refused, got {other:?}"),
    }
}

async fn refused_connect(url: &str) -> StoreError {
    match within(PATIENCE, Client::connect(url)).await {
        Err(ConnectError::Store(error)) => error,
        other => panic!("expected a StoreError, got {other:?}"),
    }
}

#[track_caller]
fn names(error: &StoreError, kind: StoreErrorKind, code: &str) {
    assert_eq!(error.kind(), kind, "{error}");
    // The redis crate writes some codes in its own way, as in "ReadOnly".
    let told = error.to_string().to_uppercase();
    assert!(told.contains(code), "{error} does not name {code}");
}

/// Trouble that passes: who tries is told what it is, who waits gets a permit once it has passed.
async fn is_ridden_out(
    semaphore: &ZSetSemaphore,
    kind: StoreErrorKind,
    code: &str,
    heal: impl AsyncFnOnce(),
) {
    let error = refused_try(semaphore).await;
    names(&error, kind, code);
    assert!(error.is_transient());

    let timed_out = within(PATIENCE, semaphore.acquire(1).timeout(ms(100))).await;
    match timed_out {
        Err(AcquireError::Timeout { outage: Some(outage), waited, .. }) => {
            names(&outage, kind, code);
            assert!(waited >= ms(100));
        }
        other => panic!("expected a Timeout that tells the outage, got {other:?}"),
    }

    let waiter = tokio::spawn(semaphore.acquire(1));
    let errors = refused_try(semaphore).await;
    assert_eq!(errors.kind(), kind);
    assert!(!waiter.is_finished(), "the waiter did not ride it out");
    heal().await;
    let permit = within(PATIENCE, waiter).await.unwrap().unwrap();
    assert!(!permit.is_lost());
    // What was tried meanwhile left nothing behind.
    eventually("one permit is held", PATIENCE, async || {
        semaphore.inspect().await.is_ok_and(|books| (books.in_use, books.waiters_total) == (1, 0))
    })
    .await;
}

// Behaviour 40
#[tokio::test]
async fn a_replica_is_named_and_ridden_out_until_it_is_promoted() {
    let server = RedisServer::start().await;
    let semaphore = semaphore(&server.url());
    drop(semaphore.acquire(1).await.unwrap());
    server.cmd(&["REPLICAOF", "127.0.0.1", "1"]).await;
    is_ridden_out(&semaphore, StoreErrorKind::ReadOnly, "READONLY", async || {
        server.cmd(&["REPLICAOF", "NO", "ONE"]).await;
    })
    .await;
}

// Behaviour 40
#[tokio::test]
async fn a_full_server_is_named_and_ridden_out() {
    let server = RedisServer::start().await;
    let semaphore = semaphore(&server.url());
    drop(semaphore.acquire(1).await.unwrap());
    server.cmd(&["CONFIG", "SET", "maxmemory", "1"]).await;
    is_ridden_out(&semaphore, StoreErrorKind::OutOfMemory, "OOM", async || {
        server.cmd(&["CONFIG", "SET", "maxmemory", "0"]).await;
    })
    .await;
}

// Behaviour 40
#[tokio::test]
async fn a_server_that_cannot_save_is_named_and_ridden_out() {
    let server = RedisServer::start().await;
    let semaphore = semaphore(&server.url());
    drop(semaphore.acquire(1).await.unwrap());

    // A directory where the dump should go.
    let [_, directory]: [String; 2] = server.query(&["CONFIG", "GET", "dir"]).await;
    std::fs::create_dir(format!("{directory}/dump.rdb")).unwrap();
    server.cmd(&["CONFIG", "SET", "save", "3600 1"]).await;
    server.cmd(&["BGSAVE"]).await;
    eventually("saving has failed", PATIENCE, async || {
        let info: String = server.query(&["INFO", "persistence"]).await;
        info.contains("rdb_last_bgsave_status:err")
    })
    .await;

    is_ridden_out(&semaphore, StoreErrorKind::CannotPersist, "MISCONF", async || {
        server.cmd(&["CONFIG", "SET", "stop-writes-on-bgsave-error", "no"]).await;
    })
    .await;
}

// Behaviour 40
#[tokio::test]
async fn a_server_that_loads_its_data_is_named_and_ridden_out() {
    let server = RedisServer::builder().debug_command().start().await;
    let semaphore = semaphore(&server.url());
    drop(semaphore.acquire(1).await.unwrap());
    // A load of seconds, during which it answers after every 2 MB.
    server.cmd(&["DEBUG", "POPULATE", "2000", "key", "20000"]).await;
    server.cmd(&["CONFIG", "SET", "rdbcompression", "no"]).await;
    server.cmd(&["CONFIG", "SET", "key-load-delay", "1000"]).await;
    let mut connection = server.connection().await;
    let reload = tokio::spawn(async move {
        redis::cmd("DEBUG").arg("RELOAD").query_async::<()>(&mut connection).await
    });
    eventually("the server is loading", PATIENCE, async || {
        let info: String = server.query(&["INFO", "persistence"]).await;
        info.contains("\nloading:1")
    })
    .await;
    is_ridden_out(&semaphore, StoreErrorKind::NotReady, "LOADING", async || {
        let _ = reload.await.unwrap();
    })
    .await;
}

// Behaviour 40
#[tokio::test]
async fn a_wrong_or_missing_password_is_named_at_once() {
    let server = RedisServer::builder().password("right").start().await;
    let url = |credentials: &str| format!("redis://{credentials}{}", server.addr());
    for (credentials, code) in
        [("", "NOAUTH"), (":wrong@", "WRONGPASS"), ("nobody:right@", "WRONGPASS")]
    {
        let error = refused_connect(&url(credentials)).await;
        names(&error, StoreErrorKind::Authentication, code);
        assert!(error.is_final());

        let semaphore = semaphore(&url(credentials));
        names(&refused(&semaphore).await, StoreErrorKind::Authentication, code);
        names(&refused_try(&semaphore).await, StoreErrorKind::Authentication, code);
        match semaphore.inspect().await {
            Err(ControlError::Unavailable(error)) => {
                names(&error, StoreErrorKind::Authentication, code);
            }
            other => panic!("expected Unavailable, got {other:?}"),
        }
    }
    Client::connect(server.url()).await.unwrap();
}

// Behaviour 40
#[tokio::test]
async fn a_password_changed_under_a_waiter_ends_it_with_the_cause() {
    let server = RedisServer::start().await;
    server.cmd(&["ACL", "SETUSER", "app", "on", ">old", "allkeys", "allchannels", "+@all"]).await;
    let semaphore = semaphore(&format!("redis://app:old@{}", server.addr()));
    let _all = semaphore.acquire(4).await.unwrap();
    let waiter = tokio::spawn(semaphore.acquire(1));
    eventually("one waits", PATIENCE, async || {
        semaphore.inspect().await.unwrap().waiters_total == 1
    })
    .await;
    server.cmd(&["ACL", "SETUSER", "app", "resetpass", ">new"]).await;
    server.cmd(&["CLIENT", "KILL", "USER", "app"]).await;
    match within(PATIENCE, waiter).await.unwrap() {
        Err(AcquireError::Refused(error)) => {
            names(&error, StoreErrorKind::Authentication, "WRONGPASS");
        }
        other => panic!("expected Refused, got {other:?}"),
    }
}

// Behaviour 40
#[tokio::test]
async fn a_user_who_may_not_is_told_so_at_once() {
    let server = RedisServer::start().await;
    let user = ["ACL", "SETUSER", "app", "on", ">pw", "~other:*", "allchannels", "+@all"];
    server.cmd(&user).await;
    let semaphore = semaphore(&format!("redis://app:pw@{}", server.addr()));
    names(&refused(&semaphore).await, StoreErrorKind::NotPermitted, "NOPERM");
    names(&refused_try(&semaphore).await, StoreErrorKind::NotPermitted, "NOPERM");
    server.cmd(&["ACL", "SETUSER", "app", "-evalsha", "~*"]).await;
    names(&refused(&semaphore).await, StoreErrorKind::NotPermitted, "NOPERM");
    server.cmd(&["ACL", "SETUSER", "app", "+evalsha"]).await;
    drop(within(PATIENCE, semaphore.acquire(1)).await.unwrap());
}

// Behaviour 40
#[tokio::test]
async fn a_key_of_another_program_is_named_at_once_and_left_alone() {
    let server = RedisServer::start().await;
    let semaphore = semaphore(&server.url());
    for key in ["permits", "queue", "meta"] {
        let key = format!("zsem:{{jobs}}:{key}");
        // At once: what the last round gave up is still being handed back.
        let script = "redis.call('FLUSHALL') redis.call('SET', KEYS[1], 'precious')";
        server.cmd(&["EVAL", script, "1", &key]).await;
        names(&refused(&semaphore).await, StoreErrorKind::WrongType, "WRONGTYPE");
        names(&refused_try(&semaphore).await, StoreErrorKind::WrongType, "WRONGTYPE");
        let left: String = server.query(&["GET", &key]).await;
        assert_eq!(left, "precious");
        assert_eq!(server.keys().await, [key], "nothing else was written");
    }
    server.cmd(&["FLUSHALL"]).await;
    let all = within(PATIENCE, semaphore.acquire(4)).await.unwrap();
    // Who lives matters to those who have to wait, and only to them.
    let clients = "zsem:{jobs}:clients";
    server.cmd(&["SET", clients, "precious"]).await;
    names(&refused(&semaphore).await, StoreErrorKind::WrongType, "WRONGTYPE");
    let left: String = server.query(&["GET", clients]).await;
    assert_eq!(left, "precious");
    assert_eq!(server.keys().await.len(), 3, "nobody queued");
    server.cmd(&["DEL", clients]).await;
    drop(all);
    drop(within(PATIENCE, semaphore.acquire(1)).await.unwrap());
}

/// A server that greets as Redis does, and answers each EVALSHA with one and the same line.
struct Stub {
    addr: SocketAddr,
    answer: Arc<Mutex<String>>,
}

impl Stub {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let answer: Arc<Mutex<String>> = Arc::default();
        let says = Arc::clone(&answer);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Self::serve(stream, Arc::clone(&says)));
            }
        });
        Self { addr, answer }
    }

    async fn serve(stream: TcpStream, answer: Arc<Mutex<String>>) {
        let mut stream = BufReader::new(stream);
        while let Some(command) = read_command(&mut stream).await {
            let reply = match command[0].to_uppercase().as_str() {
                "HELLO" => "%1\r\n+proto\r\n:3\r\n".to_owned(),
                "SUBSCRIBE" => ">3\r\n+subscribe\r\n+c\r\n:1\r\n".to_owned(),
                "EVALSHA" => answer.lock().unwrap().clone() + "\r\n",
                _ => "+OK\r\n".to_owned(),
            };
            if stream.write_all(reply.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

async fn read_command(stream: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|length| *length > 0)?;
    let count: usize = line.trim().strip_prefix('*')?.parse().ok()?;
    let mut words = Vec::new();
    for _ in 0..count {
        line.clear();
        stream.read_line(&mut line).await.ok()?;
        let length: usize = line.trim().strip_prefix('$')?.parse().ok()?;
        let mut word = vec![0; length + 2];
        stream.read_exact(&mut word).await.ok()?;
        words.push(String::from_utf8_lossy(&word[..length]).into_owned());
    }
    Some(words)
}

// Behaviours 40, 54
#[tokio::test]
async fn the_code_of_an_error_decides_and_its_text_never() {
    use StoreErrorKind as Kind;
    let stub = Stub::start().await;
    let semaphore = semaphore(&format!("redis://{}", stub.addr));
    for (answer, kind) in [
        ("-READONLY ja", Kind::ReadOnly),
        ("-OOM ja", Kind::OutOfMemory),
        ("-MISCONF ja", Kind::CannotPersist),
        ("-LOADING ja", Kind::NotReady),
        ("-BUSY ja", Kind::NotReady),
        ("-MASTERDOWN ja", Kind::NotReady),
        ("-CLUSTERDOWN ja", Kind::NotReady),
        ("-TRYAGAIN ja", Kind::NotReady),
        ("-NOAUTH ja", Kind::Authentication),
        ("-NOPERM ja", Kind::NotPermitted),
        ("-WRONGTYPE ja", Kind::WrongType),
        ("-NOSCRIPT ja", Kind::Server),
        ("-ERR READONLY OOM MISCONF LOADING NOAUTH NOPERM WRONGTYPE NOSCRIPT", Kind::Server),
        ("-ERR user_script: WRONGTYPE Operation against a key", Kind::Server),
        ("+NOSCRIPT", Kind::Protocol),
        ("*0", Kind::Protocol),
        ("_", Kind::Protocol),
    ] {
        answer.clone_into(&mut stub.answer.lock().unwrap());
        // A connection given up for the last error must be there again: the first try may find none.
        eventually(&format!("{answer} is {kind:?}"), PATIENCE, async || {
            refused_try(&semaphore).await.kind() == kind
        })
        .await;
        let told = if refused_try(&semaphore).await.is_final() {
            refused(&semaphore).await
        } else {
            match semaphore.acquire(1).timeout(ms(150)).await {
                Err(AcquireError::Timeout { outage: Some(error), .. }) => error,
                other => panic!("{answer}: {other:?}"),
            }
        };
        assert_eq!(told.kind(), kind, "{answer}");
    }
}

/// Another program, of a newer version, has written the data since.
const MAKE_NEWER: &str = "
    local state = redis.call('HGET', KEYS[1], 'state')
    redis.call('HSET', KEYS[1], 'state', '\\2' .. string.sub(state, 2))";

// Behaviour 40
#[tokio::test]
async fn data_of_a_newer_version_ends_waits_at_once_and_the_server_is_left_alone() {
    let server = RedisServer::start().await;
    let semaphore = semaphore(&server.url());
    let permit = semaphore.acquire(4).await.unwrap();
    let waiter = tokio::spawn(semaphore.acquire(1));
    eventually("it waits", PATIENCE, async || {
        semaphore.inspect().await.unwrap().waiters_total == 1
    })
    .await;
    server.cmd(&["EVAL", MAKE_NEWER, "1", "zsem:{jobs}:meta"]).await;

    names(&refused_try(&semaphore).await, StoreErrorKind::NewerSchema, "NEWERSCHEMA");
    match within(PATIENCE, waiter).await.unwrap() {
        Err(AcquireError::Refused(error)) => {
            names(&error, StoreErrorKind::NewerSchema, "SCHEMA 2");
            assert!(error.is_final());
        }
        other => panic!("expected Refused, got {other:?}"),
    }
    names(&refused(&semaphore).await, StoreErrorKind::NewerSchema, "UPGRADE");

    // The release of the permit is said again, but not all the time.
    drop(permit);
    server.reset_stats().await;
    tokio::time::sleep(ms(1_000)).await;
    let calls = server.calls("evalsha").await;
    assert!(calls <= 20, "{calls} calls in a second");
}
