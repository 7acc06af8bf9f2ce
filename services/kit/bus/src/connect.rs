//! The connection: which server is good enough, and whether it is there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::{ConnectOptions, Event, RequestErrorKind};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::watch;

use crate::{BusError, Message};

/// The oldest server whose checks on publishing are whole.
const SERVER_MIN: (u64, u64, u64) = (2, 14, 4);
/// The same in words.
pub const SERVER_MIN_TEXT: &str = "2.14.4";

/// After which a call has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);

/// Where to connect, and as whom.
#[derive(Clone, Debug)]
pub struct Connect {
    /// The server: `nats://host:port`.
    pub url: String,
    /// What the server shows this connection as.
    pub name: String,
    /// User and password.
    pub credentials: Option<(String, String)>,
    /// What the subjects of answers begin with.
    pub inbox_prefix: String,
}

/// How else than by user and password a connection is let in and secured.
#[derive(Clone, Debug, Default)]
pub struct Security {
    /// A token instead of user and password.
    pub token: Option<String>,
    /// A file with a user's JWT and the seed of its key, as `nsc` writes it.
    pub creds: Option<PathBuf>,
    /// A file with the seed of a user's key.
    pub nkey: Option<PathBuf>,
    /// The certificate authority that the server's certificate is checked with.
    pub ca: Option<PathBuf>,
    /// A certificate of one's own, and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

impl Security {
    fn names_a_user(&self) -> bool {
        self.token.is_some()
            || self.creds.is_some()
            || self.nkey.is_some()
            || self.certificate.is_some()
    }
}

/// A connection to the bus. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bus {
    pub(crate) client: async_nats::Client,
    pub(crate) context: async_nats::jetstream::Context,
    connections: watch::Receiver<u64>,
    /// The subject that the server last forbade to publish on. It says so apart from any answer.
    denied: watch::Receiver<String>,
}

/// What a plain subscription hears. Messages that come faster than they are read are dropped by the
/// client after 65,536.
#[derive(Debug)]
pub struct Subscription(async_nats::Subscriber);

impl Subscription {
    /// The next message; `None` when the connection is gone for good.
    pub async fn next(&mut self) -> Option<Message> {
        self.0.next().await.map(Message::plain)
    }
}

impl Bus {
    /// Connects, once: whoever starts before the server tries again.
    ///
    /// # Errors
    ///
    /// When nobody answers, the server is too old, or anyone could write to it.
    pub async fn connect(to: &Connect) -> Result<Self, BusError> {
        Self::connect_secured(to, &Security::default()).await
    }

