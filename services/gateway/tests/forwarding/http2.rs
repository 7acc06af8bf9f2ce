//! HTTP/2 with clients, and with replicas that speak it.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use runtime::tasks::Crew;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::backend::{Backend, Manner};
use super::*;

type Pieces = StreamBody<Frames>;

/// Frames that come as they are sent.
struct Frames(mpsc::Receiver<Frame<Bytes>>);

impl futures_util::Stream for Frames {
    type Item = Result<Frame<Bytes>, Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}

fn pieces() -> (mpsc::Sender<Frame<Bytes>>, Pieces) {
    let (sender, receiver) = mpsc::channel(8);
    (sender, StreamBody::new(Frames(receiver)))
}

/// A replica of gRPC: says back every piece as it comes, and how it went behind the last one. Counts
/// its connections.
async fn grpc(gateway: &mut Gateway) -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind((HERE, 0)).await.expect("there are ports");
    let at = listener.local_addr().expect("it has an address");
    let connections = Arc::new(AtomicU64::new(0));
    let counted = connections.clone();
    gateway.tasks.spawn("grpc", async move {
        let crew = Crew::default();
        loop {
            let (stream, _) = listener.accept().await?;
            counted.fetch_add(1, SeqCst);
            let hand = crew.hand();
            crew.hand().spawn(async move {
                let echo = hyper::service::service_fn({
                    let hand = hand.clone();
                    move |request| {
                        let answer = say_back(request, &hand);
                        async move { Ok::<_, Infallible>(answer) }
                    }
                });
                let server = hyper::server::conn::http2::Builder::new(hand);
                let _ = server.serve_connection(TokioIo::new(stream), echo).await;
            });
        }
    });
    (at, connections)
}

fn say_back(request: Request<Incoming>, hand: &runtime::tasks::Hand) -> Response<Pieces> {
    assert_eq!(request.headers().get("te"), Some(&HeaderValue::from_static("trailers")));
    assert_eq!(request.uri().path(), "/shop.Cart/Watch");
    let host = request.uri().host().expect("it names a host").to_owned();
    let (sender, body) = pieces();
    let mut heard = request.into_body();
    hand.spawn(async move {
        while let Some(Ok(frame)) = heard.frame().await {
            if sender.send(frame).await.is_err() {
                return;
            }
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        let _ = sender.send(Frame::trailers(trailers)).await;
    });
    let mut response = Response::new(body);
    let host = HeaderValue::from_str(&host).expect("a value");
    response.headers_mut().insert("x-host", host);
    response
}

/// A client of HTTP/2 that knows that it is spoken.
async fn connect<B>(port: u16, crew: &Crew) -> SendRequest<B>
where
    B: hyper::body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = TcpStream::connect((HERE, port)).await.expect("it is served");
    let (sender, connection) =
        hyper::client::conn::http2::handshake(crew.hand(), TokioIo::new(stream))
            .await
            .expect("it speaks it");
    crew.hand().spawn(async move {
        let _ = connection.await;
    });
    sender
}

fn call<B>(body: B) -> Request<B> {
    Request::post("http://shop.example/shop.Cart/Watch")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .expect("a request")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_grpc_goes_both_ways_at_once_and_ends_with_its_trailers() {
    let mut gateway = Gateway::speaking(AppProtocol::Http2);
    let (at, connections) = grpc(&mut gateway).await;
    let port = free().port();
    gateway.lead(Protocol::Tcp, &[(port, &[at])]).await;
    let crew = Crew::default();
    let mut client = connect(port, &crew).await;
    let mut calls = Vec::new();
    for _ in 0..10 {
        let (sender, body) = pieces();
        let response = client.send_request(call(body)).await.expect("it is answered");
        assert_eq!(
            response.headers().get("x-host"),
            Some(&HeaderValue::from_static("shop.example"))
        );
        calls.push((sender, response.into_body()));
    }
    for round in 0..5 {
        for (sender, heard) in &mut calls {
            let said = Bytes::from(format!("piece {round}"));
            sender.send(Frame::data(said.clone())).await.expect("it is sent");
            let frame = heard.frame().await.expect("it goes on").expect("it is whole");
            assert_eq!(frame.into_data().expect("data"), said);
        }
    }
    for (sender, mut heard) in calls {
        drop(sender);
        let frame = heard.frame().await.expect("it goes on").expect("it is whole");
        let trailers = frame.into_trailers().expect("trailers");
        assert_eq!(trailers.get("grpc-status"), Some(&HeaderValue::from_static("0")));
    }
    assert_eq!(connections.load(SeqCst), 1, "they share one connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_no_replica_takes_ends_with_a_code_that_its_client_knows() {
    let gateway = Gateway::speaking(AppProtocol::Http2);
    let (port, dead) = (free().port(), free());
    gateway.lead(Protocol::Tcp, &[(port, &[dead])]).await;
    let crew = Crew::default();
    let mut client = connect(port, &crew).await;
    let response =
        client.send_request(call(Full::new(Bytes::new()))).await.expect("it is answered");
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers().get("grpc-status"), Some(&HeaderValue::from_static("14")));
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_http2_reach_replicas_of_http1_without_a_setting() {
    let mut gateway = Gateway::start();
    let backend = Backend::start(&mut gateway, Manner::Well).await;
    let port = free().port();
    gateway.lead(Protocol::Tcp, &[(port, &[backend.at])]).await;
    let crew = Crew::default();
    let client = connect(port, &crew).await;
    let mut answers = Vec::new();
    for nth in 0..20 {
        let mut client = client.clone();
        let request = Request::post(format!("http://shop.example/{nth}"))
            .header("cookie", "a=b")
            .header("cookie", "c=d")
            .body(Full::new(Bytes::from("body")))
            .expect("a request");
        answers.push(async move { client.send_request(request).await });
    }
    for answer in futures_util::future::join_all(answers).await {
        let answer = answer.expect("it is answered");
        assert_eq!(answer.status(), 200);
        let body = answer.into_body().collect().await.expect("it is whole").to_bytes();
        assert_eq!(body, backend.port().to_string());
    }
    for request in backend.requests() {
        assert_eq!(request.header("host"), Some("shop.example"));
        assert_eq!(request.header("cookie"), Some("a=b; c=d"));
        assert_eq!(request.text(), "body");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_ends_lets_calls_under_way_end() {
    let mut gateway = Gateway::speaking(AppProtocol::Http2);
    let (at, _) = grpc(&mut gateway).await;
    let port = free().port();
    gateway.lead(Protocol::Tcp, &[(port, &[at])]).await;
    let crew = Crew::default();
    let mut client = connect(port, &crew).await;
    let (sender, body) = pieces();
    let mut heard = client.send_request(call(body)).await.expect("it is answered").into_body();
    gateway.stopper.stop();
    tokio::time::sleep(Duration::from_millis(200)).await;
    sender.send(Frame::data(Bytes::from("last"))).await.expect("it is sent");
    let frame = heard.frame().await.expect("it goes on").expect("it is whole");
    assert_eq!(frame.into_data().expect("data"), "last");
    drop(sender);
    heard
        .frame()
        .await
        .expect("it goes on")
        .expect("its trailers")
        .into_trailers()
        .expect("trailers");
    let next = client.send_request(call(pieces().1)).await;
    assert!(next.is_err(), "it said that nothing new is taken");
}
