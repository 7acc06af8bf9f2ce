//! Speaks HTTP with a client on one connection, until either ends it.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue, LOCATION, RETRY_AFTER};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use runtime::{Shutdown, clock};
use tokio::time::Instant;

use super::answer::Answer;
use super::exchange::{Journey, Rules, words};
use super::headers::{self, Client};
use super::streams::{Begun, Streams};
use super::tunnel::Tunnel;
use crate::pool::{Pool, Shared};
use crate::stream::{Prefixed, Stream};
use crate::web::Web;

/// How long a connection may be without a request, in ms. Long: whoever closes first may close on a
/// request that is on its way.
const IDLE_MS: u64 = 120_000;

/// How often that is looked at.
const LOOK: Duration = Duration::from_secs(10);

/// How long a connection is still open for one more request once a stop was asked for.
const LAST: Duration = Duration::from_millis(1_000);

/// How long before the end of all those without a request are closed, where another process has taken over.
const ENDING: Duration = Duration::from_secs(2);

/// How many requests of HTTP/2 one client may have under way.
const STREAMS_MAX: u32 = 250;

/// Under which name lines about requests are written.
const ACCESS: &str = "gateway::access";

/// Below which a CA asks whether a host is ours: RFC 8555, section 8.3.
const CHALLENGE: &str = "/.well-known/acme-challenge/";

/// Where the requests of a connection go.
#[derive(Clone, Debug)]
pub(crate) enum To {
    /// All of them to one workload.
    Pool(Arc<Pool>),
    /// Each where its host and path say.
    Web(Arc<Web>),
}

/// One connection of a client.
#[derive(Debug)]
pub(crate) struct Front {
    to: To,
    client: Client,
    stop: Shutdown,
    rules: Rules,
    access_log: bool,
    /// What goes on below HTTP once the connection has ended.
    tunnel: Mutex<Option<Tunnel>>,
    activity: Arc<Activity>,
}

/// What is under way on a connection.
#[derive(Debug)]
struct Activity {
    busy: AtomicU64,
    last_ms: AtomicU64,
    /// What is under way on all connections.
    all: Arc<AtomicU64>,
}

impl Front {
    pub(crate) fn new(to: To, ip: IpAddr, tls: bool, stop: Shutdown) -> Arc<Self> {
        let shared = match &to {
            To::Pool(pool) => &pool.shared,
            To::Web(web) => &web.shared,
        };
        let access_log = shared.access_log;
        let (all, last_ms) = (shared.requests.clone(), clock::mono_ms().into());
        let activity = Arc::new(Activity { busy: 0.into(), last_ms, all });
        Arc::new(Self {
            to,
            access_log,
            client: Client::new(ip, tls),
            stop,
            rules: Rules::default(),
            tunnel: Mutex::default(),
            activity,
        })
    }

    /// Answers what comes on a stream, to its end.
    pub(crate) async fn serve(self: Arc<Self>, stream: Prefixed<Stream>, http2: bool) {
        let io = TokioIo::new(stream);
        let front = self.clone();
        if http2 {
            // It is made where it stays, and not moved there.
            let service = service_fn(move |request| {
                let front = front.clone();
                Box::pin(async move { Ok::<_, Infallible>(front.answer(request).await) })
            });
            let begun = Begun::default();
            let mut builder = http2::Builder::new(begun.clone());
            builder.max_concurrent_streams(STREAMS_MAX).adaptive_window(true);
            let streams = Streams::new(builder.serve_connection(io, service), begun);
            // It says at once which request is the last one that it takes.
            let end = |connection: Pin<&mut _>| http2::Connection::graceful_shutdown(connection);
            self.run(pin!(streams), |mut streams| end(streams.connection.as_mut()), Duration::ZERO)
                .await;
            return;
        }
        let service = service_fn(move |request| {
            let front = front.clone();
            async move { Ok::<_, Infallible>(front.answer(request).await) }
        });
        let connection = http1::Builder::new().serve_connection(io, service).with_upgrades();
        self.run(pin!(connection), |connection| connection.graceful_shutdown(), LAST).await;
        let tunnel = self.tunnel.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(tunnel) = tunnel {
            tunnel.carry().await;
        }
    }