    /// Connects as [`Self::connect`] does, with more ways to be let in.
    ///
    /// # Errors
    ///
    /// Those of [`Self::connect`].
    pub async fn connect_secured(to: &Connect, by: &Security) -> Result<Self, BusError> {
        let named = to.credentials.is_some() || by.names_a_user();
        if !named && !to.url.split(',').all(is_loopback) {
            return Err(BusError::NoAuthentication { url: to.url.clone() });
        }
        let (sender, connections) = watch::channel(0);
        let (denier, denied) = watch::channel(String::new());
        let mut options = ConnectOptions::new()
            .name(&to.name)
            .custom_inbox_prefix(&to.inbox_prefix)
            .connection_timeout(DEADLINE)
            .request_timeout(Some(DEADLINE))
            .ping_interval(Duration::from_secs(2))
            .max_reconnects(None)
            .reconnect_delay_callback(|attempt| {
                Duration::from_millis(u64::try_from(attempt).unwrap_or(100).min(10) * 50)
            })
            .event_callback(move |event| {
                if matches!(event, Event::Connected) {
                    sender.send_modify(|count| *count += 1);
                }
                if let Event::ServerError(error) = &event
                    && let Some(subject) = forbidden(&error.to_string())
                {
                    denier.send_replace(subject.to_owned());
                }
                match event {
                    Event::Connected => tracing::debug!("connected to NATS"),
                    // Whoever let go of it did so.
                    Event::Closed => tracing::debug!("the connection to NATS is closed"),
                    other => tracing::warn!(event = %other, "the connection to NATS says"),
                }
                async {}
            });
        if let Some((user, password)) = &to.credentials {
            options = options.user_and_password(user.clone(), password.clone());
        }
        if let Some(token) = &by.token {
            options = options.token(token.clone());
        }
        if let Some(path) = &by.creds {
            let what = "the JWT of a user and the seed of its key";
            let text = read(path, what)?;
            options = options.credentials(&text).map_err(|error| unusable(path, what, error))?;
        }
        if let Some(path) = &by.nkey {
            options = options.nkey(read(path, "the seed of a user's key")?.trim().to_owned());
        }
        if let Some(path) = &by.ca {
            options = options.add_root_certificates(path.clone());
        }
        if let Some((certificate, key)) = &by.certificate {
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
        let client = options.connect(&to.url).await.map_err(|error| {
            use async_nats::ConnectErrorKind::{Authentication, AuthorizationViolation};
            if matches!(error.kind(), Authentication | AuthorizationViolation) {
                let user = to.credentials.as_ref().map(|(user, _)| user.clone());
                let user = user.unwrap_or_else(|| "one without a name".to_owned());
                return BusError::Denied { url: to.url.clone(), user };
            }
            let mut why = error.to_string();
            if let Some(source) = std::error::Error::source(&error).map(ToString::to_string)
                && !why.contains(&source)
            {
                why = format!("{why}: {source}");
            }
            BusError::Unreachable { url: to.url.clone(), why }
        })?;
        let found = client.server_info().version;
        if !new_enough(&found) {
            let url = to.url.clone();
            return Err(BusError::TooOld { url, found, needed: SERVER_MIN_TEXT });
        }
        let context = async_nats::jetstream::context::ContextBuilder::new()
            .timeout(DEADLINE)
            .ack_timeout(DEADLINE)
            .max_ack_inflight(4_096)
            .build(client.clone());
        Ok(Self { client, context, connections, denied })
    }

    /// Waits until the server forbids to publish on a subject, from now on. For as long as it does
    /// not, for ever: it says nothing where it allows.
    pub(crate) async fn forbids(&self, subject: &str) {
        let mut denied = self.denied.clone();
        denied.mark_unchanged();
        while denied.changed().await.is_ok() {
            if *denied.borrow_and_update() == subject {
                return;
            }
        }
        std::future::pending().await
    }

    /// Whether the server is there now.
    #[must_use]
    pub fn connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }

    /// How often the connection was made. What was not heard in between is not known.
    #[must_use]
    pub fn connections(&self) -> watch::Receiver<u64> {
        self.connections.clone()
    }

    /// The server's version.
    #[must_use]
    pub fn server_version(&self) -> String {
        self.client.server_info().version
    }

