//! A request and its answer: finds a replica, and another one when that is of no use.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::answer::{Answer, Carrier};
use super::headers::{self, Client};
use super::lane::{self, Failed, Lane};
use super::retry::{self, Attempt};
use super::sent::Sent;
use super::stick::Who;
use super::tunnel::Tunnel;
use crate::pool::{PATIENCE_MS, Picked, Pool, REACH};
use crate::site::Watch;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, SET_COOKIE};
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode, Version};
use runtime::clock;
use schemas::spec::AppProtocol;

/// For how long at most a connection may have been idle that a request travels on which must not be
/// sent twice, in ms: the other end may be about to close it.
const FRESH_MS: u64 = 500;

/// How requests are treated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// After which one without the beginning of an answer has failed.
    pub(crate) timeout: Duration,
    /// How often one is sent again that may be.
    pub(crate) retries: u32,
    /// What is said to the replica besides.
    pub(crate) set_headers: Vec<(HeaderName, HeaderValue)>,
}

impl Default for Rules {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(60), retries: 2, set_headers: Vec::new() }
    }
}

/// Why a client gets no answer of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// No replica could be reached.
    Nobody,
    /// The replica broke off, or spoke something else.
    Broken,
    /// It did not answer in time.
    Late,
    /// The client's own request broke off, or makes no sense.
    Request,
}

/// Where a request goes, and by which rules.
#[derive(Debug)]
pub(crate) struct Journey<'a> {
    pub(crate) pool: &'a Arc<Pool>,
    pub(crate) rules: &'a Rules,
    pub(crate) client: &'a Client,
    /// Where a connection is left that goes on below HTTP.
    pub(crate) tunnel: &'a Mutex<Option<Tunnel>>,
}

/// What a replica is sent, and what is kept to send it again.
struct Message {
    request: Request<Sent>,
    rest: Rest,
}

/// What is left to do with a request that was sent.
struct Rest {
    /// Of one that may be repeated.
    copy: Option<(Parts, Sent)>,
    repeatable: bool,
    left: u32,
}

impl Rest {
    /// The request once more, if it may be sent again.
    fn again(&mut self, why: &hyper::Error) -> Result<Request<Sent>, Trouble> {
        let (head, body) = self.copy.as_ref().ok_or(Trouble::Broken)?;
        let (sent, whole) = (!lane::is_refused(why), body.is_whole());
        let attempt = Attempt { sent, repeatable: self.repeatable, whole, left: self.left };
        let body = body.again().filter(|_| attempt.again()).ok_or(Trouble::Broken)?;
        self.left = self.left.saturating_sub(1);
        Ok(Request::from_parts(head.clone(), body))
    }
}

