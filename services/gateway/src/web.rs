//! The ports that serve HTTP and HTTPS for all workloads: their rules, and what these lead to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use runtime::tasks::Tasks;
use runtime::{Failure, Metrics, Shutdown, clock};
use schemas::spec::Tls;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;

use crate::certificates::Certificates;
use crate::http::exchange::Rules;
use crate::http::limit::Limit;
use crate::http::routes::{Routes, Shown};
use crate::http::serve::{Front, To};
use crate::pool::{Pool, Shared};
use crate::stream::{Prefixed, Stream};
use crate::table::{self, Backend, Rule};
use crate::tcp;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long to wait when no connection can be taken.
const BREATH: Duration = Duration::from_millis(50);

/// What the ports for all workloads lead to.
#[derive(Debug)]
pub(crate) struct Web {
    pub(crate) shared: Shared,
    /// The port to which plain requests are redirected, where there is one.
    https: Option<u16>,
    certificates: Option<Certificates>,
    pools: Mutex<BTreeMap<Backend, Arc<Pool>>>,
    routes: RwLock<Arc<Routes<Arc<Live>>>>,
    wanted: Mutex<BTreeSet<String>>,
}

/// A rule that is in force.
#[derive(Debug)]
pub(crate) struct Live {
    rule: Rule,
    pub(crate) pool: Arc<Pool>,
    pub(crate) rules: Rules,
    pub(crate) limit: Option<Arc<Limit>>,
}

impl Live {
    /// Where a request is sent instead, by a status and a place.
    pub(crate) fn elsewhere(
        &self,
        tls: bool,
        https: Option<u16>,
        host: &str,
        path: &str,
    ) -> Option<(hyper::StatusCode, String)> {
        let secure = match &self.rule.route.tls {
            Some(Tls::File { redirect, .. } | Tls::Acme { redirect }) => *redirect,
            None => false,
        };
        match https {
            Some(port) if secure && !tls => {
                let port = if port == 443 { String::new() } else { format!(":{port}") };
                let to = format!("https://{host}{port}{path}");
                return Some((hyper::StatusCode::PERMANENT_REDIRECT, to));
            }
            _ => {}
        }
        let to = self.rule.route.redirect.as_ref()?;
        let to = to.replace("{host}", host).replace("{path}", path);
        Some((hyper::StatusCode::TEMPORARY_REDIRECT, to))
    }
}

impl Web {
    pub(crate) fn new(shared: Shared, https: Option<u16>, certificates: Option<PathBuf>) -> Self {
        Self {
            shared,
            https,
            certificates: certificates.map(Certificates::new),
            pools: Mutex::default(),
            routes: RwLock::default(),
            wanted: Mutex::default(),
        }
    }

    /// Goes by these rules from now on. Requests under way end as they began.
    pub(crate) fn lead(&self, web: &table::Web) {
        let mut pools = self.pools();
        pools.retain(|backend, pool| {
            let stays = web.backends.contains_key(backend);
            if !stays {
                pool.lead_nowhere();
            }
            stays
        });
        for (backend, route) in &web.backends {
            match pools.get(backend) {
                Some(pool) => pool.lead(route),
                None => {
                    let name =
                        backend.port.map_or("http".to_owned(), |port| format!("http/{port}"));
                    pools.insert(backend.clone(), Pool::new(name, route, &self.shared));
                }
            }
        }
        let before = self.routes();
        let live = web.rules.iter().filter_map(|rule| {
            let pool = pools.get(&rule.to)?.clone();
            let route = rule.route.clone();
            // One that stays keeps its count of what passed.
            let old = before.all().find(|live| live.rule == *rule);
            let limit = old.and_then(|live| live.limit.clone()).or_else(|| {
                route.rate_limit.map(|rate| Arc::new(Limit::new(rate, clock::mono_ms())))
            });
            let rules = rules(&route);
            Some((route, Arc::new(Live { rule: rule.clone(), pool, rules, limit })))
        });
        let routes = Routes::of(live);
        *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = routes.certificates();
        self.shared.shelf.want(routes.ordered());
        *self.routes.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(routes);
        drop(pools);
        self.refresh();
    }

