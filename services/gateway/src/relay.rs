//! Carries bytes from one connection to another.
//!
//! Through a buffer of our own at first, which grows with what comes at a time. Where much comes, the
//! bytes stay in the kernel from then on: they are moved through a pipe, and nobody copies them.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use rustix::pipe::{PipeFlags, SpliceFlags};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How much is carried at a time at first, and at most, in bytes.
const BUFFER: usize = 8 << 10;
const BUFFER_MAX: usize = 64 << 10;

/// How much a pipe is asked to hold, in bytes.
const PIPE: usize = 256 << 10;

/// How many pipes a gateway has at most: each takes two file descriptors.
const PIPES_MAX: usize = 512;

/// The pipes that there may be. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Pipes(Arc<Semaphore>);

impl Default for Pipes {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(PIPES_MAX)))
    }
}

/// A pipe that is empty between two uses.
#[derive(Debug)]
struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
    _room: OwnedSemaphorePermit,
}

impl Pipes {
    /// One, if it can be had.
    fn take(&self) -> Option<Pipe> {
        let room = self.0.clone().try_acquire_owned().ok()?;
        let (out, into) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        // It does as well with what it has when it may not have more.
        let _ = rustix::pipe::fcntl_setpipe_size(&into, PIPE);
        Some(Pipe { out, into, _room: room })
    }
}

/// Carries one direction to its end, and hands the end on. The second one of the two to end, as `ended`
/// says, leaves that to whoever drops both connections.
pub(crate) async fn carry(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    ended: &AtomicBool,
    pipes: &Pipes,
    count: impl Fn(usize),
) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(BUFFER);
    let mut refused = false;
    loop {
        buffer.clear();
        let read = from.read_buf(&mut buffer).await?;
        if read == 0 {
            break;
        }
        to.write_all(&buffer).await?;
        count(read);
        if read < buffer.capacity() {
            continue;
        }
        if buffer.capacity() < BUFFER_MAX {
            buffer = Vec::with_capacity(buffer.capacity() * 2);
        } else if !refused {
            match pipes.take() {
                Some(pipe) => {
                    drop(buffer);
                    splice(from.as_ref(), to.as_ref(), &pipe, count).await?;
                    break;
                }
                None => refused = true,
            }
        }
    }
    if ended.swap(true, Relaxed) { Ok(()) } else { to.shutdown().await }
}

/// Moves everything up to the end, through a pipe that is empty.
async fn splice(
    from: &TcpStream,
    to: &TcpStream,
    pipe: &Pipe,
    count: impl Fn(usize),
) -> io::Result<()> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    loop {
        // The pipe is empty, so that nothing but the want of bytes makes it wait.
        let moved = from
            .async_io(Interest::READABLE, || {
                Ok(rustix::pipe::splice(from, None, &pipe.into, None, PIPE, flags)?)
            })
            .await?;
        if moved == 0 {
            return Ok(());
        }
        let mut left = moved;
        while left > 0 {
            // The pipe has bytes, so that nothing but the want of room makes it wait.
            left -= to
                .async_io(Interest::WRITABLE, || {
                    Ok(rustix::pipe::splice(&pipe.out, None, to, None, left, flags)?)
                })
                .await?;
        }
        count(moved);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::atomic::AtomicUsize;

    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("there are ports");
        let address = listener.local_addr().expect("it has an address");
        let (one, other) = tokio::join!(TcpStream::connect(address), listener.accept());
        (one.expect("loopback works"), other.expect("loopback works").0)
    }

    /// Bytes of which none is as the one at any power of two before it.
    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|i| u8::try_from(i % 251).expect("it is below 251")).collect()
    }

    /// Sends so much, reads it slowly at first, and says how many pipes were in use at most.
    async fn carried(length: usize, pipes: &Pipes) -> usize {
        let (mut client, mut here) = pair().await;
        let (mut there, mut endpoint) = pair().await;
        let (counted, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let sent = bytes(length);
        let send = async {
            client.write_all(&sent).await?;
            client.shutdown().await
        };
        let carry = async {
            let (from, _back) = here.split();
            let (_forth, to) = there.split();
            carry(from, to, &AtomicBool::new(false), pipes, |bytes| {
                counted.fetch_add(bytes, Relaxed);
                most.fetch_max(PIPES_MAX - pipes.0.available_permits(), Relaxed);
            })
            .await
        };
        let receive = async {
            tokio::task::yield_now().await;
            let mut received = Vec::new();
            endpoint.read_to_end(&mut received).await.map(|_| received)
        };
        let ((), (), received) = tokio::try_join!(send, carry, receive).expect("loopback works");
        assert!(received == sent, "{} of {length} bytes, or others", received.len());
        assert_eq!(counted.load(Relaxed), length);
        most.load(Relaxed)
    }

    #[tokio::test]
    async fn every_byte_arrives_once_and_in_order_by_either_way() {
        let pipes = Pipes::default();
        for length in [0, 1, BUFFER - 1, BUFFER, BUFFER + 1] {
            assert_eq!(carried(length, &pipes).await, 0, "{length}: little needs no pipe");
        }
        assert_eq!(carried(32 << 20, &pipes).await, 1);
        assert_eq!(pipes.0.available_permits(), PIPES_MAX, "it is given back");
    }

    #[tokio::test]
    async fn without_pipes_it_goes_on_through_the_buffer() {
        let pipes = Pipes::default();
        pipes.0.forget_permits(PIPES_MAX);
        carried(4 << 20, &pipes).await;
    }

    #[tokio::test]
    async fn an_end_that_breaks_is_an_error() {
        let ((client, mut here), (mut there, endpoint)) = (pair().await, pair().await);
        let sending = async {
            let mut client = client;
            let bytes = bytes(1 << 20);
            // Until whoever carries them gives up.
            while client.write_all(&bytes).await.is_ok() {}
        };
        let carrying = async {
            drop(endpoint);
            let (from, _back) = here.split();
            let (_forth, to) = there.split();
            let ended = carry(from, to, &AtomicBool::new(false), &Pipes::default(), |_| {}).await;
            drop(here);
            ended
        };
        let ((), ended) = tokio::join!(sending, carrying);
        ended.expect_err("the other end is gone");
    }
}
