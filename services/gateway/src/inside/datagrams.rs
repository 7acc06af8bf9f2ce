//! UDP inside: a socket for each port of each workload, because a datagram does not tell where it was
//! going once it is translated.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use runtime::Shutdown;
use runtime::process::Stopper;
use runtime::tasks::Tasks;
use schemas::id::{AppKey, WorkloadName};
use schemas::spec::Protocol;
use tokio::sync::oneshot;

use super::doors::Inside;
use super::map::Map;
use crate::handover::{self, Kept};
use crate::udp;

/// The sockets, by the number of the workload and its port.
#[derive(Default)]
pub(crate) struct Datagrams {
    sockets: BTreeMap<(u16, u16), Socket>,
    tasks: Tasks,
}

struct Socket {
    of: (AppKey, WorkloadName),
    /// The port that it really has.
    port: u16,
    stopper: Stopper,
    /// Ends when nobody receives on it any more.
    gone: oneshot::Receiver<()>,
    kept: Kept,
}

impl Datagrams {
    /// Opens and closes sockets so that there is one for each UDP port of a map: the port that each
    /// has.
    pub(crate) async fn become_as(
        &mut self,
        inside: &Arc<Inside>,
        map: &Map,
    ) -> Result<BTreeMap<(u16, u16), u16>, String> {
        let mut before = std::mem::take(&mut self.sockets);
        for (of, served) in &map.workloads {
            for published in served.ports.keys().filter(|port| port.protocol == Protocol::Udp) {
                let key = (served.number, published.port);
                let there = before.remove(&key).filter(|socket| socket.of == *of);
                let socket = match there {
                    Some(socket) => socket,
                    None => {
                        let whole = (of.0.clone(), of.1.clone(), *published);
                        let Some(pool) = inside.pool(&whole) else { continue };
                        self.open(inside.clone(), of.clone(), key, pool).await?
                    }
                };
                self.sockets.insert(key, socket);
            }
        }
        for socket in before.into_values() {
            socket.stopper.stop();
        }
        Ok(self.sockets.iter().map(|(key, socket)| (*key, socket.port)).collect())
    }

    async fn open(
        &mut self,
        inside: Arc<Inside>,
        of: (AppKey, WorkloadName),
        key: (u16, u16),
        pool: Arc<crate::pool::Pool>,
    ) -> Result<Socket, String> {
        let failed =
            |error: std::io::Error| format!("no socket for datagrams to {}: {error}", of.1);
        let address = SocketAddr::from((inside.range.name_server(), 0));
        let handover = &inside.shared.handover;
        let what = handover::Socket::Datagrams { number: key.0, port: key.1 };
        let before = handover.taken(what).and_then(|socket| udp::go_on(socket, address));
        let socket = match before {
            Some(socket) => socket,
            None => udp::bind(address).await.map_err(failed)?,
        };
        let kept = handover.keep(what, &socket).map_err(failed)?;
        let port = socket.local_addr().map_err(failed)?.port();
        let (stopper, stop) = Shutdown::new();
        let (listening, gone) = oneshot::channel();
        let workload = of.clone();
        let may = move |client: SocketAddr| {
            let map = inside.map();
            let app = match client.ip() {
                IpAddr::V4(address) => map.source(address),
                IpAddr::V6(_) => None,
            };
            let may = app.is_some_and(|app| map.reached(app, &workload).is_some());
            if !may {
                inside.counts.refused.fetch_add(1, Relaxed);
            }
            may
        };
        let name = format!("datagrams to {}", key.1);
        self.tasks.spawn(name, udp::serve(socket, pool, may, stop, listening));
        Ok(Socket { of, port, stopper, gone, kept })
    }

    /// Receives nothing new. What was said may still be answered.
    pub(crate) async fn shut(&mut self) {
        for socket in std::mem::take(&mut self.sockets).into_values() {
            socket.stopper.stop();
            let _ = socket.gone.await;
            drop(socket.kept);
        }
    }

    /// Waits until what was said has been answered, or has had its time, after all were shut.
    pub(crate) async fn answered(self) -> Result<(), runtime::Failure> {
        self.tasks.all().await
    }

    /// Waits for a socket's end, which is one that was closed.
    pub(crate) async fn ended(&mut self) -> Result<(), runtime::Failure> {
        match self.tasks.ended().await {
            Some((_, ended)) => ended,
            None => std::future::pending().await,
        }
    }
}
