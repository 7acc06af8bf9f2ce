//! What is taken out of a head, and what is put in.

use std::net::Ipv4Addr;

use super::*;

fn head(uri: &str, version: Version, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().uri(uri).version(version);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request").into_parts().0
}

fn client() -> Client {
    Client::new(Ipv4Addr::new(192, 0, 2, 7).to_ipv6_mapped().into(), true)
}

fn all<'a>(head: &'a Parts, name: &str) -> Vec<&'a str> {
    head.headers.get_all(name).iter().map(|value| value.to_str().expect("text")).collect()
}

#[test]
fn what_is_between_two_ends_is_taken_out_and_what_connection_names_with_it() {
    let mut head = head(
        "/a?b=c",
        Version::HTTP_11,
        &[
            ("host", "shop.example"),
            ("connection", "keep-alive, x-mine, content-length, host"),
            ("connection", "close"),
            ("keep-alive", "timeout=5"),
            ("x-mine", "1"),
            ("x-other", "2"),
            ("transfer-encoding", "chunked"),
            ("te", "gzip"),
            ("upgrade", "h2c"),
            ("expect", "100-continue"),
            ("content-length", "3"),
        ],
    );
    to_replica(&mut head, &client(), Some(3), false);
    to_http1(&mut head);
    let names: Vec<&str> = head.headers.keys().map(HeaderName::as_str).collect();
    for name in ["host", "x-other", "content-length", "x-forwarded-for"] {
        assert!(names.contains(&name), "{name} is missing in {names:?}");
    }
    assert_eq!(names.len(), 6, "{names:?}");
    assert_eq!(head.uri, "/a?b=c");
}

#[test]
fn a_length_is_not_believed_where_the_body_comes_in_pieces() {
    let mut head = head("/", Version::HTTP_11, &[("host", "a"), ("content-length", "3")]);
    to_replica(&mut head, &client(), None, false);
    assert!(all(&head, "content-length").is_empty());
}

#[test]
fn the_client_is_added_to_those_before_it_and_says_nothing_else_about_itself() {
    let given = [
        ("host", "shop.example:8080"),
        ("x-forwarded-for", "203.0.113.1"),
        ("x-forwarded-for", "203.0.113.2, 203.0.113.3"),
        ("x-forwarded-proto", "gopher"),
        ("x-forwarded-host", "other.example"),
    ];
    let mut head = head("/", Version::HTTP_11, &given);
    to_replica(&mut head, &client(), Some(0), false);
    let all_before = "203.0.113.1, 203.0.113.2, 203.0.113.3, 192.0.2.7";
    assert_eq!(all(&head, "x-forwarded-for"), [all_before]);
    assert_eq!(all(&head, "x-forwarded-proto"), ["https"]);
    assert_eq!(all(&head, "x-forwarded-host"), ["shop.example:8080"]);
}

#[test]
fn a_host_is_named_without_its_port() {
    for (uri, header, host) in [
        ("/", "shop.example:8080", "shop.example"),
        ("/", "shop.example", "shop.example"),
        ("/", "[::1]:80", "[::1]"),
        ("http://one.example:1/x", "other.example", "one.example"),
    ] {
        let request = Request::from_parts(head(uri, Version::HTTP_11, &[("host", header)]), ());
        assert_eq!(host_of(&request), Some(host));
    }
}

#[test]
fn http2_becomes_http1_and_back() {
    let given = [("cookie", "a=b"), ("cookie", "c=d"), ("te", "trailers")];
    let mut head = head("https://shop.example/x?y", Version::HTTP_2, &given);
    to_replica(&mut head, &client(), Some(0), false);
    assert_eq!(all(&head, "te"), ["trailers"]);
    to_http1(&mut head);
    assert_eq!(all(&head, "cookie"), ["a=b; c=d"]);
    assert_eq!(all(&head, "host"), ["shop.example"]);
    assert!(all(&head, "te").is_empty());
    assert_eq!((head.version, head.uri.to_string()), (Version::HTTP_11, "/x?y".to_owned()));
    assert!(to_http2(&mut head, "localhost"));
    assert_eq!(head.uri, "http://shop.example/x?y");
    assert!(all(&head, "host").is_empty());
}

#[test]
fn a_request_line_with_a_host_goes_before_the_header() {
    let mut head = head("http://one.example/x", Version::HTTP_11, &[("host", "other.example")]);
    to_replica(&mut head, &client(), Some(0), false);
    to_http1(&mut head);
    assert_eq!(all(&head, "host"), ["one.example"]);
    assert_eq!(head.uri, "/x");
}

#[test]
fn an_upgrade_is_asked_for_only_where_it_was() {
    let asks = |headers: &[(&str, &str)]| {
        let head = head("/", Version::HTTP_11, headers);
        upgrade_of(&Request::from_parts(head, ()))
    };
    assert!(asks(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]));
    assert!(!asks(&[("upgrade", "websocket")]));
    assert!(!asks(&[("connection", "upgrade"), ("upgrade", "h2c")]));
    let given = [("host", "a"), ("connection", "upgrade"), ("upgrade", "websocket")];
    let mut head = head("/", Version::HTTP_11, &given);
    to_replica(&mut head, &client(), Some(0), true);
    assert_eq!(all(&head, "connection"), ["upgrade"]);
    assert_eq!(all(&head, "upgrade"), ["websocket"]);
}