    /// The largest message that the server takes, headers included.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.client.server_info().max_payload
    }

    /// Publishes without asking whether it arrived.
    ///
    /// # Errors
    ///
    /// When the connection is gone for good.
    pub async fn publish(&self, subject: &str, payload: Vec<u8>) -> Result<(), BusError> {
        let sent = self.client.publish(subject.to_owned(), Bytes::from(payload)).await;
        sent.map_err(|error| BusError::failed(format!("publishing on {subject}"), error))
    }

    /// Publishes with one header and without asking whether it arrived.
    ///
    /// # Errors
    ///
    /// When the connection is gone for good.
    pub async fn publish_with_header(
        &self,
        subject: &str,
        payload: Vec<u8>,
        header: (&str, &str),
    ) -> Result<(), BusError> {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert(header.0, header.1);
        let payload = Bytes::from(payload);
        let sent = self.client.publish_with_headers(subject.to_owned(), headers, payload).await;
        sent.map_err(|error| BusError::failed(format!("publishing on {subject}"), error))
    }

    /// Publishes without asking whether it arrived, and says where what follows is to go.
    ///
    /// # Errors
    ///
    /// When the connection is gone for good.
    pub async fn publish_with_reply(
        &self,
        subject: &str,
        reply: &str,
        payload: Vec<u8>,
    ) -> Result<(), BusError> {
        let payload = Bytes::from(payload);
        let sent =
            self.client.publish_with_reply(subject.to_owned(), reply.to_owned(), payload).await;
        sent.map_err(|error| BusError::failed(format!("publishing on {subject}"), error))
    }

    /// Hears what is published on a subject from now on.
    ///
    /// # Errors
    ///
    /// When the connection is gone for good.
    pub async fn subscribe(&self, subject: &str) -> Result<Subscription, BusError> {
        let heard = self.client.subscribe(subject.to_owned()).await;
        heard
            .map(Subscription)
            .map_err(|e| BusError::failed(format!("subscribing to {subject}"), e))
    }

    /// A subject of one's own for answers, and what arrives there.
    ///
    /// # Errors
    ///
    /// When the connection is gone for good.
    pub async fn inbox(&self) -> Result<(String, Subscription), BusError> {
        let subject = self.client.new_inbox();
        let subscription = self.subscribe(&subject).await?;
        self.flush().await?;
        Ok((subject, subscription))
    }

    /// As many subjects of one's own for answers as one likes, each this one with a token more, and
    /// what arrives on any of them.
    ///
    /// # Errors
    ///
    /// When the connection is gone for good.
    pub async fn inboxes(&self) -> Result<(String, Subscription), BusError> {
        let prefix = self.client.new_inbox();
        let subscription = self.subscribe(&format!("{prefix}.*")).await?;
        self.flush().await?;
        Ok((prefix, subscription))
    }

    /// Waits until the server has everything that was published so far.
    ///
    /// # Errors
    ///
    /// When it does not answer in time.
    pub async fn flush(&self) -> Result<(), BusError> {
        // The client's own flush ends when the bytes are on their way. The server takes in what one
        // connection sends in order, so its answer to a question proves that it has all before it.
        let asked = self.client.request("$JS.API.INFO", Bytes::new());
        match tokio::time::timeout(DEADLINE, asked).await {
            Ok(Ok(_)) => Ok(()),
            // That nobody answers is an answer of the server as well.
            Ok(Err(error)) if error.kind() == RequestErrorKind::NoResponders => Ok(()),
            Ok(Err(error)) => Err(BusError::failed("flushing", error)),
            Err(error) => Err(BusError::failed("flushing", error)),
        }
    }
}

fn read(path: &Path, what: &'static str) -> Result<String, BusError> {
    std::fs::read_to_string(path).map_err(|error| unusable(path, what, error))
}

fn unusable(path: &Path, what: &'static str, error: std::io::Error) -> BusError {
    BusError::Credentials { path: path.display().to_string(), what, why: error.to_string() }
}

/// Whether a nats-server of this version will do.
#[must_use]
pub fn new_enough(found: &str) -> bool {
    version(found) >= SERVER_MIN
}

/// The subject, when an error of the server says that one may not publish there.
fn forbidden(error: &str) -> Option<&str> {
    let (_, rest) = error.split_once("Permissions Violation for Publish to \"")?;
    rest.split_once('"').map(|(subject, _)| subject)
}

fn version(text: &str) -> (u64, u64, u64) {
    let core = text.trim_start_matches('v').split('-').next().unwrap_or(text);
    let mut parts = core.split('.').map(|part| part.parse().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    (next(), next(), next())
}

fn is_loopback(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let host = match rest.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(v6),
        None => rest.split([':', '/']).next().unwrap_or(rest),
    };
    host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert!(version("2.14.4") >= SERVER_MIN && version("2.15.1-beta.2") > SERVER_MIN);
        assert!(new_enough("v2.15.1"));
        assert!(version("2.9.10") < SERVER_MIN && version("2.14.3") < SERVER_MIN);
    }

    #[test]
    fn a_forbidden_subject_is_read_out_of_the_server_s_words() {
        let text = "nats: Permissions Violation for Publish to \"muster.v1.cmd.app.deploy\"";
        assert_eq!(forbidden(text), Some("muster.v1.cmd.app.deploy"));
        assert_eq!(forbidden("nats: maximum payload violation"), None);
    }

    #[test]
    fn only_this_machine_needs_no_user() {
        for here in
            ["nats://127.0.0.1:4222", "localhost", "nats://[::1]:4222", "nats://u@127.9.9.9"]
        {
            assert!(is_loopback(here), "{here}");
        }
        for elsewhere in ["nats://10.0.0.1:4222", "nats://example.com", "nats://127.0.0.1.example"]
        {
            assert!(!is_loopback(elsewhere), "{elsewhere}");
        }
    }
}