impl Journey<'_> {
    /// The answer to a request: a replica's, or our own when there is none.
    pub(crate) async fn answer(&self, mut request: Request<Incoming>) -> Response<Answer> {
        let grpc = is_grpc(&request);
        let upgrade = headers::upgrade_of(&request).then(|| hyper::upgrade::on(&mut request));
        let found = self.travel(request, upgrade.is_some()).await;
        match found {
            Ok((response, carrier, picked)) => {
                self.accept(response, carrier, picked, upgrade).await
            }
            Err(trouble) => Err(trouble),
        }
        .unwrap_or_else(|trouble| {
            self.pool.traffic.unanswered(trouble.status());
            trouble.answer(grpc)
        })
    }

    /// Sends a request until a replica answers.
    async fn travel(
        &self,
        request: Request<Incoming>,
        upgrade: bool,
    ) -> Result<(Response<Incoming>, Carrier, Picked), Trouble> {
        let protocol = self.pool.protocol();
        let http2 = protocol == AppProtocol::Http2 && !upgrade;
        let mut message = self.message(request, upgrade, http2)?;
        let mut now_us = clock::mono_us();
        let until_ms = now_us / 1_000 + PATIENCE_MS;
        let timeout_ms = u64::try_from(self.rules.timeout.as_millis()).unwrap_or(u64::MAX);
        let late_ms = (now_us / 1_000).saturating_add(timeout_ms);
        let mut tried = Vec::new();
        loop {
            let who = Who { ip: self.client.ip, headers: Some(message.request.headers()) };
            let picked = match self.pool.pick(who, &tried, now_us / 1_000) {
                Some(picked) => picked,
                // Apart, so that whoever need not wait has no room to carry for it.
                None => {
                    let waited = Box::pin(self.pool.wait_for_one(who, &mut tried, until_ms)).await;
                    now_us = clock::mono_us();
                    waited.ok_or(Trouble::Nobody)?
                }
            };
            let carrier = self.carrier(&picked, &message, http2, now_us / 1_000).await;
            let mut carrier = match carrier {
                Ok(carrier) => carrier,
                Err(error) => {
                    picked.unreached(&error);
                    tried.push(picked.id);
                    now_us = clock::mono_us();
                    continue;
                }
            };
            let used = carrier.is_used();
            if !used || http2 {
                // It may have taken a while to make it, or to wait for it.
                now_us = clock::mono_us();
            }
            let answered = carrier.exchange(message.request, late_ms).await;
            let begun_us = std::mem::replace(&mut now_us, clock::mono_us());
            let unanswered = match answered {
                Ok(response) => {
                    picked.answered(response.status(), begun_us, now_us);
                    return Ok((response, carrier, picked));
                }
                Err(Failed::Unanswered(unanswered)) => unanswered,
                Err(Failed::Late) => {
                    picked.unanswered(&std::io::Error::from(std::io::ErrorKind::TimedOut));
                    return Err(Trouble::Late);
                }
            };
            if unanswered.by_client {
                return Err(Trouble::Request);
            }
            if let Carrier::Stream(stream) = &carrier {
                picked.site.lanes.discard(stream);
            }
            if let Some(silence) = lane::silence(&unanswered.why) {
                picked.unreached(&silence);
                tried.push(picked.id);
            } else if used {
                // Whoever closed this one may be about to close the others: a replica that dies closes one
                // after the other, and a request must not find out about each.
                picked.site.lanes.forget();
            } else {
                picked.unanswered(&unanswered.why);
                tried.push(picked.id);
            }
            message.request = match unanswered.unsent {
                Some(unsent) => *unsent,
                None => message.rest.again(&unanswered.why)?,
            };
            self.pool.traffic.retried();
        }
    }

    fn message(
        &self,
        request: Request<Incoming>,
        upgrade: bool,
        http2: bool,
    ) -> Result<Message, Trouble> {
        let (mut head, body) = request.into_parts();
        head.extensions.clear();
        headers::to_replica(&mut head, self.client, body.size_hint().exact(), upgrade);
        for (name, value) in &self.rules.set_headers {
            head.headers.insert(name, value.clone());
        }
        if !http2 {
            headers::to_http1(&mut head);
        } else if !headers::to_http2(&mut head, "localhost") {
            return Err(Trouble::Request);
        }
        let repeatable = retry::is_repeatable(&head.method) && !upgrade;
        // One that HTTP/2 refuses did not reach anybody, whatever its method.
        let body = Sent::of(body, repeatable || http2);
        let copy = body.again().filter(|_| repeatable || http2);
        let copy = copy.map(|body| (head.clone(), body));
        let request = Request::from_parts(head, body);
        let rest = Rest { copy, repeatable, left: self.rules.retries };
        Ok(Message { request, rest })
    }

    /// A connection to a replica: one that is there, or a new one.
    async fn carrier(
        &self,
        picked: &Picked,
        message: &Message,
        http2: bool,
        now_ms: u64,
    ) -> std::io::Result<Carrier> {
        let site = &picked.site;
        // Apart, so that what travels on a connection that is there has no room to carry for it.
        let connect = || {
            Box::pin(async {
                let stream = tokio::time::timeout(REACH, site.connect()).await??;
                Watch::REQUESTS.over(&stream)?;
                picked.reached();
                Ok::<_, std::io::Error>(stream)
            })
        };
        if http2 {
            let stream = match site.lanes.room() {
                Some(stream) => stream,
                None => Box::pin(site.lanes.stream(connect)).await?,
            };
            return Ok(Carrier::Stream(stream));
        }
        let idle_ms = if message.rest.repeatable { u64::MAX } else { FRESH_MS };
        // So that it stays known how far it is there, one in many makes a connection of its own, if it can.
        let due = site.way.is_due(now_ms);
        if !due && let Some(lane) = site.lanes.take(idle_ms, now_ms) {
            return Ok(Carrier::Lane(lane));
        }
        let stream = match connect().await {
            // One in, one out: a replica may serve no second one while it reads the first.
            Ok(stream) if due => {
                drop(site.lanes.take(u64::MAX, now_ms));
                stream
            }
            Ok(stream) => stream,
            Err(error) => {
                let lane = if due { site.lanes.take(idle_ms, clock::mono_ms()) } else { None };
                return lane.map(Carrier::Lane).ok_or(error);
            }
        };
        let lane = Box::pin(Lane::new(stream)).await;
        lane.map(Carrier::Lane).map_err(std::io::Error::other)
    }

    /// Hands an answer on.
    async fn accept(
        &self,
        response: Response<Incoming>,
        carrier: Carrier,
        picked: Picked,
        upgrade: Option<hyper::upgrade::OnUpgrade>,
    ) -> Result<Response<Answer>, Trouble> {
        let (mut head, body) = response.into_parts();
        let upgraded = head.status == StatusCode::SWITCHING_PROTOCOLS;
        headers::to_client(&mut head.headers, upgraded);
        head.version = Version::HTTP_11;
        head.extensions.clear();
        if let Some(cookie) = picked.cookie.clone() {
            head.headers.append(SET_COOKIE, cookie);
        }
        if !upgraded {
            let body = Answer::streamed(body, carrier, picked);
            return Ok(Response::from_parts(head, body));
        }
        let (Some(upgrade), Carrier::Lane(lane)) = (upgrade, carrier) else {
            return Err(Trouble::Broken);
        };
        let (stream, first) = lane.upgraded().await.ok_or(Trouble::Broken)?;
        Watch::BYTES.over(&stream).map_err(|_| Trouble::Broken)?;
        let tunnel = Tunnel::new(upgrade, stream, first, picked);
        *self.tunnel.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(tunnel);
        Ok(Response::from_parts(head, Answer::default()))
    }
}

