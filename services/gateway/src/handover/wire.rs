//! What the two processes say to each other: one JSON text after its length, with a socket or without.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::Socket;

/// The form of what is said. Another one is refused.
pub(crate) const VERSION: u32 = 1;

/// How long either may take to say what it has at hand.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// The longest text, in bytes.
const TEXT_MAX: u32 = 64 << 10;

/// What the next one says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    /// It wants the sockets.
    Take {
        version: u32,
        /// The address that it serves on.
        listen: IpAddr,
        /// The range that it serves names in.
        range: Option<String>,
    },
    /// It serves: the running one may let go.
    Serving,
}

/// What the running one says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Say {
    /// It gives none, or waits for the next one no longer: it serves on.
    Refused { why: String },
    /// Another process has them already and is about to serve: only one can.
    Busy { process: u32 },
    /// A socket comes with this.
    Socket(Socket),
    /// That was all of them.
    All { process: u32 },
    /// It listens on nothing any more, and will not again.
    Shut,
}

/// Sends a text, and a socket with it.
pub(crate) async fn send(
    stream: &UnixStream,
    what: &impl Serialize,
    socket: Option<&OwnedFd>,
) -> io::Result<()> {
    let text = serde_json::to_vec(what)?;
    let length = u32::try_from(text.len()).map_err(io::Error::other)?.to_be_bytes();
    let sent = stream
        .async_io(Interest::WRITABLE, || {
            let fds: Vec<_> = socket.iter().map(|socket| socket.as_fd()).collect();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !fds.is_empty() {
                control.push(SendAncillaryMessage::ScmRights(&fds));
            }
            let sent =
                sendmsg(stream, &[IoSlice::new(&length)], &mut control, SendFlags::NOSIGNAL)?;
            Ok(sent)
        })
        .await?;
    write_all(stream, &length[sent..]).await?;
    write_all(stream, &text).await
}

/// Receives a text, and the socket that came with it.
pub(crate) async fn receive<T: DeserializeOwned>(
    stream: &UnixStream,
) -> io::Result<(T, Option<OwnedFd>)> {
    let mut length = [0; 4];
    let (got, socket) = stream
        .async_io(Interest::READABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let into = &mut [IoSliceMut::new(&mut length)];
            let got = recvmsg(stream, into, &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
            let sockets = control.drain().filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
                _ => None,
            });
            Ok((got, sockets.last()))
        })
        .await?;
    if got == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    read_all(stream, &mut length[got..]).await?;
    let length = u32::from_be_bytes(length);
    if length > TEXT_MAX {
        return Err(io::Error::other(format!("a text of {length} bytes is too long")));
    }
    let mut text = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    read_all(stream, &mut text).await?;
    Ok((serde_json::from_slice(&text)?, socket))
}

async fn write_all(stream: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn read_all(stream: &UnixStream, bytes: &mut [u8]) -> io::Result<()> {
    let mut read = 0;
    while read < bytes.len() {
        stream.readable().await?;
        match stream.try_read(&mut bytes[read..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(got) => read += got,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
