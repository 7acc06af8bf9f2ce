//! Who answers containers for the names of workloads, as they start.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use runtime::inside::{self, Range};

use crate::config::NamesBy;

/// How often a gateway that served is looked for again, and how long is waited between.
const LOOKS: u32 = 10;
const BETWEEN: Duration = Duration::from_millis(500);

/// Who answers. Clones share what was seen.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    by: NamesBy,
    range: Range,
    /// Whether this machine's gateway served names since the agent began.
    seen: Arc<AtomicBool>,
}

impl Names {
    pub(crate) fn new(by: NamesBy, range: Range) -> Self {
        Self { by, range, seen: Arc::default() }
    }

    /// The name server that a container of a cluster is given; none: the engine answers by itself.
    ///
    /// A container keeps what it is given for its life. So one that starts while the gateway does is
    /// waited with; where there never was one, nothing is.
    pub(crate) async fn server(&self, cluster: Option<&str>) -> Option<Ipv4Addr> {
        let served = match self.by {
            NamesBy::Gateway => true,
            NamesBy::Engine => false,
            NamesBy::Auto => self.is_served(cluster?).await,
        };
        served.then(|| self.range.name_server())
    }

    async fn is_served(&self, cluster: &str) -> bool {
        for look in 0..LOOKS {
            if look > 0 {
                tokio::time::sleep(BETWEEN).await;
            }
            match inside::served(self.range).await {
                Some(served) if served == cluster => {
                    self.seen.store(true, Relaxed);
                    return true;
                }
                // It is another cluster's.
                Some(served) if !served.is_empty() => return false,
                // It has just begun.
                Some(_) => {}
                None if self.seen.load(Relaxed) => {}
                None => return false,
            }
        }
        tracing::warn!(
            "this machine's gateway serves no names any more: a container starts without"
        );
        false
    }
}

#[cfg(test)]
mod tests {
    use runtime::inside::Sign;

    use super::*;

    /// A range that no other test has: tests of one process run side by side.
    fn range(last: u32) -> Range {
        let low = 16 + (std::process::id() * 4 + last) % 16;
        format!("172.{low}.0.0/16").parse().expect("a range")
    }

    #[tokio::test]
    async fn a_gateway_of_the_same_cluster_answers_and_no_other() {
        let range = range(0);
        let names = Names::new(NamesBy::Auto, range);
        assert_eq!(names.server(Some("a")).await, None, "nobody is there");
        let sign = Sign::put_out(range).expect("it is free");
        let (server, ()) = tokio::join!(names.server(Some("a")), sign.show("b"));
        assert_eq!(server, None, "it is another cluster's");
        // It says nothing at first: it has just begun.
        let showing = async {
            sign.show("").await;
            sign.show("a").await;
        };
        let (server, ()) = tokio::join!(names.server(Some("a")), showing);
        assert_eq!(server, Some(range.name_server()));
        drop(sign);
        let back = async {
            tokio::time::sleep(BETWEEN / 2).await;
            Sign::put_out(range).expect("it is free").show("a").await;
        };
        let (server, ()) = tokio::join!(names.server(Some("a")), back);
        assert_eq!(server, Some(range.name_server()), "one that starts again is waited for");
    }

    #[tokio::test]
    async fn who_is_told_need_not_look() {
        let range = range(1);
        let told = |by| Names::new(by, range);
        assert_eq!(told(NamesBy::Gateway).server(None).await, Some(range.name_server()));
        assert_eq!(told(NamesBy::Engine).server(Some("a")).await, None);
    }
}