impl Trouble {
    fn status(self) -> StatusCode {
        match self {
            Self::Nobody => StatusCode::SERVICE_UNAVAILABLE,
            Self::Broken => StatusCode::BAD_GATEWAY,
            Self::Late => StatusCode::GATEWAY_TIMEOUT,
            Self::Request => StatusCode::BAD_REQUEST,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Nobody => "no replica of this workload can be reached; see `muster routes`\n",
            Self::Broken => "the replica broke off before it answered\n",
            Self::Late => "the replica did not answer in time\n",
            Self::Request => "the request broke off, or cannot be handed on\n",
        }
    }

    /// What the client is told. Clients of gRPC expect its own codes.
    pub(crate) fn answer(self, grpc: bool) -> Response<Answer> {
        if grpc {
            let code = if self == Self::Late { "4" } else { "14" };
            let mut response = Response::new(Answer::default());
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert("grpc-status", HeaderValue::from_static(code));
            let words = HeaderValue::from_static(self.words().trim_ascii_end());
            headers.insert("grpc-message", words);
            return response;
        }
        let mut response = words(self.status(), self.words());
        if self == Self::Nobody {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// An answer of our own.
pub(crate) fn words(status: StatusCode, words: impl Into<bytes::Bytes>) -> Response<Answer> {
    let mut response = Response::new(Answer::words(words));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

fn is_grpc(request: &Request<Incoming>) -> bool {
    let kind = request.headers().get(CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}
