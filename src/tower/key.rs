//! By what requests are told apart.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};

use http::header::{AUTHORIZATION, HeaderName};
use sha2::{Digest, Sha256};

/// Keys up to this length, of harmless characters, are names as they are.
const LONGEST_PLAIN: usize = 64;

/// What all requests without a key share; no key becomes this.
pub(super) const NO_KEY: &str = "-";

/// Takes the key out of a request: requests of one key share one semaphore.
///
/// A closure `Fn(&Req) -> Option<String>` is one, too, for keys that are no secrets; name the type
/// of its argument. Requests without a key all share one semaphore, so that nobody escapes the cap by
/// leaving it out.
///
/// ```
/// use zset_semaphore::tower::KeyExtractor;
///
/// fn is_one<Req>(_: impl KeyExtractor<Req>) {}
///
/// is_one(|request: &axum::extract::Request| request.uri().host().map(str::to_owned));
/// ```
pub trait KeyExtractor<Req> {
    /// The key of `request`, if it has one.
    fn extract<'r>(&self, request: &'r Req) -> Option<Key<'r>>;
}

/// What tells requests apart.
///
/// It becomes part of a name in the store: as it is, if it has at most 64 bytes of `A-Z`, `a-z`,
/// `0-9` and `-_.@:`, and is not `-` alone; else, and always if it is [`secret`](Self::secret), by the first 128 bits of
/// its SHA-256.
#[derive(Clone, PartialEq, Eq)]
pub struct Key<'r> {
    bytes: Cow<'r, [u8]>,
    secret: bool,
}

impl<'r> Key<'r> {
    /// A key that may be seen in the store, in logs and in answers of `inspect`.
    pub fn new(bytes: impl Into<Cow<'r, [u8]>>) -> Self {
        Self { bytes: bytes.into(), secret: false }
    }

    /// A key that nobody may see, such as a token: only its hash leaves the process.
    pub fn secret(bytes: impl Into<Cow<'r, [u8]>>) -> Self {
        Self { bytes: bytes.into(), secret: true }
    }

    /// As it stands in names, and as a [`KeyLimit`](super::KeyLimit) is asked about it: the semaphore
    /// of a key is that named `<name>/<this>`.
    pub fn name(&self) -> String {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.@:".contains(byte);
        let is_plain = !self.secret
            && !self.bytes.is_empty()
            && *self.bytes != *NO_KEY.as_bytes()
            && self.bytes.len() <= LONGEST_PLAIN
            && self.bytes.iter().all(plain);
        if is_plain && let Ok(text) = std::str::from_utf8(&self.bytes) {
            return text.to_owned();
        }
        let hash = Sha256::digest(&self.bytes);
        // `#` is in no plain key: a key cannot pass for the hash of another.
        hash.iter().take(16).fold("#".to_owned(), |mut name, byte| {
            for nibble in [byte >> 4, byte & 15] {
                name.push(char::from_digit(nibble.into(), 16).unwrap_or('0'));
            }
            name
        })
    }
}

// By hand: secrets are not for logs.
impl fmt::Debug for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&self.name()).finish()
    }
}

impl<Req, F> KeyExtractor<Req> for F
where
    F: Fn(&Req) -> Option<String>,
{
    fn extract<'r>(&self, request: &'r Req) -> Option<Key<'r>> {
        self(request).map(|key| Key::new(key.into_bytes()))
    }
}

/// An extractor that is chosen at run time.
impl<Req> KeyExtractor<Req> for Box<dyn KeyExtractor<Req> + Send + Sync> {
    fn extract<'r>(&self, request: &'r Req) -> Option<Key<'r>> {
        (**self).extract(request)
    }
}

/// The value of a header.
#[derive(Debug, Clone)]
pub struct Header {
    name: HeaderName,
    secret: bool,
}

impl Header {
    /// Of a header that anybody may see, such as a tenant's id.
    pub fn new(name: HeaderName) -> Self {
        Self { name, secret: false }
    }

