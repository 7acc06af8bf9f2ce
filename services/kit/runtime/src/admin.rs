//! The health page of a process: `/livez`, `/readyz`, `/metrics`, `/version`, on loopback.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::{Failure, Metrics, Shutdown};

/// What a process waits for, by the thing that waits. Ready when nothing waits. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<Checks>>);

#[derive(Debug, Default)]
struct Checks {
    missing: BTreeMap<String, Option<String>>,
    troubles: BTreeMap<String, Vec<String>>,
}

impl Readiness {
    /// Says what is missing; `None` when nothing is.
    pub fn set(&self, check: &str, missing: Option<String>) {
        let checks = &mut self.lock().missing;
        if checks.get(check) != Some(&missing) {
            match &missing {
                Some(what) => tracing::info!(check, waits_for = what, "not ready"),
                None => tracing::info!(check, "ready"),
            }
            checks.insert(check.to_owned(), missing);
        }
    }

    /// Says what is wrong while the rest serves. The page shows it, and stays ready.
    pub fn troubles(&self, check: &str, troubles: Vec<String>) {
        self.lock().troubles.insert(check.to_owned(), troubles);
    }

    fn lock(&self) -> MutexGuard<'_, Checks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many things there are that may wait.
    #[must_use]
    pub fn checks(&self) -> usize {
        self.lock().missing.len()
    }

    /// One line per thing that waits. Empty: ready.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let checks = &self.lock().missing;
        let waiting = checks.iter().filter_map(|(check, missing)| Some((check, missing.as_ref()?)));
        waiting.map(|(check, what)| format!("{check} waits for {what}")).collect()
    }

    /// The page: ready or not, and a line for everything that waits or is wrong.
    #[must_use]
    pub fn page(&self) -> (StatusCode, String) {
        let mut lines = self.missing();
        let status =
            if lines.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        if lines.is_empty() {
            lines.push("ready".to_owned());
        }
        for (check, troubles) in &self.lock().troubles {
            lines.extend(troubles.iter().map(|trouble| format!("{check}: {trouble}")));
        }
        (status, lines.join("\n") + "\n")
    }
}

/// What the page shows.
#[derive(Clone, Debug, Default)]
pub struct Admin {
    /// What is waited for.
    pub readiness: Readiness,
    /// The numbers.
    pub metrics: Metrics,
}

/// Takes the address of a page.
///
/// # Errors
///
/// When it is not loopback, or cannot be had.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    if !address.ip().is_loopback() {
        return Err(io::Error::other("it is not loopback: use 127.0.0.1"));
    }
    TcpListener::bind(address).await
}

impl Admin {
    /// Serves the page until asked to stop.
    ///
    /// # Errors
    ///
    /// When the address cannot be had, or is not loopback.
    pub async fn serve(self, address: SocketAddr, shutdown: Shutdown) -> Result<(), Failure> {
        let listener = bind(address)
            .await
            .map_err(|error| format!("cannot listen on --admin-address {address}: {error}"))?;
        self.serve_on(listener, shutdown).await
    }

    /// The same where it is listened already.
    ///
    /// # Errors
    ///
    /// When that is nowhere.
    pub async fn serve_on(self, listener: TcpListener, shutdown: Shutdown) -> Result<(), Failure> {
        tracing::info!(address = %listener.local_addr()?, "health page");
        let mut connections = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                () = shutdown.requested() => return Ok(()),
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => {
                    let Ok((stream, _)) = accepted else { continue };
                    let admin = self.clone();
                    let service = hyper::service::service_fn(move |request| {
                        let answer = admin.answer(&request);
                        async move { Ok::<_, Infallible>(answer) }
                    });
                    let serving = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service);
                    connections.spawn(serving);
                }
            }
        }
    }

    fn answer(&self, request: &hyper::Request<hyper::body::Incoming>) -> Response<Full<Bytes>> {
        let (status, text) = match request.uri().path() {
            "/livez" => (StatusCode::OK, "ok\n".to_owned()),
            "/readyz" => self.readiness.page(),
            "/metrics" => (StatusCode::OK, self.metrics.text()),
            "/version" => (StatusCode::OK, concat!(env!("CARGO_PKG_VERSION"), "\n").to_owned()),
            _ => {
                let known = "there is /livez, /readyz, /metrics and /version\n";
                (StatusCode::NOT_FOUND, known.to_owned())
            }
        };
        let mut answer = Response::new(Full::new(Bytes::from(text)));
        *answer.status_mut() = status;
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_shows_and_leaves_the_page_ready() {
        let readiness = Readiness::default();
        readiness.set("gateway", Some("NATS".to_owned()));
        readiness.troubles("gateway", vec!["port 80 is taken".to_owned()]);
        let (status, text) = readiness.page();
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(text, "gateway waits for NATS\ngateway: port 80 is taken\n");
        readiness.set("gateway", None);
        let (status, text) = readiness.page();
        assert_eq!(status, StatusCode::OK);
        assert_eq!(text, "ready\ngateway: port 80 is taken\n");
        readiness.troubles("gateway", Vec::new());
        assert_eq!(readiness.page(), (StatusCode::OK, "ready\n".to_owned()));
    }
}
