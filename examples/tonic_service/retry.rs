//! When to come back, as a full service says it: in a header, and in `grpc-status-details-bin`.

use std::time::Duration;

use prost::Message;
use tonic::Status;

/// From the header that gRPC clients obey that retry by themselves.
pub(crate) fn pushback(status: &Status) -> Option<Duration> {
    let millis = status.metadata().get("grpc-retry-pushback-ms")?;
    Some(Duration::from_millis(millis.to_str().ok()?.parse().ok()?))
}

/// From the details, where most libraries look for it, in whole milliseconds.
pub(crate) fn retry_info(status: &Status) -> Option<Duration> {
    let status = GoogleStatus::decode(status.details()).ok()?;
    let info = status.details.iter().find(|any| any.type_url.ends_with("/google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(&*info.value).ok()?.retry_delay?;
    let delay = Duration::new(delay.seconds.try_into().ok()?, delay.nanos.try_into().ok()?);
    Some(Duration::from_millis(delay.as_millis().try_into().ok()?))
}

/// `google.rpc.Status`; the crate `tonic-types` has it, too, with all that may be in it.
#[derive(Clone, PartialEq, Message)]
struct GoogleStatus {
    #[prost(message, repeated, tag = "3")]
    details: Vec<GoogleAny>,
}

#[derive(Clone, PartialEq, Message)]
struct GoogleAny {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<GoogleDuration>,
}

#[derive(Clone, PartialEq, Message)]
struct GoogleDuration {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}
