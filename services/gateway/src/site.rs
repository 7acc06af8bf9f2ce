//! What a port keeps for one of its endpoints.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpStream;

use crate::http::lanes::Lanes;
use crate::numbers::Numbers;
use crate::open::OnReplica;
use crate::table::Endpoint;

/// An endpoint, with what is open on it and what was counted.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) endpoint: Endpoint,
    /// Its address, where that is one and not a name.
    address: Option<SocketAddr>,
    pub(crate) count: OnReplica,
    pub(crate) numbers: Arc<Numbers>,
    /// Connections that HTTP requests travel on.
    pub(crate) lanes: Lanes,
}

impl Site {
    pub(crate) fn new(endpoint: &Endpoint, count: OnReplica, numbers: Arc<Numbers>) -> Self {
        let address = endpoint.address.parse::<IpAddr>().ok();
        Self {
            endpoint: endpoint.clone(),
            address: address.map(|ip| SocketAddr::new(ip, endpoint.port)),
            count,
            numbers,
            lanes: Lanes::default(),
        }
    }

    /// Connects to it.
    pub(crate) async fn connect(&self) -> std::io::Result<TcpStream> {
        let stream = match self.address {
            Some(address) => TcpStream::connect(address).await?,
            None => {
                let named = (self.endpoint.address.as_str(), self.endpoint.port);
                Box::pin(TcpStream::connect(named)).await?
            }
        };
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}