    /// Moves a connection along until it ends. Asked to stop, it has it end after a moment.
    async fn run<C: Future>(
        &self,
        mut connection: Pin<&mut C>,
        end: impl Fn(Pin<&mut C>),
        moment: Duration,
    ) {
        let mut stop = pin!(self.stop.requested());
        let mut look = pin!(tokio::time::sleep(LOOK));
        let (mut stopping, mut ending) = (false, false);
        // Both wake this task once they were asked, and are asked again when something has come of it.
        let mut asked = false;
        poll_fn(|cx| {
            loop {
                if connection.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(());
                }
                let stops = !stopping && self.stop.is_requested();
                if asked && !stops && !look.is_elapsed() {
                    return Poll::Pending;
                }
                asked = true;
                if !stopping && stop.as_mut().poll(cx).is_ready() {
                    stopping = true;
                    look.as_mut().reset(Instant::now() + self.last(moment));
                }
                if look.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                let idle = self.activity.idle_ms() > IDLE_MS;
                if ending && idle {
                    return Poll::Ready(());
                }
                if (stopping || idle) && !ending {
                    ending = true;
                    end(connection.as_mut());
                }
                look.as_mut().reset(Instant::now() + LOOK);
                asked = false;
            }
        })
        .await;
    }

    /// How long a connection is still open for a request. Where another process has taken over there is
    /// time: the next answer says that it was the last, and nothing is closed while a request may be on its
    /// way.
    fn last(&self, moment: Duration) -> Duration {
        let shared = self.shared();
        if moment.is_zero() || !shared.handover.over().is_requested() {
            return moment;
        }
        moment.max(Duration::from_millis(shared.drain_ms).saturating_sub(ENDING))
    }

    fn shared(&self) -> &Shared {
        match &self.to {
            To::Pool(pool) => &pool.shared,
            To::Web(web) => &web.shared,
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Answer> {
        let busy = Busy::new(&self.activity);
        let version = request.version();
        let line = self.is_logged().then(|| Line::of(&request));
        let mut response = if request.method() == Method::CONNECT {
            words(StatusCode::METHOD_NOT_ALLOWED, "this is no forward proxy\n")
        } else {
            self.route(request).await
        };
        if let Some(line) = line {
            line.write(self, response.status());
        }
        let goes_on = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if version != Version::HTTP_2 && !goes_on && self.stop.is_requested() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response.map(|body| body.busy(busy))
    }

    /// Whether a line is written about every request.
    fn is_logged(&self) -> bool {
        self.access_log || tracing::enabled!(target: ACCESS, tracing::Level::DEBUG)
    }

    async fn route(&self, request: Request<Incoming>) -> Response<Answer> {
        let (client, tunnel) = (&self.client, &self.tunnel);
        let web = match &self.to {
            To::Pool(pool) => {
                return Journey { pool, rules: &self.rules, client, tunnel }.answer(request).await;
            }
            To::Web(web) => web,
        };
        let host = headers::host_of(&request).unwrap_or_default();
        let path = request.uri().path();
        // Over plain HTTP, whatever the host leads to: who asks is the CA.
        if let Some(token) = path.strip_prefix(CHALLENGE).filter(|_| !client.tls)
            && let Some(answer) = web.shared.shelf.answer(host, token)
        {
            return words(StatusCode::OK, answer);
        }
        let Some(live) = web.find(host, path) else {
            return words(StatusCode::NOT_FOUND, format!("no route leads to {host}{path}\n"));
        };
        let whole = request.uri().path_and_query().map_or("/", |path| path.as_str());
        if let Some((status, to)) = live.elsewhere(client.tls, web.https(), host, whole) {
            live.pool.traffic.unanswered(status);
            return redirect(status, &to);
        }
        if live.limit.as_ref().is_some_and(|limit| !limit.may_pass(clock::mono_ms())) {
            let status = StatusCode::TOO_MANY_REQUESTS;
            live.pool.traffic.unanswered(status);
            let mut response =
                words(status, "there are more requests than this route lets through\n");
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
            return response;
        }
        Journey { pool: &live.pool, rules: &live.rules, client, tunnel }.answer(request).await
    }
}

fn redirect(status: StatusCode, to: &str) -> Response<Answer> {
    let mut response = words(status, format!("{to}\n"));
    match HeaderValue::from_str(to) {
        Ok(to) => response.headers_mut().insert(LOCATION, to),
        Err(_) => {
            return words(StatusCode::BAD_REQUEST, "what is asked for cannot be redirected\n");
        }
    };
    response
}

impl Activity {
    /// For how long nothing was under way.
    fn idle_ms(&self) -> u64 {
        if self.busy.load(Relaxed) > 0 {
            return 0;
        }
        clock::mono_ms().saturating_sub(self.last_ms.load(Relaxed))
    }
}

/// What is written about a request.
struct Line {
    what: String,
    begun_us: u64,
}

impl Line {
    fn of(request: &Request<Incoming>) -> Self {
        let (host, uri) = (headers::host_of(request).unwrap_or("-"), request.uri());
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let what = format!("{} {host}{path} {:?}", request.method(), request.version());
        Self { what, begun_us: clock::mono_us() }
    }

    fn write(self, front: &Front, status: StatusCode) {
        let (client, status, what) = (front.client.ip, status.as_u16(), self.what);
        let after_us = clock::mono_us() - self.begun_us;
        if front.access_log {
            tracing::info!(target: ACCESS, %client, status, after_us, "{what}");
        } else {
            tracing::debug!(target: ACCESS, %client, status, after_us, "{what}");
        }
    }
}

/// A request is under way until this is dropped, with the end of its answer.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Activity>);

impl Busy {
    fn new(activity: &Arc<Activity>) -> Self {
        activity.busy.fetch_add(1, Relaxed);
        activity.all.fetch_add(1, Relaxed);
        Self(activity.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.last_ms.store(clock::mono_ms(), Relaxed);
        self.0.busy.fetch_sub(1, Relaxed);
        self.0.all.fetch_sub(1, Relaxed);
    }
}
