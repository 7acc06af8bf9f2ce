//! Where workloads are reached by name on a node: what its gateway and its agent must agree on.
//!
//! A gateway that serves names has a [`Sign`] out. There is one for each range on a machine, so two
//! gateways never serve the same; an agent looks at it before it sends containers there. It is a
//! socket of the machine's network namespace, and goes with its process.

use std::fmt;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::str::FromStr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

/// What all names inside end with: `<workload>.<app>.muster.internal`.
pub const ZONE: &str = "muster.internal";

/// How long a sign may take to be read.
const LOOK: Duration = Duration::from_millis(500);

/// The longest text on a sign, in bytes.
const TEXT_MAX: u64 = 256;

/// The addresses of workloads on a node: 65,536 of them, private to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    high: u16,
}

impl Range {
    /// The range of a gateway that is given none.
    pub const DEFAULT: &'static str = "10.201.0.0/16";

    /// The address of a workload's number.
    #[must_use]
    pub fn address(self, number: u16) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.high) << 16 | u32::from(number))
    }

    /// The number of an address, if it is one of these.
    #[must_use]
    pub fn number(self, address: Ipv4Addr) -> Option<u16> {
        let [a, b, c, d] = address.octets();
        (u16::from_be_bytes([a, b]) == self.high).then(|| u16::from_be_bytes([c, d]))
    }

    /// The address of the name server.
    #[must_use]
    pub fn name_server(self) -> Ipv4Addr {
        self.address(1)
    }

    /// What this range is called where dots and slashes may not be.
    #[must_use]
    pub fn token(self) -> String {
        let [a, b] = self.high.to_be_bytes();
        format!("muster_{a}_{b}")
    }

    /// The ranges that may be taken where none is given, the default first.
    pub fn choices() -> impl Iterator<Item = Self> {
        (201..=216).map(|b| Self { high: u16::from_be_bytes([10, b]) })
    }

    /// The address of its sign; the first byte says that it is no file.
    fn sign(self) -> String {
        format!("\0{}", self.token())
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/16", self.address(0))
    }
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("write a private range of 65,536 addresses, as {}", Self::DEFAULT);
        let address = text.strip_suffix("/16").ok_or_else(wrong)?;
        let [a, b, 0, 0] = address.parse::<Ipv4Addr>().map_err(|_| wrong())?.octets() else {
            return Err(wrong());
        };
        let range = Self { high: u16::from_be_bytes([a, b]) };
        range.address(0).is_private().then_some(range).ok_or_else(wrong)
    }
}

/// Says that names are served in a range, and for which cluster.
#[derive(Debug)]
pub struct Sign(UnixListener);

impl Sign {
    /// Puts it out.
    ///
    /// # Errors
    ///
    /// When another process has it out, for the same range.
    pub fn put_out(range: Range) -> std::io::Result<Self> {
        UnixListener::bind(range.sign()).map(Self)
    }

    /// Goes on with one that another process put out for a range.
    ///
    /// # Errors
    ///
    /// When it is none, or that of another range.
    pub fn go_on(listener: OwnedFd, range: Range) -> std::io::Result<Self> {
        let listener = std::os::unix::net::UnixListener::from(listener);
        if listener.local_addr()?.as_abstract_name() != Some(range.token().as_bytes()) {
            return Err(std::io::ErrorKind::AddrNotAvailable.into());
        }
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener).map(Self)
    }

    /// Shows it to the next one who looks.
    pub async fn show(&self, cluster: &str) {
        if let Ok((mut who, _)) = self.0.accept().await {
            // Whoever looks and goes has seen enough; what is written fits what a socket takes.
            let _ = tokio::time::timeout(LOOK, who.write_all(cluster.as_bytes())).await;
        }
    }
}

impl AsFd for Sign {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The cluster whose names are served in a range on this machine. None: nobody's; empty: it is not
/// known yet.
pub async fn served(range: Range) -> Option<String> {
    let look = async {
        let sign = UnixStream::connect(range.sign()).await.ok()?;
        let mut text = String::new();
        sign.take(TEXT_MAX).read_to_string(&mut text).await.ok()?;
        Some(text)
    };
    tokio::time::timeout(LOOK, look).await.ok()?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_the_one_of_its_number() {
        let range: Range = Range::DEFAULT.parse().expect("the default is one");
        assert_eq!(range.to_string(), Range::DEFAULT);
        assert_eq!(range.name_server(), Ipv4Addr::new(10, 201, 0, 1));
        assert_eq!(range.address(0x0203), Ipv4Addr::new(10, 201, 2, 3));
        for number in [0, 1, 2, 515, u16::MAX] {
            assert_eq!(range.number(range.address(number)), Some(number));
        }
        assert_eq!(range.number(Ipv4Addr::new(10, 202, 0, 1)), None);
        assert_eq!(Range::choices().next(), Some(range));
    }

    #[test]
    fn a_range_that_is_none_is_refused() {
        for wrong in ["10.201.0.0", "10.201.0.0/24", "10.201.3.0/16", "8.8.0.0/16", "x/16", ""] {
            let refused = wrong.parse::<Range>().expect_err(wrong);
            assert!(refused.contains(Range::DEFAULT), "{refused}");
        }
    }

    #[tokio::test]
    async fn a_sign_is_out_once_and_goes_with_whoever_has_it() {
        // No other test's: it is named by this process.
        let [_, _, c, d] = std::process::id().to_be_bytes();
        let range = Range { high: u16::from_be_bytes([c, d]) };
        assert_eq!(served(range).await, None);
        let sign = Sign::put_out(range).expect("it is free");
        assert!(Sign::put_out(range).is_err());
        let (seen, ()) = tokio::join!(served(range), sign.show("a cluster"));
        assert_eq!(seen.as_deref(), Some("a cluster"));
        // Whoever has a copy goes on with it, in that range alone.
        let copy = || sign.as_fd().try_clone_to_owned().expect("there are descriptors");
        let other = Range { high: range.high ^ 1 };
        assert!(Sign::go_on(copy(), other).is_err());
        assert!(Sign::go_on(copy(), range).is_ok());
        drop(sign);
        assert_eq!(served(range).await, None);
        assert!(Sign::put_out(range).is_ok());
    }
}
