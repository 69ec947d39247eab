//! The end of a process that leaves nothing behind.

use std::time::Duration;

use tokio::time::sleep;
use zset_semaphore::Client;

use super::Result;

/// How long streams may go on after ctrl-c or SIGTERM; Kubernetes kills after 30 s.
const GRACE: Duration = Duration::from_secs(10);

/// Resolves at ctrl-c or SIGTERM.
pub(crate) async fn terminated() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut term) = signal(SignalKind::terminate()) {
            tokio::select! { _ = term.recv() => {}, _ = tokio::signal::ctrl_c() => {} }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}

/// Runs `server`, which stops to listen when [`terminated`] resolves, to its end.
///
/// Requests that are queued at that time are turned away, to try another server. Streams have
/// [`GRACE`] to end. Redis knows of all releases when this returns: otherwise the last streams would
/// count until their leases end.
pub(crate) async fn serve_until_drained<E>(
    server: impl Future<Output = Result<(), E>>,
    client: &Client,
) -> Result<()>
where
    E: Into<super::BoxError>,
{
    let drain = async {
        terminated().await;
        client.shutdown().await
    };
    let out_of_grace = async {
        terminated().await;
        sleep(GRACE).await;
    };
    tokio::select! {
        (ended, drained) = async { tokio::join!(server, drain) } => {
            ended.map_err(Into::into)?;
            drained?;
        }
        () = out_of_grace => client.shutdown_now().await?,
    }
    Ok(())
}

/// Runs a show to its end, or until the process is told to end.
///
/// Redis knows of all releases when this returns.
pub(crate) async fn show_until_terminated<T>(
    show: impl Future<Output = Result<T>>,
    client: &Client,
) -> Result<T> {
    let verdict = tokio::select! {
        biased;
        () = terminated() => Err("stopped before the end".into()),
        verdict = show => verdict,
    };
    client.shutdown_now().await?;
    verdict
}
