//! TCP: each connection goes to one endpoint and stays there until either end closes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use runtime::tasks::Tasks;
use runtime::{Failure, Shutdown};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;

use crate::pool::Pool;

/// How many connections a port may have at once.
const CONNECTIONS_MAX: usize = 10_000;

/// How many may wait to be taken.
const BACKLOG: u32 = 1_024;

/// How much of one direction is on its way here, in bytes.
const BUFFER: usize = 8 << 10;

/// How long to wait when no connection can be taken: for want of file descriptors, usually.
const BREATH: Duration = Duration::from_millis(50);

/// Takes a port.
pub(crate) fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Connections of a gateway before us may linger on the port; a listener may not.
    socket.set_reuseaddr(true)?;
    // What it takes inherits this: clients that vanished do not stay for ever.
    socket.set_keepalive(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves a port until asked to stop, then its connections to their end. `listening` goes with the
/// listener.
pub(crate) async fn serve(
    listener: TcpListener,
    pool: Arc<Pool>,
    stop: Shutdown,
    listening: oneshot::Sender<()>,
) -> Result<(), Failure> {
    let mut connections = Tasks::default();
    let mut told = false;
    loop {
        tokio::select! {
            () = stop.requested() => break,
            Some((_, ended)) = connections.ended() => ended?,
            accepted = listener.accept() => match accepted {
                Ok((client, _)) if connections.len() < CONNECTIONS_MAX => {
                    told = false;
                    connections.spawn("connection", forward(client, pool.clone()));
                }
                Ok(_) => pool.traffic.refused(),
                Err(error) => {
                    if !told {
                        tracing::warn!(%error, "no connection can be taken; trying again");
                    }
                    told = true;
                    tokio::time::sleep(BREATH).await;
                }
            },
        }
    }
    drop(listener);
    drop(listening);
    connections.all().await
}

/// Carries one connection, to the end of both directions.
pub(crate) async fn forward(mut client: TcpStream, pool: Arc<Pool>) -> Result<(), Failure> {
    let connect = |address: String, port| async move {
        let stream = TcpStream::connect((address.as_str(), port)).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    // No byte was sent before an endpoint is reached, so trying the next one repeats nothing.
    let Some((mut endpoint, _picked)) = pool.reach(connect).await else {
        pool.traffic.unserved();
        return Ok(());
    };
    // A client that has gone is found out below.
    let _ = client.set_nodelay(true);
    let (from_client, to_client) = client.split();
    let (from_endpoint, to_endpoint) = endpoint.split();
    // One end that breaks takes the other with it; one that closes leaves the way back open.
    let _ = tokio::try_join!(
        carry(from_client, to_endpoint, |bytes| pool.traffic.received(bytes)),
        carry(from_endpoint, to_client, |bytes| pool.traffic.sent(bytes)),
    );
    Ok(())
}

/// Carries one direction to its end, and hands the end on.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    count: impl Fn(usize),
) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
        count(read);
    }
}
