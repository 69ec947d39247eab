//! When keys expire.

use redis::RedisResult;
use redis::aio::MultiplexedConnection;

/// When each key expires, in milliseconds of the server's clock; -1: never; -2: no such key.
pub async fn expire_times<const N: usize>(
    connection: &mut MultiplexedConnection,
    keys: &[String; N],
) -> [i64; N] {
    let mut all = redis::pipe();
    for key in keys {
        all.cmd("PEXPIRETIME").arg(key);
    }
    let told: RedisResult<Vec<i64>> = all.query_async(connection).await;
    let told = told.map(|told| told.try_into().expect("one for each key"));
    if let Ok(told) = told {
        return told;
    }
    let mut times = [0; N];
    for (time, key) in times.iter_mut().zip(keys) {
        *time = now_and_left(connection, key).await;
    }
    times
}

/// For Redis 6.2, which has no `PEXPIRETIME`. Its `PTTL` counts from the present time, which `TIME` tells; within
/// one millisecond both together are exact.
async fn now_and_left(connection: &mut MultiplexedConnection, key: &str) -> i64 {
    let mut both = redis::pipe();
    both.atomic().cmd("TIME").cmd("PTTL").arg(key).cmd("TIME");
    loop {
        let (before, left, after): (Time, i64, Time) =
            both.query_async(connection).await.expect("asking for the time");
        if ms(before) == ms(after) {
            return if left < 0 { left } else { ms(before) + left };
        }
    }
}

/// Seconds, and the microseconds beside them.
type Time = (i64, i64);

fn ms((seconds, micros): Time) -> i64 {
    seconds * 1_000 + micros / 1_000
}
