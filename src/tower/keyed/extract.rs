//! The extractors of keys.

use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};

use http::header::{AUTHORIZATION, HeaderName};

use super::key::Key;

/// Extracts the key of a request. Requests with the same key share one semaphore.
///
/// A closure `Fn(&Req) -> Option<String>` implements it, for keys that are no secrets; name the type of
/// its argument. All requests without a key share one semaphore, so that nobody escapes the limit by
/// leaving the key out.
///
/// ```
/// use zset_semaphore::tower::KeyExtractor;
///
/// fn is_one<Req>(_: impl KeyExtractor<Req>) {}
///
/// is_one(|request: &axum::extract::Request| request.uri().host().map(str::to_owned));
/// ```
pub trait KeyExtractor<Req> {
    /// Returns the key of `request`, if it has one.
    fn extract<'r>(&self, request: &'r Req) -> Option<Key<'r>>;
}

impl<Req, F> KeyExtractor<Req> for F
where
    F: Fn(&Req) -> Option<String>,
{
    fn extract<'r>(&self, request: &'r Req) -> Option<Key<'r>> {
        self(request).map(|key| Key::new(key.into_bytes()))
    }
}

/// Extracts by an extractor that is chosen at run time.
impl<Req> KeyExtractor<Req> for Box<dyn KeyExtractor<Req> + Send + Sync> {
    fn extract<'r>(&self, request: &'r Req) -> Option<Key<'r>> {
        (**self).extract(request)
    }
}

/// Extracts the value of a header.
#[derive(Debug, Clone)]
pub struct Header {
    name: HeaderName,
    secret: bool,
}

impl Header {
    /// Extracts a header that anybody may see, such as the id of a tenant.
    pub fn new(name: HeaderName) -> Self {
        Self { name, secret: false }
    }

    /// Extracts a header that is a credential, such as `x-api-key`: only its hash leaves the process.
    pub fn secret(name: HeaderName) -> Self {
        Self { name, secret: true }
    }
}

impl<B> KeyExtractor<http::Request<B>> for Header {
    fn extract<'r>(&self, request: &'r http::Request<B>) -> Option<Key<'r>> {
        let value = request.headers().get(&self.name)?.as_bytes();
        Some(if self.secret { Key::secret(value) } else { Key::new(value) })
    }
}

/// Extracts the token of `Authorization: Bearer ...`; only its hash leaves the process.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct BearerToken;

impl BearerToken {
    /// Makes the extractor.
    pub fn new() -> Self {
        Self
    }
}

impl<B> KeyExtractor<http::Request<B>> for BearerToken {
    fn extract<'r>(&self, request: &'r http::Request<B>) -> Option<Key<'r>> {
        let value = request.headers().get(AUTHORIZATION)?.as_bytes();
        // The scheme is case-insensitive (RFC 9110, 11.1).
        let (scheme, token) = value.split_at_checked(7)?;
        let token = token.trim_ascii();
        (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then(|| Key::secret(token))
    }
}

/// Extracts a segment of the path. Segments count from 0: segment 2 of `/v1/models/llama` is `llama`.
///
/// A router may strip the prefix that it has matched, as axum's `nest` does. Then segments count from the
/// rest.
#[derive(Debug, Clone, Copy)]
pub struct PathSegment {
    index: usize,
}

impl PathSegment {
    /// Extracts the segment with this index.
    pub fn new(index: usize) -> Self {
        Self { index }
    }
}

impl<B> KeyExtractor<http::Request<B>> for PathSegment {
    fn extract<'r>(&self, request: &'r http::Request<B>) -> Option<Key<'r>> {
        let segment = request.uri().path().split('/').skip(1).nth(self.index)?;
        (!segment.is_empty()).then(|| Key::new(segment.as_bytes()))
    }
}

/// Extracts the IP address of the peer. Only the first 64 bits of an IPv6 address are used, since one client
/// usually has a whole `/64`.
///
/// A closure reads the address from an extension of type `T` that the server puts into requests. For axum
/// that is `ConnectInfo<SocketAddr>`, for tonic `TcpConnectInfo`.
///
/// ```
/// use std::net::SocketAddr;
/// use axum::extract::ConnectInfo;
/// use zset_semaphore::tower::PeerAddr;
///
/// let peer = PeerAddr::new(|info: &ConnectInfo<SocketAddr>| Some(info.0));
/// ```
#[derive(Clone)]
pub struct PeerAddr<T, F> {
    address: F,
    extension: PhantomData<fn(&T)>,
}

impl<T, F: Fn(&T) -> Option<SocketAddr>> PeerAddr<T, F> {
    /// Extracts the address that `address` reads from the extension.
    pub fn new(address: F) -> Self {
        Self { address, extension: PhantomData }
    }
}

impl<T, F> fmt::Debug for PeerAddr<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerAddr")
    }
}

impl<B, T, F> KeyExtractor<http::Request<B>> for PeerAddr<T, F>
where
    T: Send + Sync + 'static,
    F: Fn(&T) -> Option<SocketAddr>,
{
    fn extract<'r>(&self, request: &'r http::Request<B>) -> Option<Key<'r>> {
        let address = (self.address)(request.extensions().get::<T>()?)?;
        let name = match address.ip().to_canonical() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                format!("{a:x}:{b:x}:{c:x}:{d:x}::")
            }
        };
        Some(Key::new(name.into_bytes()))
    }
}

/// Extracts a key from an extension of the request. An outer layer has put it there, for example the
/// customer to whom a token belongs.
#[derive(Clone)]
pub struct FromExtension<T, F> {
    key: F,
    extension: PhantomData<fn(&T)>,
}

impl<T, F: Fn(&T) -> Option<String>> FromExtension<T, F> {
    /// Extracts the key that `key` makes of the extension of type `T`.
    pub fn new(key: F) -> Self {
        Self { key, extension: PhantomData }
    }
}

impl<T, F> fmt::Debug for FromExtension<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FromExtension")
    }
}

impl<B, T, F> KeyExtractor<http::Request<B>> for FromExtension<T, F>
where
    T: Send + Sync + 'static,
    F: Fn(&T) -> Option<String>,
{
    fn extract<'r>(&self, request: &'r http::Request<B>) -> Option<Key<'r>> {
        (self.key)(request.extensions().get::<T>()?).map(|key| Key::new(key.into_bytes()))
    }
}
