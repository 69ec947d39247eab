//! An axum server and raw hyper clients on loopback sockets.

use std::convert::Infallible;
use std::net::SocketAddr;

use ::http::{Method, Request, Response, StatusCode};
use axum::Router;
use axum::error_handling::HandleErrorLayer;
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tower::ServiceBuilder;
use zset_semaphore::ZSetSemaphore;
use zset_semaphore::tower::{Error, ZSetSemaphoreLayer};

pub struct Server {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

/// Serves `routes`, capped as a whole by `semaphore`.
pub async fn serve(semaphore: &ZSetSemaphore, routes: Router) -> Server {
    let app = routes.layer(
        ServiceBuilder::new()
            .layer(HandleErrorLayer::new(async |error: Error<Infallible>| {
                (StatusCode::SERVICE_UNAVAILABLE, error.to_string())
            }))
            .layer(ZSetSemaphoreLayer::new(semaphore.clone())),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    Server { address, task }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A client with one connection. Dropping it closes the connection, whatever goes on in it.
pub struct Connection {
    sender: http1::SendRequest<Empty<Bytes>>,
    task: JoinHandle<()>,
}

impl Connection {
    pub async fn open(server: &Server) -> Self {
        let socket = TcpStream::connect(server.address).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(socket)).await.unwrap();
        let task = tokio::spawn(async { drop(connection.await) });
        Self { sender, task }
    }

    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
    ) -> Result<Response<Incoming>, hyper::Error> {
        self.sender.ready().await?;
        let request = Request::builder().method(method).uri(path).header("host", "here");
        self.sender.send_request(request.body(Empty::new()).unwrap()).await
    }

    pub async fn get(&mut self, path: &str) -> Response<Incoming> {
        self.send(Method::GET, path).await.unwrap()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}
