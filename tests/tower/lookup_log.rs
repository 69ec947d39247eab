//! The log lines for limits that cannot be looked up.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use tower::{Layer, ServiceExt, service_fn};
use tracing::Level;
use zset_semaphore::Client;
use zset_semaphore::tower::{KeyLimit, Keyed, ZSetSemaphoreLayer};

use crate::common::log::Log;

#[tokio::test(start_paused = true)]
async fn look_ups_that_fail_are_told_by_one_line_and_their_end_by_one_with_the_count() {
    let (log, _guard) = Log::of_this_thread(|metadata| metadata.target().contains("lookup"));
    let fails = Arc::new(AtomicBool::new(false));
    let failures = Arc::new(AtomicU64::new(0));
    let limit = {
        let (fails, failures) = (Arc::clone(&fails), Arc::clone(&failures));
        KeyLimit::lookup(move |_| {
            let failed = fails.load(SeqCst);
            failures.fetch_add(failed.into(), SeqCst);
            async move { if failed { Err(io::Error::other("no database")) } else { Ok(1) } }
        })
    };
    let key = |key: &u32| Some(key.to_string());
    let keyed = Keyed::builder(&Client::in_memory(), "plans", key, limit).build().unwrap();
    let layer = ZSetSemaphoreLayer::keyed(keyed).release_on_response();
    let service = layer.layer(service_fn(async |key: u32| Ok::<_, Infallible>(key)));
    // Twenty tenants, who ask once in ten seconds, for ten minutes.
    let ten_minutes = async || {
        for _ in 0..60 {
            for tenant in 0..20 {
                service.clone().oneshot(tenant).await.unwrap();
            }
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
    };
    ten_minutes().await;
    assert_eq!(log.take(), []);
    for _ in 0..2 {
        fails.store(true, SeqCst);
        ten_minutes().await;
        let [(Level::WARN, warning)] = &log.take()[..] else { panic!("not one warning") };
        assert!(warning.contains("limit=\"plans\"") && warning.contains("error=no database"));
        fails.store(false, SeqCst);
        ten_minutes().await;
        let [(Level::INFO, end)] = &log.take()[..] else { panic!("not one end") };
        let count = failures.swap(0, SeqCst);
        assert!(count > 100 && end.contains(&format!("failures={count} ")), "{count}: {end}");
    }
}