    /// The rule that a request falls under.
    pub(crate) fn find(&self, host: &str, path: &str) -> Option<Arc<Live>> {
        self.routes().find(host, path).cloned()
    }

    pub(crate) fn https(&self) -> Option<u16> {
        self.https
    }

    /// Reads certificates that changed. What is wrong with any.
    pub(crate) fn refresh(&self) -> Vec<String> {
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut troubles = match &self.certificates {
            Some(certificates) => certificates.refresh(&wanted),
            None => wanted
                .iter()
                .map(|name| format!("certificate {name}: give --certificates"))
                .collect(),
        };
        troubles.extend(self.shared.shelf.troubles());
        troubles
    }

    /// Adds its numbers to those of the process.
    pub(crate) fn tell(&self, metrics: &Metrics) {
        for pool in self.pools().values() {
            pool.tell(metrics);
        }
        self.shared.shelf.tell(metrics);
    }

    fn pools(&self) -> MutexGuard<'_, BTreeMap<Backend, Arc<Pool>>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn routes(&self) -> Arc<Routes<Arc<Live>>> {
        self.routes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Web {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let routes = self.routes();
        let host = hello.server_name().unwrap_or_default();
        match routes.certificate(host)? {
            Shown::File(name) => self.certificates.as_ref()?.get(name),
            Shown::Ordered => self.shared.shelf.get(host),
        }
    }
}

/// What a declaration says of how its requests are treated. Headers that are none are left out: the
/// controller accepts none.
fn rules(route: &schemas::spec::Route) -> Rules {
    let header = |(name, value): (&String, &String)| {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        Some((name, HeaderValue::from_str(value).ok()?))
    };
    Rules {
        timeout: Duration::from_millis(route.timeout_ms),
        retries: route.retries,
        set_headers: route.set_headers.iter().filter_map(header).collect(),
    }
}

/// What turns a connection to the port of HTTPS into one that can be read.
///
/// # Errors
///
/// When there is no protocol that both the provider and we know, which cannot be.
pub(crate) fn acceptor(web: &Arc<Web>) -> Result<TlsAcceptor, Failure> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(web.clone());
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves one of the ports until asked to stop, then its connections to their end. `listening` goes with
/// the listener.
pub(crate) async fn serve(
    listener: TcpListener,
    web: Arc<Web>,
    tls: Option<TlsAcceptor>,
    stop: Shutdown,
    listening: oneshot::Sender<()>,
) -> Result<(), Failure> {
    let mut connections = Tasks::default();
    loop {
        tokio::select! {
            () = stop.requested() => break,
            Some((_, ended)) = connections.ended() => ended?,
            accepted = listener.accept() => match accepted {
                Ok((client, address)) if connections.len() < tcp::CONNECTIONS_MAX => {
                    let stop = web.shared.handover.ending(&stop);
                    let (web, tls) = (web.clone(), tls.clone());
                    connections.spawn("connection", async move {
                        carry(client, address, web, tls, stop).await;
                        Ok(())
                    });
                }
                Ok(_) => {}
                Err(_) => tokio::time::sleep(BREATH).await,
            },
        }
    }
    drop(listener);
    drop(listening);
    connections.all().await
}

async fn carry(
    mut client: TcpStream,
    address: SocketAddr,
    web: Arc<Web>,
    tls: Option<TlsAcceptor>,
    stop: Shutdown,
) {
    let front = Front::new(To::Web(web), address.ip(), tls.is_some(), stop);
    let Some(tls) = tls else {
        let Some((first, http2)) = tcp::request(&mut client).await else { return };
        return front.serve(Prefixed::new(first, Stream::Plain(client)), http2).await;
    };
    match tokio::time::timeout(HANDSHAKE, tls.accept(client)).await {
        Ok(Ok(stream)) => {
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let stream = Stream::Tls(Box::new(stream));
            front.serve(Prefixed::new(bytes::Bytes::new(), stream), http2).await;
        }
        Ok(Err(error)) => tracing::debug!(%address, %error, "no TLS with a client"),
        Err(_) => tracing::debug!(%address, "a client was silent before TLS"),
    }
}
