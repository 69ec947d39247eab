pub(crate) mod answer;
pub(crate) mod cooldown;
pub(crate) mod dialect;
pub(crate) mod grpc;
pub(crate) mod hold_body;
#[cfg(feature = "reqwest")]
pub(crate) mod reqwest;