    /// Of a header that is a credential, such as `x-api-key`: only its hash leaves the process.
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

/// The token of `Authorization: Bearer ...`; only its hash leaves the process.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct BearerToken;

impl BearerToken {
    /// The token of `Authorization: Bearer ...`.
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

/// A segment of the path, counted from 0: that of `/v1/models/llama` with the index 2 is `llama`.
///
/// Routers may strip what they have matched, as axum's `nest` does: then it is counted from there.
#[derive(Debug, Clone, Copy)]
pub struct PathSegment {
    index: usize,
}

impl PathSegment {
    /// The segment with this index.
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

/// The address of the peer, without its port; of IPv6 the first 64 bits, since one client commonly
/// has all addresses behind them.
///
/// It is read from an extension of type `T` that the server puts into requests, by a closure: for
/// axum that is `ConnectInfo<SocketAddr>`, for tonic `TcpConnectInfo`.
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
    /// Read from the extension by `address`.
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

/// Something that an outer layer has put into the extensions of the request, such as the customer
/// that it found to a token: then limits can be looked up by customer.
#[derive(Clone)]
pub struct FromExtension<T, F> {
    key: F,
    extension: PhantomData<fn(&T)>,
}

impl<T, F: Fn(&T) -> Option<String>> FromExtension<T, F> {
    /// The key that `key` makes of the extension of type `T`.
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn request(name: &str, value: &str) -> http::Request<()> {
        http::Request::builder().uri("/v1/models/llama").header(name, value).body(()).unwrap()
    }

    fn name(
        extractor: &impl KeyExtractor<http::Request<()>>,
        request: &http::Request<()>,
    ) -> Option<String> {
        extractor.extract(request).map(|key| key.name())
    }

    #[test]
    fn harmless_keys_are_names_as_they_are_and_others_are_hashed() {
        for plain in ["alice", "a-b_c.d@e:f", &"x".repeat(64)] {
            assert_eq!(Key::new(plain.as_bytes()).name(), plain);
        }
        let odd = ["", "-", "a b", "a/b", "a{b}", "a\nb", "#abc", "ü", &"x".repeat(65)];
        let mut names: Vec<_> = odd.iter().map(|key| Key::new(key.as_bytes()).name()).collect();
        names.push(Key::secret("alice".as_bytes()).name());
        assert!(names.iter().all(|name| name.len() == 33 && name.starts_with('#')), "{names:?}");
        names.sort();
        names.dedup();
        assert_eq!(names.len(), odd.len() + 1);
        // The first 16 bytes of the digest of the empty text (FIPS 180-4).
        assert_eq!(Key::new(&b""[..]).name(), "#e3b0c44298fc1c149afbf4c8996fb924");
    }

    #[test]
    fn bearer_tokens_are_found_whatever_the_case_of_the_scheme_and_never_shown() {
        let bearer = BearerToken::new();
        let one = name(&bearer, &request("authorization", "Bearer sk-123")).unwrap();
        assert_eq!(
            Some(&one),
            name(&bearer, &request("authorization", "bearer  sk-123 ")).as_ref()
        );
        assert_ne!(Some(&one), name(&bearer, &request("authorization", "Bearer sk-124")).as_ref());
        assert!(one.starts_with('#'));
        for other in ["Basic abc", "Bearer", "Bearer ", "bear", ""] {
            assert_eq!(name(&bearer, &request("authorization", other)), None, "{other}");
        }
        assert_eq!(name(&bearer, &request("x-api-key", "sk-123")), None);
        assert!(
            !format!("{:?}", bearer.extract(&request("authorization", "Bearer sk-123")))
                .contains("sk-123")
        );
    }

    #[test]
    fn headers_segments_peers_and_extensions_are_keys() {
        let header = Header::new(HeaderName::from_static("x-tenant"));
        assert_eq!(name(&header, &request("x-tenant", "acme")).as_deref(), Some("acme"));
        assert_eq!(name(&header, &request("x-other", "acme")), None);
        let plain = request("x", "y");
        assert_eq!(name(&PathSegment::new(2), &plain).as_deref(), Some("llama"));
        assert_eq!(name(&PathSegment::new(3), &plain), None);

        let peer = PeerAddr::new(|addr: &SocketAddr| Some(*addr));
        for (address, key) in [
            ("192.0.2.7:80", "192.0.2.7"),
            ("[::ffff:192.0.2.7]:80", "192.0.2.7"),
            ("[2001:db8:1:2:3:4:5:6]:80", "2001:db8:1:2::"),
        ] {
            let mut from = request("x", "y");
            from.extensions_mut().insert(address.parse::<SocketAddr>().unwrap());
            assert_eq!(name(&peer, &from).as_deref(), Some(key));
        }
        assert_eq!(name(&peer, &plain), None);

        let mut user = request("x", "y");
        user.extensions_mut().insert(7_u64);
        assert_eq!(
            name(&FromExtension::new(|id: &u64| Some(id.to_string())), &user).as_deref(),
            Some("7")
        );
        let closure = |request: &http::Request<()>| Some(request.uri().path()[1..3].to_owned());
        assert_eq!(name(&closure, &user).as_deref(), Some("v1"));
    }
}
