//! The machine: its route for the range, and the rules of its packet filter. What needs privileges
//! is here, and is undone at a clean end.

use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::Duration;

use ipnet::Ipv4Net;
use runtime::inside::Range;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::rules::{self, Rules};

/// How long a program may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// Where programs for the administrator are, beside what PATH says.
const PLACES: [&str; 3] = ["", "/usr/sbin/", "/sbin/"];

/// A range that the machine takes for its own.
#[derive(Debug)]
pub(crate) struct Host {
    range: Range,
    /// The rules that are in place.
    rules: Option<Rules>,
}

impl Host {
    /// Makes the machine take the range for its own. Whoever has the range's sign out may do that.
    pub(crate) async fn take(range: Range) -> Result<Self, String> {
        let routes = run("ip", ["-4", "route", "show"], "").await?;
        if let Some(route) = overlap(range, &routes) {
            return Err(format!(
                "{range} overlaps with the machine's route {route:?}: give another range with \
                 --service-range, to its gateway and its agent"
            ));
        }
        // An address of the range is the machine's without being one of an interface's.
        run("ip", route("replace", range), "").await?;
        Ok(Self { range, rules: None })
    }

    /// Puts rules in place.
    pub(crate) async fn become_as(&mut self, rules: &Rules) -> Result<(), String> {
        let before = self.rules.take();
        let change = before.as_ref().map_or_else(|| rules.install(), |before| before.change(rules));
        if !change.is_empty() {
            let changed = run("nft", ["-f", "-"], &change).await;
            // Somebody else may have touched them since.
            if before.is_some() && changed.is_err() {
                run("nft", ["-f", "-"], &rules.install()).await?;
            } else {
                changed?;
            }
        }
        self.rules = Some(rules.clone());
        Ok(())
    }

    /// Puts the rules in place once more, whatever another process made of them.
    pub(crate) async fn anew(&mut self) -> Result<(), String> {
        let Some(rules) = self.rules.take() else { return Ok(()) };
        self.become_as(&rules).await
    }

    /// Looks whether the rules and the route are still there, and puts them back.
    pub(crate) async fn look_after(&mut self) -> Result<(), String> {
        let Some(rules) = self.rules.clone() else { return Ok(()) };
        let table = self.range.token();
        if run("nft", ["-t", "list", "table", "ip", &table], "").await.is_err() {
            tracing::warn!(table, "the packet filter lost our rules: putting them back");
            self.rules = None;
            self.become_as(&rules).await?;
        }
        run("ip", route("replace", self.range), "").await.map(drop)
    }

    /// Leaves the machine as it was.
    pub(crate) async fn leave(self) {
        let rules = run("nft", ["-f", "-"], &rules::remove(self.range)).await;
        let route = run("ip", route("delete", self.range), "").await;
        for error in [rules, route].into_iter().filter_map(Result::err) {
            tracing::debug!(error, "the machine is not quite as it was");
        }
    }
}

fn route(verb: &str, range: Range) -> [String; 6] {
    ["route", verb, "local", &range.to_string(), "dev", "lo"].map(str::to_owned)
}

/// A route to a part of the range, of which somebody else is the owner.
fn overlap(range: Range, routes: &str) -> Option<&str> {
    let inside = |network: Ipv4Net| range.number(network.network()).is_some();
    let to = |line: &str| -> Option<Ipv4Net> {
        let to = line.split_whitespace().next()?;
        to.parse().ok().or_else(|| Some(to.parse::<Ipv4Addr>().ok()?.into()))
    };
    routes.lines().find(|line| to(line).is_some_and(inside)).map(str::trim)
}

/// Runs a program to its end; what it printed.
async fn run<S: AsRef<OsStr>>(
    program: &str,
    args: impl IntoIterator<Item = S>,
    input: &str,
) -> Result<String, String> {
    let args: Vec<S> = args.into_iter().collect();
    let started = PLACES.iter().find_map(|place| {
        let mut command = Command::new(format!("{place}{program}"));
        command.args(&args).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        match command.spawn() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            started => Some(started),
        }
    });
    let missing = || format!("`{program}` is not installed: names inside need it");
    let mut child =
        started.ok_or_else(missing)?.map_err(|e| format!("cannot run `{program}`: {e}"))?;
    let work = async {
        if let Some(mut stdin) = child.stdin.take() {
            // One that ends before it has read all says why itself.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(DEADLINE, work).await;
    let output = output.map_err(|_| format!("`{program}` did not end within 10 s"))?;
    let output = output.map_err(|error| format!("`{program}`: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().lines().next().unwrap_or_default();
    let hint =
        if said.contains("not permitted") { " (the gateway needs CAP_NET_ADMIN)" } else { "" };
    Err(format!("`{program}` said: {said}{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_within_the_range_is_somebody_elses() {
        let range: Range = Range::DEFAULT.parse().expect("a range");
        let routes = |own: &str| {
            format!("default via 192.0.2.1 dev eth0 \n10.0.0.0/8 via 10.0.0.1\n{own}\n")
        };
        assert_eq!(overlap(range, &routes("10.202.0.0/16 dev br-1")), None);
        for own in ["10.201.0.0/16 dev br-1", "10.201.7.0/24 dev br-1", "10.201.7.3 dev wg0"] {
            assert_eq!(overlap(range, &routes(own)), Some(own));
        }
    }

    #[tokio::test]
    async fn a_program_that_fails_says_why_and_one_that_is_not_there_is_named() {
        let failed = run("sh", ["-c", "echo out; echo bad >&2; exit 3"], "").await;
        assert_eq!(failed.expect_err("it failed"), "`sh` said: bad");
        assert_eq!(run("cat", ["-"], "text").await.as_deref(), Ok("text"));
        let missing = run("muster-no-such-program", ["-"], "").await.expect_err("it is not there");
        assert!(missing.contains("muster-no-such-program"), "{missing}");
    }
}
