//! The capped clients: what to start from.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::{self, connect::HttpConnector};
use tower::{Layer, Service, ServiceExt};
use zset_semaphore::tower::{Error as CapError, PermitBody, ZSetSemaphoreLayer};

use crate::common::{BoxError, Result};

pub(crate) type HyperClient = legacy::Client<HttpConnector, Full<Bytes>>;

/// Calls wait here, and not at the provider. A permit is held until the answer was read to its end,
/// or dropped.
pub(crate) fn capped_hyper(
    cap: ZSetSemaphoreLayer,
    http: HyperClient,
) -> impl Service<
    Request<Full<Bytes>>,
    Response = http::Response<PermitBody<hyper::body::Incoming>>,
    Error = CapError<legacy::Error>,
    Future: Send,
> + Clone {
    cap.layer(http)
}

/// The same for reqwest, by the feature `reqwest`.
pub(crate) fn capped_reqwest(
    cap: ZSetSemaphoreLayer,
    http: reqwest::Client,
) -> impl Service<
    reqwest::Request,
    Response = reqwest::Response,
    Error = CapError<reqwest::Error>,
    Future: Send,
> + Clone {
    cap.layer(http)
}

/// Calls once, and reads the answer to its end.
pub(crate) async fn by_hyper<S, B>(service: S, url: String) -> Result<StatusCode>
where
    S: Service<Request<Full<Bytes>>, Response = http::Response<B>, Error: Into<BoxError>>,
    B: http_body::Body<Error: Into<BoxError>>,
{
    let question = Request::post(url).body(Full::default())?;
    let answer = service.oneshot(question).await.map_err(Into::into)?;
    let status = answer.status();
    answer.into_body().collect().await.map_err(Into::into)?; // Here the permit goes back.
    Ok(status)
}

/// As [`by_hyper`], for reqwest.
pub(crate) async fn by_reqwest<S>(service: S, url: String) -> Result<StatusCode>
where
    S: Service<reqwest::Request, Response = reqwest::Response, Error: Into<BoxError>>,
{
    let question = reqwest::Request::new(reqwest::Method::POST, url.parse()?);
    let answer = service.oneshot(question).await.map_err(Into::into)?;
    let status = answer.status();
    answer.bytes().await?; // Here the permit goes back.
    Ok(status)
}
