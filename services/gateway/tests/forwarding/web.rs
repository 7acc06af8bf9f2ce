//! Routes by host and path, over HTTP and HTTPS.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use gateway::table::{Backend as To, Rule, Web};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use runtime::tasks::Crew;
use schemas::spec::{Route as Declared, Tls};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::backend::{Backend, Client, Manner, Message};
use super::*;

/// A rule, and the replica that it leads to.
fn rule(to: &Backend, route: Declared) -> (Rule, Route) {
    let name = format!("w{}", to.port());
    let workload = WorkloadName::new(&name).expect("a name");
    let app = AppKey::parse("shop").expect("a name");
    let backend = To { app: app.clone(), workload: workload.clone(), port: route.port };
    let leads = Route {
        app,
        workload,
        protocol: AppProtocol::Http,
        balance: Balance::LeastLoaded,
        endpoints: vec![endpoint(&to.at)],
    };
    (Rule { route, to: backend }, leads)
}

async fn lead(gateway: &Gateway, rules: Vec<(Rule, Route)>) {
    let mut web = Web::default();
    for (rule, leads) in rules {
        web.backends.insert(rule.to.clone(), leads);
        web.rules.push(rule);
    }
    let place = Place { position: gateway.served.borrow().place.position + 1, ..Place::START };
    gateway.tables.send_replace(Table { place, web, ..Table::default() });
    let mut served = gateway.served.clone();
    let led = served.wait_for(|table| table.place == place);
    tokio::time::timeout(BETWEEN * LOOKS, led).await.expect("in time").expect("it serves");
}

fn at(host: &str, path: &str) -> Declared {
    Declared { host: Some(host.to_owned()), path: path.to_owned(), ..Declared::default() }
}

