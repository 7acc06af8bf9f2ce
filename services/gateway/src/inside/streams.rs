//! TCP inside: one listener takes what was meant for any port of any workload. The packet filter
//! remembers where each connection was going.

use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use runtime::tasks::Tasks;
use runtime::{Failure, Shutdown};
use schemas::spec::Protocol;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::doors::Inside;
use crate::table::Published;
use crate::tcp;

/// How many connections there may be at once, over all workloads.
const CONNECTIONS_MAX: usize = 50_000;

/// How long to wait when no connection can be taken: for want of file descriptors, usually.
const BREATH: Duration = Duration::from_millis(50);

/// Takes connections until asked to stop, then lets them end. `listening` goes with the listener.
pub(crate) async fn serve(
    listener: TcpListener,
    inside: Arc<Inside>,
    stop: Shutdown,
    listening: oneshot::Sender<()>,
) -> Result<(), Failure> {
    let mut connections = Tasks::default();
    loop {
        tokio::select! {
            () = stop.requested() => break,
            Some((_, ended)) = connections.ended() => ended?,
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((client, from)) => {
                    let stop = inside.shared.handover.ending(&stop);
                    connections.spawn("connection", carry(client, from, inside.clone(), stop));
                }
                Err(error) => {
                    tracing::debug!(%error, "no connection can be taken; trying again");
                    tokio::time::sleep(BREATH).await;
                }
            },
        }
    }
    drop(listener);
    drop(listening);
    connections.all().await
}

/// Carries one connection to where it was going.
async fn carry(
    client: TcpStream,
    from: SocketAddr,
    inside: Arc<Inside>,
    stop: Shutdown,
) -> Result<(), Failure> {
    let (IpAddr::V4(address), Some(to)) = (from.ip(), destination(&client)) else {
        return Ok(());
    };
    let port = Published { protocol: Protocol::Tcp, port: to.port() };
    let map = inside.known(address).await;
    let admitted = match inside.range.number(*to.ip()) {
        Some(number) => inside.admit(&map, address, number, port),
        None => return Ok(()),
    };
    match admitted {
        Ok((pool, _room)) => tcp::carry(client, from, Some(to.into()), pool, stop).await,
        Err(why) => {
            tracing::debug!(%from, %to, ?why, "a connection is refused");
            // As one finds out where nobody listens, and not as an end of what was said.
            let _ = socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO));
            Ok(())
        }
    }
}

fn destination(client: &TcpStream) -> Option<SocketAddrV4> {
    socket2::SockRef::from(client).original_dst_v4().ok()?.as_socket_ipv4()
}
