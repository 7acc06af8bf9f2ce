//! What goes on below HTTP after an upgrade: bytes, both ways, until either end closes.

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::pool::Picked;
use crate::stream::Prefixed;

/// A client and a replica that speak something else from now on.
#[derive(Debug)]
pub(crate) struct Tunnel {
    client: OnUpgrade,
    replica: Prefixed<TcpStream>,
    /// The replica is busy with it until its end.
    _picked: Picked,
}

impl Tunnel {
    pub(crate) fn new(client: OnUpgrade, replica: TcpStream, first: Bytes, picked: Picked) -> Self {
        Self { client, replica: Prefixed::new(first, replica), _picked: picked }
    }

    /// Carries it to its end.
    pub(crate) async fn carry(mut self) {
        let Ok(client) = self.client.await else { return };
        let mut client = TokioIo::new(client);
        // An end that breaks takes the other with it.
        let _ = tokio::io::copy_bidirectional(&mut client, &mut self.replica).await;
    }
}
