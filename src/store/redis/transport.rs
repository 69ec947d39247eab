//! The stream to a Redis server, and the future that moves its bytes.

use std::future::{Future, poll_fn, ready};
use std::io;
use std::task::Poll;

use futures_util::future::select_ok;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ConnectionAddr, RedisConnectionInfo, RedisResult};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};

use crate::store::BoxFuture;

/// The maximum number of calls that wait for the connection's future. More than the driver has in flight.
const CALLS_TO_WRITE: usize = 8_192;

/// The timeouts of the redis crate are off, because its callers have their own.
pub(super) fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        .set_pipeline_buffer_size(CALLS_TO_WRITE)
}

/// A connection, and the future that moves its bytes, if nothing else does.
pub(super) struct Transport {
    pub(super) connection: MultiplexedConnection,
    pub(super) io: Option<BoxFuture<'static, ()>>,
}

impl Transport {
    /// Connects, and says hello. Over TLS, a task of the redis crate moves the bytes, since only that crate
    /// can make its TLS streams.
    pub(super) async fn open(
        client: &redis::Client,
        config: AsyncConnectionConfig,
    ) -> RedisResult<Self> {
        let info = client.get_connection_info();
        let settings = info.redis_settings();
        match info.addr() {
            ConnectionAddr::Tcp(host, port) => {
                Self::over(connect(host, *port).await?, settings, config).await
            }
            #[cfg(unix)]
            ConnectionAddr::Unix(path) => {
                let stream = tokio::net::UnixStream::connect(path).await?;
                Self::over(stream, settings, config).await
            }
            _ => {
                let opened = client.get_multiplexed_async_connection_with_config(&config);
                opened.await.map(|connection| Self { connection, io: None })
            }
        }
    }

    /// Says hello on a stream of our own.
    async fn over<S>(
        stream: S,
        settings: &RedisConnectionInfo,
        config: AsyncConnectionConfig,
    ) -> RedisResult<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let opened = MultiplexedConnection::new_with_config(settings, stream, config);
        let (connection, io) = opened.await?;
        Ok(Self { connection, io: Some(Box::pin(io)) })
    }

    /// Runs `work`, which uses the connection, while its bytes move.
    pub(super) async fn while_moving<T>(
        io: &mut Option<BoxFuture<'static, ()>>,
        work: impl Future<Output = RedisResult<T>>,
    ) -> RedisResult<T> {
        let mut work = std::pin::pin!(work);
        poll_fn(|cx| {
            let ended = io.as_mut().is_some_and(|io| io.as_mut().poll(cx).is_ready());
            if ended {
                *io = Some(Box::pin(ready(()))); // so that it can be polled again
            }
            match work.as_mut().poll(cx) {
                Poll::Pending if ended => {
                    Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()))
                }
                polled => polled,
            }
        })
        .await
    }
}

/// Connects to the first address of the host that answers.
async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let attempts: Vec<_> = lookup_host((host, port))
        .await?
        .map(|address| Box::pin(TcpStream::connect(address)))
        .collect();
    if attempts.is_empty() {
        let what = format!("{host} has no address");
        return Err(io::Error::new(io::ErrorKind::NotFound, what));
    }
    let (stream, _) = select_ok(attempts).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