async fn get(port: u16, host: &str, path: &str) -> Message {
    let mut client = None;
    for _ in 0..LOOKS {
        if let Ok(stream) = TcpStream::connect((HERE, port)).await {
            client = Some(Client { stream, buffer: Vec::new() });
            break;
        }
        tokio::time::sleep(BETWEEN).await;
    }
    let mut client = client.expect("it is served");
    client.send(&format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
    client.answer().await.expect("it is answered")
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_where_their_host_and_path_say_and_by_the_rules_there() {
    let port = free().port();
    let mut gateway = Gateway::with(Some(port), None, None);
    let shop = Backend::start(&mut gateway, Manner::Well).await;
    let api = Backend::start(&mut gateway, Manner::Silent).await;
    let slow = Declared {
        timeout_ms: 200,
        set_headers: [("x-from".to_owned(), "muster".to_owned())].into(),
        ..at("shop.example", "/api")
    };
    let moved = Declared {
        redirect: Some("https://new.example{path}".to_owned()),
        ..at("old.example", "/")
    };
    let few = Declared { rate_limit: Some(3), ..at("few.example", "/") };
    let rules = vec![
        rule(&shop, at("shop.example", "/")),
        rule(&api, slow),
        rule(&shop, moved),
        rule(&shop, few),
    ];
    lead(&gateway, rules.clone()).await;
    let answer = get(port, "shop.example", "/x").await;
    assert_eq!((answer.status(), answer.text()), (200, shop.port().to_string()));
    assert_eq!(get(port, "SHOP.example:80", "/apis").await.status(), 200);
    assert_eq!(get(port, "shop.example", "/api/x").await.status(), 504, "it has its own time");
    assert_eq!(api.requests()[0].header("x-from"), Some("muster"));
    let answer = get(port, "old.example", "/a?b=c").await;
    assert_eq!(answer.status(), 307);
    assert_eq!(answer.header("location"), Some("https://new.example/a?b=c"));
    assert_eq!(get(port, "else.example", "/").await.status(), 404);
    let mut passed = 0;
    for _ in 0..8 {
        let status = get(port, "few.example", "/").await.status();
        assert!(status == 200 || status == 429, "{status}");
        passed += u32::from(status == 200);
        // Another table does not fill up what a rule has left.
        lead(&gateway, rules.clone()).await;
    }
    assert!((3..8).contains(&passed), "{passed}");
    lead(&gateway, Vec::new()).await;
    assert_eq!(get(port, "shop.example", "/").await.status(), 404);
}

/// Makes a certificate of its own for some hosts.
fn certify(folder: &Path, name: &str, hosts: &str) {
    let file = |ending: &str| folder.join(format!("{name}.{ending}")).display().to_string();
    let config = folder.join("openssl.conf");
    let says = format!(
        "[req]\nprompt=no\ndistinguished_name=who\nx509_extensions=more\n[who]\nCN=muster test\n\
         [more]\nsubjectAltName={hosts}\nbasicConstraints=CA:FALSE\n"
    );
    std::fs::write(&config, says).expect("there is room");
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-days", "3650", "-config", &config.display().to_string()])
        .args(["-keyout", &file("key.new"), "-out", &file("crt.new")])
        .output()
        .expect("openssl is there");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    for ending in ["key", "crt"] {
        std::fs::rename(file(&format!("{ending}.new")), file(ending)).expect("it is there");
    }
}

/// A client of HTTPS that trusts one certificate, and offers protocols.
fn trusting(trusted: &Path, offers: &[&str]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(trusted).expect("a certificate");
    roots.add(certificate).expect("it is one");
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("there are some")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = offers.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

/// What a client of HTTPS that trusts one certificate gets. None: there is no trust.
async fn get_safely(port: u16, trusted: &Path, host: &str, request: &str) -> Option<String> {
    let stream = TcpStream::connect((HERE, port)).await.expect("it is served");
    let name = ServerName::try_from(host.to_owned()).expect("a name");
    let mut stream = trusting(trusted, &[]).connect(name, stream).await.ok()?;
    stream.write_all(request.as_bytes()).await.expect("it is sent");
    let mut answer = String::new();
    // An end without a farewell is one as well.
    let _ = stream.read_to_string(&mut answer).await;
    Some(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_chosen_by_name_and_read_again_when_they_change() {
    let folder = std::env::temp_dir().join(format!("muster-certificates-{}", free().port()));
    std::fs::create_dir_all(&folder).expect("there is room");
    certify(&folder, "shop", "DNS:shop.example");
    certify(&folder, "wild", "DNS:*.wild.example");
    let (http, https) = (free().port(), free().port());
    let mut gateway = Gateway::with(Some(http), Some(https), Some(folder.clone()));
    let shop = Backend::start(&mut gateway, Manner::Well).await;
    let tls = |host: &str, name: &str| Declared {
        tls: Some(Tls::File { name: name.to_owned(), redirect: true }),
        ..at(host, "/")
    };
    let rules =
        [tls("shop.example", "shop"), tls("*.wild.example", "wild"), tls("none.example", "none")];
    lead(&gateway, rules.into_iter().map(|route| rule(&shop, route)).collect()).await;
    let request = "GET /x HTTP/1.1\r\nhost: shop.example\r\nconnection: close\r\n\r\n";
    let [shop_crt, wild_crt] = ["shop.crt", "wild.crt"].map(|file| folder.join(file));
    let answer = get_safely(https, &shop_crt, "shop.example", request).await.expect("trust");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert_eq!(shop.requests()[0].header("x-forwarded-proto"), Some("https"));
    assert!(get_safely(https, &wild_crt, "a.wild.example", request).await.is_some());
    assert!(get_safely(https, &wild_crt, "shop.example", request).await.is_none());
    assert!(get_safely(https, &shop_crt, "none.example", request).await.is_none());
    let answer = get(http, "shop.example", "/x?y").await;
    assert_eq!(answer.status(), 308);
    let to = format!("https://shop.example:{https}/x?y");
    assert_eq!(answer.header("location"), Some(to.as_str()));
    let old = folder.join("old");
    std::fs::copy(&shop_crt, &old).expect("it is there");
    certify(&folder, "shop", "DNS:shop.example");
    for _ in 0..LOOKS {
        if get_safely(https, &shop_crt, "shop.example", request).await.is_some() {
            assert!(get_safely(https, &old, "shop.example", request).await.is_none());
            std::fs::remove_dir_all(&folder).expect("it is ours");
            return;
        }
        tokio::time::sleep(BETWEEN).await;
    }
    panic!("the new certificate is not served");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_offers_http2_over_tls_speaks_it_and_others_speak_http1() {
    let folder = std::env::temp_dir().join(format!("muster-offers-{}", free().port()));
    std::fs::create_dir_all(&folder).expect("there is room");
    certify(&folder, "shop", "DNS:shop.example");
    let https = free().port();
    let mut gateway = Gateway::with(None, Some(https), Some(folder.clone()));
    let shop = Backend::start(&mut gateway, Manner::Well).await;
    let tls = Some(Tls::File { name: "shop".to_owned(), redirect: true });
    lead(&gateway, vec![rule(&shop, Declared { tls, ..at("shop.example", "/") })]).await;
    let crt = folder.join("shop.crt");
    let connect = async |offers: &[&str]| {
        let stream = TcpStream::connect((HERE, https)).await.expect("it is served");
        let name = ServerName::try_from("shop.example").expect("a name");
        trusting(&crt, offers).connect(name, stream).await.expect("trust")
    };
    let stream = connect(&["h2", "http/1.1"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let crew = Crew::default();
    let shaken = hyper::client::conn::http2::handshake(crew.hand(), TokioIo::new(stream)).await;
    let (mut client, connection) = shaken.expect("it is spoken");
    crew.hand().spawn(async move {
        // It ends with the test.
        let _ = connection.await;
    });
    // Several at once, on the one connection.
    let asked: Vec<_> = (0..5)
        .map(|n| {
            let uri = format!("https://shop.example/{n}");
            let request = hyper::Request::get(uri).body(Empty::<Bytes>::new());
            client.send_request(request.expect("a request"))
        })
        .collect();
    for answer in asked {
        let answer = answer.await.expect("it is answered");
        assert_eq!(
            (answer.status(), answer.version()),
            (hyper::StatusCode::OK, hyper::Version::HTTP_2)
        );
    }
    assert_eq!(shop.requests().len(), 5);
    let request = &shop.requests()[0];
    assert_eq!(request.header("x-forwarded-proto"), Some("https"));
    assert_eq!(request.header("host"), Some("shop.example"));
    for offers in [&["http/1.1"][..], &[]] {
        let stream = connect(offers).await;
        assert_ne!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    }
    std::fs::remove_dir_all(&folder).expect("it is ours");
}
