//! TCP: connections are taken, and go the way of what is spoken on them.
//!
//! Those of HTTP are served request by request. Any other goes to one endpoint and stays there until
//! either end closes. Where nothing is declared, a client's first bytes tell; one that waits for the
//! other end to speak first gets its endpoint, and is still found out if it then speaks HTTP.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use runtime::tasks::Tasks;
use runtime::{Failure, Shutdown};
use schemas::spec::AppProtocol;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;

use crate::detect::{self, Seen};
use crate::http::serve::{Front, To};
use crate::pool::{Picked, Pool};
use crate::site::{Site, Watch};
use crate::stream::{Prefixed, Stream};
use crate::{proxy, relay};

/// How many connections a port may have at once.
pub(crate) const CONNECTIONS_MAX: usize = 10_000;

/// How many may wait to be taken.
const BACKLOG: u32 = 4_096;

/// How much is read at a time of what a client says first, in bytes.
const BUFFER: usize = 8 << 10;

/// How long to wait when no connection can be taken: for want of file descriptors, usually.
const BREATH: Duration = Duration::from_millis(50);

/// How long a client may be silent before the other end is given the word.
const SILENT: Duration = Duration::from_millis(50);

/// How long the rest of a first line may take that began like a request.
const LINE: Duration = Duration::from_secs(2);

/// How long a client of HTTP may take to say its first word.
const FIRST: Duration = Duration::from_secs(120);

