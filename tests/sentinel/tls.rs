//! TLS to the primary, to the sentinels, or to both.

use std::time::Duration;

use test_support::sentinel::{MASTER, SentinelDeployment};
use test_support::wait::{PATIENCE, within};
use zset_semaphore::{Client, ConnectError, StoreErrorKind};

use crate::common::certificates::Certificates;
use crate::{leaves, takes_turns_at};

fn certificates() -> Certificates {
    // Another test of this process may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Certificates::make()
}

/// A client that has more time: TLS of a debug build is slow.
async fn connect(url: &str, certificates: &Certificates) -> Result<Client, ConnectError> {
    let builder = Client::builder().url(url).tls_root_certificate(certificates.root.as_bytes());
    builder.call_timeout(Duration::from_secs(10)).connect().await
}

// Behaviour 74
#[tokio::test]
async fn tls_leads_to_the_sentinels_and_to_each_new_primary() {
    let certificates = certificates();
    let builder = SentinelDeployment::builder().replicas(1).sentinels(1);
    let deployment = builder.tls(certificates.directory()).start().await;
    let url = deployment.url().replace("redis+", "rediss+");
    let client = connect(&url, &certificates).await.unwrap();
    takes_turns_at(&deployment, 0, &client).await;
    deployment.sentinels[0].fail_over().await;
    leaves(&deployment, 0, &client).await;

    // Nobody who is not trusted is talked to.
    match within(PATIENCE, Client::connect(&url)).await.unwrap_err() {
        ConnectError::Store(error) => {
            println!("{error}");
            assert_eq!(error.kind(), StoreErrorKind::Disconnected, "{error}");
            assert!(error.to_string().contains("certificate"), "{error}");
        }
        other => panic!("expected Store, got {other:?}"),
    }
}

// Behaviour 74
#[tokio::test]
async fn sentinels_without_tls_lead_to_a_primary_with_tls() {
    let certificates = certificates();
    let builder = SentinelDeployment::builder().replicas(0).sentinels(1);
    let deployment = builder.tls_of_servers(certificates.directory()).start().await;
    let sentinel = deployment.sentinels[0].addr();
    let url = format!("rediss+sentinel://{sentinel}/{MASTER}?sentinel_tls=no");
    let client = connect(&url, &certificates).await.unwrap();
    takes_turns_at(&deployment, 0, &client).await;
    // With TLS to the sentinel, too, nothing comes of it.
    let url = format!("rediss+sentinel://{sentinel}/{MASTER}");
    assert!(connect(&url, &certificates).await.is_err());
}
