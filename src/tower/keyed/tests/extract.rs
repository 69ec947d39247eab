use std::net::SocketAddr;

use http::header::HeaderName;

use crate::tower::keyed::extract::{
    BearerToken, FromExtension, Header, KeyExtractor, PathSegment, PeerAddr,
};

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
fn bearer_tokens_are_found_whatever_the_case_of_the_scheme_and_never_shown() {
    let bearer = BearerToken::new();
    let one = name(&bearer, &request("authorization", "Bearer sk-123")).unwrap();
    assert_eq!(Some(&one), name(&bearer, &request("authorization", "bearer  sk-123 ")).as_ref());
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