/// Takes a port.
pub(crate) fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Connections of a gateway before us may linger on the port; a listener may not.
    socket.set_reuseaddr(true)?;
    // What it takes inherits these: clients that vanished do not stay for ever, and what is short is sent at once.
    socket.set_keepalive(true)?;
    socket.set_nodelay(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Goes on with a port that another process took: if it is the one that is meant.
pub(crate) fn go_on(listener: OwnedFd, address: SocketAddr) -> Option<TcpListener> {
    let listener = std::net::TcpListener::from(listener);
    let same = listener
        .local_addr()
        .is_ok_and(|at| at == address || (address.port() == 0 && at.ip() == address.ip()));
    listener.set_nonblocking(true).ok().filter(|()| same)?;
    // An older gateway may not have.
    SockRef::from(&listener).set_tcp_nodelay(true).ok()?;
    TcpListener::from_std(listener).ok()
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
                Ok((client, address)) if connections.len() < CONNECTIONS_MAX => {
                    told = false;
                    let (pool, stop) = (pool.clone(), pool.shared.handover.ending(&stop));
                    connections.spawn("connection", carry(client, address, None, pool, stop));
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

/// Carries one connection that was taken to its end, to the endpoints of a pool. `meant`: where the client
/// was going, where that is not the address that it arrived at.
pub(crate) async fn carry(
    mut client: TcpStream,
    address: SocketAddr,
    meant: Option<SocketAddr>,
    pool: Arc<Pool>,
    stop: Shutdown,
) -> Result<(), Failure> {
    let (way, first) = match pool.protocol() {
        AppProtocol::Tcp => (Way::Bytes(None), Bytes::new()),
        AppProtocol::Proxy => {
            let here = meant.map_or_else(|| client.local_addr(), Ok)?;
            forward(client, address, Bytes::new(), proxy::header(address, here), None, &pool).await;
            return Ok(());
        }
        AppProtocol::Http | AppProtocol::Http2 => match request(&mut client).await {
            Some((first, http2)) => (Way::Requests { http2 }, first),
            None => (Way::Gone, Bytes::new()),
        },
        AppProtocol::Detect => Box::pin(detect(&mut client, address, &pool)).await,
    };
    match way {
        Way::Gone => {}
        Way::Bytes(reached) => {
            forward(client, address, first, Vec::new(), reached, &pool).await;
        }
        Way::Requests { http2 } => {
            let stream = Prefixed::new(first, Stream::Plain(client));
            let front = Front::new(To::Pool(pool.clone()), address.ip(), false, stop);
            pool.traffic.opened();
            // Apart: connections that only carry bytes have no room to carry for it.
            Box::pin(front.serve(stream, http2)).await;
            pool.traffic.closed();
        }
    }
    Ok(())
}

/// What becomes of a connection.
enum Way {
    /// It ended before it began.
    Gone,
    /// It goes to one endpoint, which may have been reached already.
    Bytes(Option<(TcpStream, Picked)>),
    /// It is HTTP.
    Requests { http2: bool },
}

/// What a client of HTTP said first, and whether it is HTTP/2. None when it is gone.
pub(crate) async fn request(client: &mut TcpStream) -> Option<(Bytes, bool)> {
    let mut first = BytesMut::with_capacity(BUFFER);
    let reading = async {
        loop {
            // What is no request at all is answered as a bad one.
            let begins = first.is_empty() || first.starts_with(b"P");
            let seen = detect::look(&first);
            if seen != Seen::Unclear || !begins {
                return Some(seen == Seen::Http2);
            }
            if client.read_buf(&mut first).await.ok()? == 0 {
                return None;
            }
        }
    };
    let http2 = tokio::time::timeout(FIRST, reading).await.ok()??;
    Some((first.freeze(), http2))
}

/// What is spoken on a connection, by who speaks first and how.
async fn detect(client: &mut TcpStream, address: SocketAddr, pool: &Arc<Pool>) -> (Way, Bytes) {
    let mut first = BytesMut::with_capacity(BUFFER);
    match tokio::time::timeout(SILENT, client.read_buf(&mut first)).await {
        Ok(Ok(0) | Err(_)) => return (Way::Bytes(None), Bytes::new()),
        Ok(Ok(_)) => return rest_of_line(client, first, None).await,
        Err(_) => {}
    }
    let mut led = pool.led();
    loop {
        // While nobody has said anything, another endpoint does as well.
        let reaching = pool.reach(address.ip(), connect_bytes);
        let reached = tokio::select! {
            biased;
            read = client.read_buf(&mut first) => return spoke(read, client, first, None).await,
            reached = reaching => reached,
        };
        let Some(reached) = reached else {
            pool.traffic.unserved();
            return (Way::Gone, Bytes::new());
        };
        loop {
            tokio::select! {
                biased;
                read = client.read_buf(&mut first) => {
                    return spoke(read, client, first, Some(reached)).await;
                }
                _ = reached.0.readable() => return (Way::Bytes(Some(reached)), Bytes::new()),
                // Never an error: this client's port has the sender.
                _ = led.changed() => if !reached.1.is_current() {
                    break;
                },
            }
        }
    }
}

/// What becomes of a client that spoke late, when an endpoint may have been reached for it.
async fn spoke(
    read: std::io::Result<usize>,
    client: &mut TcpStream,
    first: BytesMut,
    reached: Option<(TcpStream, Picked)>,
) -> (Way, Bytes) {
    match read {
        Ok(0) | Err(_) => (Way::Bytes(reached), Bytes::new()),
        Ok(_) => rest_of_line(client, first, reached).await,
    }
}

/// Reads on until the first line shows what it is.
async fn rest_of_line(
    client: &mut TcpStream,
    mut first: BytesMut,
    reached: Option<(TcpStream, Picked)>,
) -> (Way, Bytes) {
    let reading = async {
        loop {
            let seen = detect::look(&first);
            if seen != Seen::Unclear {
                return seen;
            }
            match client.read_buf(&mut first).await {
                Ok(0) | Err(_) => return Seen::Other,
                Ok(_) => {}
            }
        }
    };
    let seen = tokio::time::timeout(LINE, reading).await.unwrap_or(Seen::Other);
    let way = match seen {
        // An endpoint that was reached was so for nothing: nothing was said there.
        Seen::Http1 => Way::Requests { http2: false },
        Seen::Http2 => Way::Requests { http2: true },
        Seen::Other | Seen::Unclear => Way::Bytes(reached),
    };
    (way, first.freeze())
}

/// Carries bytes between a client and one endpoint: first those that were read already, and to the
/// endpoint a header before them.
async fn forward(
    mut client: TcpStream,
    address: SocketAddr,
    first: Bytes,
    header: Vec<u8>,
    reached: Option<(TcpStream, Picked)>,
    pool: &Arc<Pool>,
) {
    let reached = match reached {
        Some(reached) => Some(reached),
        // No byte was sent before an endpoint is reached, so trying the next one repeats nothing.
        None => pool.reach(address.ip(), connect_bytes).await,
    };
    let Some((mut endpoint, _picked)) = reached else {
        pool.traffic.unserved();
        return;
    };
    let pipes = &pool.shared.pipes;
    let (from_client, to_client) = client.split();
    let (from_endpoint, mut to_endpoint) = endpoint.split();
    let ended = AtomicBool::new(false);
    let forth = async {
        for before in [header.as_slice(), &first] {
            if !before.is_empty() {
                to_endpoint.write_all(before).await?;
            }
        }
        pool.traffic.received(first.len());
        relay::carry(from_client, to_endpoint, &ended, pipes, |bytes| pool.traffic.received(bytes))
            .await
    };
    let back =
        relay::carry(from_endpoint, to_client, &ended, pipes, |bytes| pool.traffic.sent(bytes));
    // One end that breaks takes the other with it; one that closes leaves the way back open.
    let _ = tokio::try_join!(forth, back);
}

async fn connect_bytes(site: Arc<Site>) -> std::io::Result<TcpStream> {
    let stream = site.connect().await?;
    Watch::BYTES.over(&stream)?;
    Ok(stream)
}
