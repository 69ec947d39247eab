//! The gateway: what to start from.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::json;
use tokio::task::JoinSet;
use tower::ServiceBuilder;
use zset_semaphore::tower::{Header, Keyed, OutagePolicy, ZSetSemaphoreLayer};
use zset_semaphore::{Client, ConnectError, ZSetSemaphore};

use crate::common::output::say;
use crate::common::shutdown::{serve_until_drained, terminated};
use crate::common::{Result, server, store};
use crate::options::Options;
use crate::{metrics, stand_in};

/// How long the streams of a gateway that crashed still count.
const LEASE: Duration = Duration::from_secs(10);

/// The routes, and the limit of all together.
pub(crate) fn gateway(
    client: &Client,
    upstream: Upstream,
    options: &Options,
) -> Result<(Router, ZSetSemaphore)> {
    let chats = client.semaphore(&options.name, options.limit).lease(LEASE).build()?;
    let api_key = Header::secret(HeaderName::from_static("x-api-key")); // Redis sees its hash only.
    let of_key = format!("{}-of-key", options.name);
    let of_key = Keyed::builder(client, of_key, api_key, options.per_key)
        .configure_semaphore(|semaphore| semaphore.lease(LEASE))
        .build()?;
    let outage_of_key = match options.outage {
        OutagePolicy::LocalCap(cap) => OutagePolicy::LocalCap(cap.min(options.per_key)),
        policy => policy,
    };
    // A request holds a permit of each layer until the last byte of its answer is out, or its client
    // is gone. The layer of the keys is the outer one: a request that queues behind others of the
    // same key is in nobody else's way.
    let caps = ServiceBuilder::new()
        .layer(
            ZSetSemaphoreLayer::keyed(of_key)
                .timeout(options.max_wait)
                .outage_policy(outage_of_key)
                .answer()
                .status(StatusCode::TOO_MANY_REQUESTS),
        )
        .layer(
            ZSetSemaphoreLayer::new(chats.clone())
                .timeout(options.max_wait)
                .outage_policy(options.outage)
                .answer(),
        );
    let routes = Router::new().route("/chat", post(chat)).route_layer(caps).with_state(upstream);
    Ok((routes, chats))
}

/// Asks the upstream and passes on what it says, token by token.
async fn chat(State(upstream): State<Upstream>, question: Bytes) -> Response {
    let ask = upstream.http.post(format!("{}/chat", upstream.url)).body(question);
    let Ok(answer) = ask.header(CONTENT_TYPE, "application/json").send().await else {
        let error = axum::Json(json!({ "error": "the upstream does not answer" }));
        return (StatusCode::BAD_GATEWAY, error).into_response();
    };
    let head = answer.headers().get(CONTENT_TYPE).map(|kind| [(CONTENT_TYPE, kind.clone())]);
    (answer.status(), head, Body::from_stream(answer.bytes_stream())).into_response()
}

/// Where the answers come from.
#[derive(Clone)]
pub(crate) struct Upstream {
    pub(crate) http: reqwest::Client,
    pub(crate) url: String,
}

impl Upstream {
    /// The upstream that was named, otherwise a stand-in.
    pub(crate) async fn of(options: &Options, background: &mut JoinSet<()>) -> Result<Self> {
        let url = match &options.upstream {
            Some(url) => url.clone(),
            None => server::start("127.0.0.1:0", stand_in::routes(), background).await?,
        };
        let http = reqwest::Client::builder().no_proxy().connect_timeout(Duration::from_secs(5));
        Ok(Self { http: http.build()?, url })
    }
}

/// Serves until the process is told to end, and then until all streams have ended.
pub(crate) async fn serve(addr: &str, options: &Options) -> Result<()> {
    let mut background = JoinSet::new();
    let metrics = metrics::routes(&mut background)?;
    let upstream = Upstream::of(options, &mut background).await?;
    let client = connect_or_go_on(options.outage).await?;
    let (app, _) = gateway(&client, upstream, options)?;
    let (listener, url) = server::listen(addr).await?;
    let server = axum::serve(listener, app.merge(metrics)).with_graceful_shutdown(terminated());
    say(format_args!("listening on {url}"));
    serve_until_drained(server.into_future(), &client).await
}

/// Goes on without Redis if it is not there yet. What no waiting will mend, say a wrong password, is
/// an error.
async fn connect_or_go_on(outage: OutagePolicy) -> Result<Client> {
    match store::client().connect().await {
        Ok(client) => return Ok(client),
        Err(ConnectError::Store(error)) if error.is_transient() => {
            say(format_args!("no Redis yet, the policy meanwhile is {outage:?}: {error}"));
        }
        Err(error) => return Err(format!("REDIS_URL: {error}").into()),
    }
    Ok(store::client().build()?)
}
