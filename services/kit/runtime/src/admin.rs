//! The health page of a process: `/livez`, `/readyz`, `/metrics`, `/version`, on loopback.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::{Failure, Metrics, Shutdown};

/// What a process waits for, by the thing that waits. Ready when nothing waits. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<String, Option<String>>>>);

impl Readiness {
    /// Says what is missing; `None` when nothing is.
    pub fn set(&self, check: &str, missing: Option<String>) {
        let mut checks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if checks.get(check) != Some(&missing) {
            match &missing {
                Some(what) => tracing::info!(check, waits_for = what, "not ready"),
                None => tracing::info!(check, "ready"),
            }
            checks.insert(check.to_owned(), missing);
        }
    }

    /// How many things there are that may wait.
    #[must_use]
    pub fn checks(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// One line per thing that waits. Empty: ready.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let checks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = checks.iter().filter_map(|(check, missing)| Some((check, missing.as_ref()?)));
        waiting.map(|(check, what)| format!("{check} waits for {what}")).collect()
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

impl Admin {
    /// Serves the page until asked to stop.
    ///
    /// # Errors
    ///
    /// When the address cannot be had, or is not loopback.
    pub async fn serve(self, address: SocketAddr, shutdown: Shutdown) -> Result<(), Failure> {
        if !address.ip().is_loopback() {
            return Err(format!("--admin-address {address} is not loopback: use 127.0.0.1").into());
        }
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| format!("cannot listen on --admin-address {address}: {error}"))?;
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
            "/readyz" => {
                let missing = self.readiness.missing();
                if missing.is_empty() {
                    (StatusCode::OK, "ready\n".to_owned())
                } else {
                    (StatusCode::SERVICE_UNAVAILABLE, missing.join("\n") + "\n")
                }
            }
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
