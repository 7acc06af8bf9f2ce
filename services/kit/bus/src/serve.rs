//! Requests and answers, by the micro-service conventions of NATS: discoverable, with error headers.

use std::time::Duration;

use async_nats::service::ServiceExt as _;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::SelectAll;

use crate::{Bus, BusError, RequestError};

/// The header with an error's text, and the one with its code.
const ERROR: &str = "Nats-Service-Error";
const ERROR_CODE: &str = "Nats-Service-Error-Code";

/// Endpoints that are being served.
pub struct Served {
    service: async_nats::service::Service,
    endpoints: SelectAll<futures_util::stream::BoxStream<'static, Request>>,
}

/// A request to one of the endpoints.
pub struct Request {
    /// The endpoint's subject.
    pub subject: &'static str,
    /// What was asked.
    pub payload: Bytes,
    inner: async_nats::service::Request,
}

impl Request {
    /// Answers it.
    pub async fn respond(self, answer: Result<Vec<u8>, (u16, String)>) {
        let answer = match answer {
            Ok(bytes) => Ok(Bytes::from(bytes)),
            Err((code, text)) => {
                // It travels in a header, which has one line.
                let status = schemas::command::printable(&text.replace(['\r', '\n'], " "), 400);
                Err(async_nats::service::error::Error { status, code: usize::from(code) })
            }
        };
        if let Err(error) = self.inner.respond(answer).await {
            tracing::debug!(subject = self.subject, %error, "an answer was not sent");
        }
    }
}

impl Served {
    /// The next request; `None` when the connection is gone for good.
    pub async fn next(&mut self) -> Option<Request> {
        self.endpoints.next().await
    }

    /// Serves no more, and is not found any more.
    pub async fn stop(self) {
        drop(self.endpoints);
        if let Err(error) = self.service.stop().await {
            tracing::debug!(%error, "a service was not stopped");
        }
    }
}

impl Bus {
    /// Serves endpoints, each on a subject of its own.
    ///
    /// # Errors
    ///
    /// When the server does not take the subscriptions.
    pub async fn serve(
        &self,
        name: &str,
        description: &str,
        subjects: &[&'static str],
    ) -> Result<Served, BusError> {
        let failed = |error: async_nats::Error| BusError::failed(format!("serving {name}"), error);
        let service = self
            .client
            .service_builder()
            .description(description)
            .start(name, env!("CARGO_PKG_VERSION"))
            .await
            .map_err(failed)?;
        let mut endpoints = SelectAll::new();
        for &subject in subjects {
            let endpoint = service
                .endpoint_builder()
                .name(subject.replace('.', "-"))
                .add(subject)
                .await
                .map_err(failed)?;
            let requests = endpoint.map(move |inner| Request {
                subject,
                payload: inner.message.payload.clone(),
                inner,
            });
            endpoints.push(requests.boxed());
        }
        // From here on the server knows of them.
        self.flush().await?;
        Ok(Served { service, endpoints })
    }

    /// Asks, and waits for one answer.
    ///
    /// # Errors
    ///
    /// When nobody is there, no answer comes in time, or the answer is an error.
    pub async fn request(
        &self,
        subject: &str,
        payload: Vec<u8>,
        deadline: Duration,
    ) -> Result<Bytes, RequestError> {
        use async_nats::RequestErrorKind;
        let request = async_nats::Request::new().payload(payload.into()).timeout(Some(deadline));
        let answer = tokio::select! {
            biased;
            () = self.forbids(subject) => return Err(RequestError::Denied(subject.to_owned())),
            answer = self.client.send_request(subject.to_owned(), request) => answer,
        };
        let answer = answer.map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders => RequestError::NobodyThere(subject.to_owned()),
            RequestErrorKind::TimedOut => RequestError::TimedOut(subject.to_owned()),
            _ => RequestError::Failed(error.to_string()),
        })?;
        let header =
            |name: &str| answer.headers.as_ref()?.get(name).map(async_nats::HeaderValue::as_str);
        if let Some(text) = header(ERROR) {
            let code = header(ERROR_CODE).and_then(|code| code.parse().ok()).unwrap_or(500);
            return Err(RequestError::Refused { code, text: text.to_owned() });
        }
        Ok(answer.payload)
    }
}
