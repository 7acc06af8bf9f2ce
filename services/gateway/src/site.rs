//! What a port keeps for one of its endpoints, and how its machine is watched while something is under way.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use runtime::clock;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::http::lanes::Lanes;
use crate::numbers::Numbers;
use crate::open::OnReplica;
use crate::table::Endpoint;
use crate::ways::Way;

/// For how long a machine may say nothing before a connection to it is given up. The systems at both ends
/// see to it: however long a replica takes to answer, its machine acknowledges.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch {
    /// With nothing under way for so long, it is asked whether it is there, and again as often.
    ask: Duration,
    /// For so long it may acknowledge nothing.
    give_up: Duration,
}

impl Watch {
    /// Of requests: they can be answered by another replica while the client still waits.
    pub(crate) const REQUESTS: Self =
        Self { ask: Duration::from_secs(1), give_up: Duration::from_secs(3) };

    /// Of bytes that can only go on there: a link that fails for a moment does not end them.
    pub(crate) const BYTES: Self =
        Self { ask: Duration::from_secs(10), give_up: Duration::from_secs(40) };

    /// Has a connection be watched like this.
    pub(crate) fn over(self, stream: &TcpStream) -> std::io::Result<()> {
        let socket = SockRef::from(stream);
        let ask = TcpKeepalive::new().with_time(self.ask).with_interval(self.ask);
        socket.set_tcp_keepalive(&ask)?;
        socket.set_tcp_user_timeout(Some(self.give_up))
    }
}

/// Whether it is the other machine that says nothing, rather than that nobody listens there. The system
/// says what it heard last of the way there, if anything.
pub(crate) fn is_silence(kind: ErrorKind) -> bool {
    use ErrorKind::{HostUnreachable, NetworkUnreachable, TimedOut};
    matches!(kind, TimedOut | HostUnreachable | NetworkUnreachable)
}

/// An endpoint, with what is open on it and what was counted.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) endpoint: Endpoint,
    /// Its address, where that is one and not a name.
    address: Option<SocketAddr>,
    pub(crate) count: OnReplica,
    pub(crate) numbers: Arc<Numbers>,
    /// How far it is to its node.
    pub(crate) way: Arc<Way>,
    /// Connections that HTTP requests travel on.
    pub(crate) lanes: Lanes,
    /// Who looks after it is to look at what is known of it anew.
    pub(crate) news: Notify,
}

impl Site {
    pub(crate) fn new(
        endpoint: &Endpoint,
        count: OnReplica,
        numbers: Arc<Numbers>,
        way: Arc<Way>,
    ) -> Self {
        let address = endpoint.address.parse::<IpAddr>().ok();
        Self {
            endpoint: endpoint.clone(),
            address: address.map(|ip| SocketAddr::new(ip, endpoint.port)),
            count,
            numbers,
            way,
            lanes: Lanes::default(),
            news: Notify::new(),
        }
    }

    /// Connects to it.
    pub(crate) async fn connect(&self) -> std::io::Result<TcpStream> {
        let mut begun_us = clock::mono_us();
        let stream = match self.address {
            Some(address) => TcpStream::connect(address).await?,
            None => {
                let named = (self.endpoint.address.as_str(), self.endpoint.port);
                let found: Vec<_> = Box::pin(tokio::net::lookup_host(named)).await?.collect();
                // Who is asked for a name is no part of the way.
                begun_us = clock::mono_us();
                Box::pin(TcpStream::connect(found.as_slice())).await?
            }
        };
        let took_us = clock::mono_us().saturating_sub(begun_us);
        self.way.connected(took_us, clock::mono_ms());
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}
