//! UDP: what one client address sends goes to one endpoint, for as long as either of the two speaks.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use runtime::tasks::Tasks;
use runtime::{Failure, Shutdown};
use tokio::net::UdpSocket;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;

use crate::pool::{Picked, Pool};
use crate::site::Site;

/// How long neither end may speak before they are forgotten.
const IDLE: Duration = Duration::from_secs(30);

/// The same once the port leads elsewhere: what is still to come is the answer to what was said.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The same where whoever comes waits for the next process.
const BRIEF: Duration = Duration::from_millis(100);

/// How many clients a port may have at once.
const CLIENTS_MAX: usize = 10_000;

/// How many datagrams of one client may wait.
const QUEUE: usize = 64;

/// The longest datagram.
const DATAGRAM_MAX: usize = 65_535;

/// How long to wait when nothing can be received.
const BREATH: Duration = Duration::from_millis(50);

/// Takes a port.
pub(crate) async fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    UdpSocket::bind(address).await
}

/// Goes on with a port that another process took: if it is the one that is meant.
pub(crate) fn go_on(socket: OwnedFd, address: SocketAddr) -> Option<UdpSocket> {
    let socket = std::net::UdpSocket::from(socket);
    let same = socket
        .local_addr()
        .is_ok_and(|at| at == address || (address.port() == 0 && at.ip() == address.ip()));
    socket.set_nonblocking(true).ok().filter(|()| same)?;
    UdpSocket::from_std(socket).ok()
}

/// Serves a port until asked to stop, for clients that may speak there. `listening` goes with the
/// socket.
pub(crate) async fn serve(
    socket: UdpSocket,
    pool: Arc<Pool>,
    may: impl Fn(SocketAddr) -> bool + Send,
    stop: Shutdown,
    listening: oneshot::Sender<()>,
) -> Result<(), Failure> {
    let socket = Arc::new(socket);
    let mut buffer = vec![0; DATAGRAM_MAX];
    let mut queues: BTreeMap<SocketAddr, Sender<Vec<u8>>> = BTreeMap::new();
    let mut clients = Tasks::default();
    loop {
        tokio::select! {
            () = stop.requested() => break,
            Some((_, ended)) = clients.ended() => {
                ended?;
                queues.retain(|_, queue| !queue.is_closed());
            }
            received = socket.recv_from(&mut buffer) => match received {
                Ok((_, client)) if !may(client) => {}
                Ok((bytes, client)) => {
                    let datagram = buffer[..bytes].to_vec();
                    let known = queues.get(&client).filter(|queue| !queue.is_closed()).cloned();
                    let queue = match known {
                        Some(queue) => queue,
                        None if clients.len() >= CLIENTS_MAX => {
                            pool.traffic.refused();
                            continue;
                        }
                        None => {
                            let (queue, waiting) = channel(QUEUE);
                            queues.insert(client, queue.clone());
                            let back = Back { socket: socket.clone(), client };
                            clients.spawn("client", forward(waiting, back, pool.clone()));
                            queue
                        }
                    };
                    if queue.try_send(datagram).is_err() {
                        pool.traffic.dropped();
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "no datagram could be received");
                    tokio::time::sleep(BREATH).await;
                }
            },
        }
    }
    // There is no end of a conversation to wait for: what was said may still be answered for a moment,
    // where another process has the port from now on.
    let handover = &pool.shared.handover;
    let words = match handover.is_closing() && handover.is_stored() {
        true => Some(BRIEF),
        false => handover.over().is_requested().then_some(LAST_WORDS),
    };
    if let Some(words) = words {
        drop(listening);
        tokio::time::sleep(words).await;
        clients.shutdown().await;
        return Ok(());
    }
    // No answer without the socket.
    clients.shutdown().await;
    drop(socket);
    drop(listening);
    Ok(())
}

/// The way back to a client.
struct Back {
    socket: Arc<UdpSocket>,
    client: SocketAddr,
}

/// How a stay with one endpoint ended.
enum Ended {
    /// Nobody spoke for long enough.
    Idle,
    /// The endpoint is gone; this datagram did not reach it.
    Elsewhere(Option<Vec<u8>>),
}

/// Carries what one client says: to one endpoint, and to another when that one is gone.
async fn forward(
    mut waiting: Receiver<Vec<u8>>,
    back: Back,
    pool: Arc<Pool>,
) -> Result<(), Failure> {
    let mut unsent = None;
    loop {
        // An endpoint is wanted when there is something to say to it.
        let first = match unsent.take() {
            Some(datagram) => datagram,
            None => match tokio::time::timeout(IDLE, waiting.recv()).await {
                Ok(Some(datagram)) => datagram,
                Ok(None) | Err(_) => return Ok(()),
            },
        };
        let Some((endpoint, picked)) = pool.reach(back.client.ip(), connect).await else {
            pool.traffic.unserved();
            return Ok(());
        };
        match stay(first, &mut waiting, &endpoint, &picked, &back, &pool).await {
            Ended::Idle => return Ok(()),
            Ended::Elsewhere(datagram) => unsent = datagram,
        }
    }
}

/// Carries datagrams between a client and one endpoint.
async fn stay(
    first: Vec<u8>,
    waiting: &mut Receiver<Vec<u8>>,
    endpoint: &UdpSocket,
    picked: &Picked,
    back: &Back,
    pool: &Pool,
) -> Ended {
    let mut next = Some(first);
    let mut led = pool.led();
    loop {
        if let Some(datagram) = next.take() {
            if !picked.is_current() {
                return Ended::Elsewhere(Some(datagram));
            }
            match endpoint.send(&datagram).await {
                Ok(bytes) => pool.traffic.received(bytes),
                // What came back for an earlier datagram: nobody listens there.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    picked.failed(&error);
                    return Ended::Elsewhere(Some(datagram));
                }
                // Too long for the way there, usually: what comes after it may fit.
                Err(_) => pool.traffic.dropped(),
            }
        }
        let leaves = !picked.is_current();
        tokio::select! {
            datagram = waiting.recv() => match datagram {
                Some(datagram) => next = Some(datagram),
                None => return Ended::Idle,
            },
            answer = receive(endpoint) => match answer {
                Ok(answer) => match back.socket.send_to(&answer, back.client).await {
                    Ok(bytes) => pool.traffic.sent(bytes),
                    Err(_) => pool.traffic.dropped(),
                },
                Err(error) => {
                    picked.failed(&error);
                    return Ended::Elsewhere(None);
                }
            },
            // Never an error: this client's port has the sender.
            Ok(()) = led.changed() => {}
            () = tokio::time::sleep(LAST_WORDS), if leaves => return Ended::Elsewhere(None),
            () = tokio::time::sleep(IDLE) => return Ended::Idle,
        }
    }
}

/// Receives one datagram, and takes room for it only when it is there: most clients are silent.
async fn receive(endpoint: &UdpSocket) -> io::Result<Vec<u8>> {
    loop {
        endpoint.readable().await?;
        let mut datagram = Vec::with_capacity(DATAGRAM_MAX);
        match endpoint.try_recv_buf(&mut datagram) {
            Ok(_) => return Ok(datagram),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// A socket that hears from one endpoint only.
async fn connect(site: Arc<Site>) -> io::Result<UdpSocket> {
    let (address, port) = (site.endpoint.address.as_str(), site.endpoint.port);
    let mut found = tokio::net::lookup_host((address, port)).await?;
    let to = found.next().ok_or_else(|| io::Error::other(format!("{address} has no address")))?;
    let from: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(from).await?;
    socket.connect(to).await?;
    Ok(socket)
}
