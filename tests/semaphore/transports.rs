//! Every way to a server: TCP, a unix socket, TLS, a user and database of the URL.

use test_support::redis_server::RedisServer;
use zset_semaphore::{Client, Released};

/// Takes and gives back, and says under which keys the server counted.
async fn use_once(client: &Client, name: &str) {
    let semaphore = client.semaphore(name, 1).build().unwrap();
    let permit = semaphore.acquire(1).await.unwrap();
    assert!(semaphore.try_acquire(1).await.is_err());
    assert_eq!(permit.release().await.unwrap(), Released::Freed);
}

#[tokio::test]
async fn tcp_and_unix_socket_lead_to_the_same_count() {
    let server = RedisServer::start().await;
    let tcp = Client::connect(server.url()).await.unwrap();
    let unix = Client::connect(server.unix_url()).await.unwrap();
    use_once(&tcp, "shared").await;
    use_once(&unix, "shared").await;

    let held = tcp.semaphore("shared", 1).build().unwrap().acquire(1).await.unwrap();
    assert!(unix.semaphore("shared", 1).build().unwrap().try_acquire(1).await.is_err());
    drop(held);
}

#[tokio::test]
async fn the_database_of_the_url_is_used() {
    let server = RedisServer::start().await;
    let client = Client::connect(format!("{}/3", server.url())).await.unwrap();
    use_once(&client, "elsewhere").await;
    assert_eq!(server.keys().await, Vec::<String>::new());
    let mut connection = server.connection().await;
    redis::cmd("SELECT").arg(3).query_async::<()>(&mut connection).await.unwrap();
    let mut keys: Vec<String> =
        redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
    keys.sort();
    assert_eq!(keys, ["zsem:{elsewhere}:clients", "zsem:{elsewhere}:meta"]);
}

#[tokio::test]
async fn user_and_password_come_from_the_url_or_the_builder() {
    let server = RedisServer::builder().password("door").start().await;
    server.cmd(&["ACL", "SETUSER", "gate", "on", ">key", "~*", "&*", "+@all"]).await;
    let by_url = format!("redis://gate:key@{}", server.addr());
    use_once(&Client::connect(by_url).await.unwrap(), "a").await;
    let builder = Client::builder().url(format!("redis://{}", server.addr()));
    use_once(&builder.credentials("gate", "key").connect().await.unwrap(), "b").await;
}

#[tokio::test]
async fn two_prefixes_share_nothing() {
    let server = RedisServer::start().await;
    let client = |prefix: &str| Client::builder().url(server.url()).prefix(prefix).connect();
    let (one, two) = (client("one:").await.unwrap(), client("two:").await.unwrap());
    let held = one.semaphore("same", 1).build().unwrap().acquire(1).await.unwrap();
    use_once(&two, "same").await;
    let keys = server.keys().await;
    assert!(keys.iter().any(|key| key == "one:{same}:permits"), "{keys:?}");
    assert!(
        keys.iter().all(|key| key.starts_with("one:{same}:") || key.starts_with("two:{same}:"))
    );
    drop(held);
}

#[cfg(feature = "tls-rustls")]
mod tls {
    use std::net::TcpListener;

    use zset_semaphore::ConnectError;

    use crate::common::certificates::Certificates;

    use super::*;

    async fn start(certificates: &Certificates, mutual: bool) -> (RedisServer, String) {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = RedisServer::builder()
            .tcp(false)
            .arg("--tls-port")
            .arg(port.to_string())
            .arg("--tls-cert-file")
            .arg(certificates.path("server.pem"))
            .arg("--tls-key-file")
            .arg(certificates.path("server.key"))
            .arg("--tls-ca-cert-file")
            .arg(certificates.path("root.pem"))
            .arg("--tls-auth-clients")
            .arg(if mutual { "yes" } else { "no" })
            .start()
            .await;
        (server, format!("rediss://localhost:{port}"))
    }

    #[tokio::test]
    async fn tls_verifies_the_server_and_shows_a_client_certificate() {
        let certificates = Certificates::make();
        let (_server, url) = start(&certificates, true).await;

        let error = Client::connect(&url).await.unwrap_err();
        let ConnectError::Config(error) = error else { panic!("{error}") };
        assert!(error.to_string().contains("CryptoProvider"), "{error}");
        rustls::crypto::ring::default_provider().install_default().unwrap();

        let builder = || Client::builder().url(&url);
        assert!(builder().connect().await.is_err(), "a certificate of nobody was trusted");
        let trusting = || builder().tls_root_certificate(certificates.root.as_bytes());
        assert!(trusting().connect().await.is_err(), "a client without a certificate got in");
        let client = trusting()
            .tls_client_certificate(
                certificates.client.as_bytes(),
                certificates.client_key.as_bytes(),
            )
            .connect()
            .await
            .unwrap();
        use_once(&client, "secret").await;

        let error = trusting().tls_client_certificate("rubbish", "rubbish").build().unwrap_err();
        assert_eq!(error.field(), "TLS certificate");
    }
}
