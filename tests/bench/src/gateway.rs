//! The gateway beside HAProxy and nginx: each in turn on the same core, before the same backend and
//! behind the same client, which share another core.
//!
//! The client is no bottleneck as long as straight to the backend it gets clearly more done than through
//! any proxy, which is a row of its own; and the proxy's core is busy all the time, which is one as well.

mod configs;
pub(crate) mod load;
mod moved;
mod world;

use runtime::Failure;

use crate::Args;
use crate::figure::{Goal, Row, Spread, Unit};
use configs::Door;
use load::Kind;
use moved::Clients;
use world::World;

/// The goals, in hundredths of what HAProxy does.
const REQUESTS: u64 = 80;
const BYTES: u64 = 90;

/// How much more the client has to get done without a proxy, in hundredths.
const UNHINDERED: u64 = 120;

/// Who is measured, in turns.
const STRAIGHT: usize = 0;
const MUSTER: usize = 1;
const HAPROXY: usize = 2;
const NGINX: usize = 3;

/// A value of each of them in every round.
type Each = [Vec<u64>; 4];

/// What was measured of one kind of load.
#[derive(Default)]
struct Measured {
    rate: Each,
    busy: Each,
    p50: Each,
    p99: Each,
}

pub(crate) async fn measure(args: &Args) -> Result<Vec<Row>, Failure> {
    if std::thread::available_parallelism()?.get() < 2 {
        return Err("it needs two cores: one for the proxy, one for client and backend".into());
    }
    let mut world = World::start(args).await?;
    let mut rows = Vec::new();
    let mut all: Vec<Measured> = Kind::ALL.iter().map(|_| Measured::default()).collect();
    let mut last: Each = Default::default();
    for round in 0..usize::try_from(args.repeat)? {
        for (kind, measured) in Kind::ALL.into_iter().zip(&mut all) {
            let ports = world.ports.clone();
            for (who, door) in doors(&ports).into_iter().enumerate() {
                args.goes_on()?;
                let told = |error: Failure| format!("{} {kind:?}: {error}", NAMES[who]);
                let [rate, busy] = load::rate(kind, door).map_err(told)?;
                measured.rate[who].push(rate);
                measured.busy[who].push(busy);
                if kind.is_requests() {
                    let [p50, p99] = load::times(kind, door, &world).map_err(told)?;
                    measured.p50[who].push(p50);
                    measured.p99[who].push(p99);
                }
            }
        }
        moving(&mut world, round, &mut last).await?;
    }
    for (kind, measured) in Kind::ALL.into_iter().zip(&all) {
        rows.extend(rows_of(kind, measured));
    }
    let what = "endpoint changed → last request sent to the old one";
    for beside in [HAPROXY, NGINX] {
        rows.push(row(what, Unit::Microseconds, &last, MUSTER, beside, None));
    }
    Ok(rows)
}

const NAMES: [&str; 4] = ["straight", "Muster", "HAProxy", "nginx"];

fn doors(ports: &configs::Ports) -> [&Door; 4] {
    [&ports.straight, &ports.muster, &ports.haproxy, &ports.nginx]
}

fn row(what: &str, unit: Unit, values: &Each, of: usize, beside: usize, goal: Option<Goal>) -> Row {
    Row {
        what: what.to_owned(),
        unit,
        ours: Spread::of(values[of].iter().copied()),
        beside: Some((NAMES[beside].to_owned(), Spread::of(values[beside].iter().copied()))),
        goal,
    }
}

fn rows_of(kind: Kind, measured: &Measured) -> Vec<Row> {
    let (name, unit, goal) = match kind {
        Kind::Http1 => ("HTTP/1.1, kept connections", Unit::PerSecond, REQUESTS),
        Kind::Http2 => ("HTTP/2", Unit::PerSecond, REQUESTS),
        Kind::Https => ("TLS 1.3, HTTP/1.1", Unit::PerSecond, REQUESTS),
        Kind::Large => ("layer 4: bytes", Unit::BytesPerSecond, BYTES),
        Kind::Connections => ("layer 4: connections", Unit::PerSecond, BYTES),
    };
    let counted = if kind.is_requests() { format!("{name}: requests") } else { name.to_owned() };
    let (rate, least) = (&measured.rate, Goal::AtLeastYardstick(goal));
    let mut rows = vec![
        row(&counted, unit, rate, MUSTER, HAPROXY, Some(least)),
        row(&counted, unit, rate, MUSTER, NGINX, None),
    ];
    let hindered = Some(Goal::AtLeastYardstick(UNHINDERED));
    for beside in [MUSTER, HAPROXY] {
        let what = format!("{name}: the client without a proxy");
        rows.push(row(&what, unit, rate, STRAIGHT, beside, hindered));
    }
    let busy = format!("{name}: how busy the proxy's core is");
    rows.push(row(&busy, Unit::CpuMillis, &measured.busy, MUSTER, HAPROXY, None));
    if kind.is_requests() {
        for (percent, times) in [("p50", &measured.p50), ("p99", &measured.p99)] {
            let added = added(times);
            let what = format!("{name}: {percent} added to one request at a time");
            rows.push(row(&what, Unit::Microseconds, &added, MUSTER, HAPROXY, None));
            rows.push(row(&what, Unit::Microseconds, &added, MUSTER, NGINX, None));
        }
    }
    rows
}

/// What each adds to the time without a proxy, round by round.
fn added(times: &Each) -> Each {
    let of = |who: usize| {
        let pairs = times[who].iter().zip(&times[STRAIGHT]);
        pairs.map(|(through, straight)| through.saturating_sub(*straight)).collect()
    };
    [of(STRAIGHT), of(MUSTER), of(HAPROXY), of(NGINX)]
}

/// Replaces the endpoint behind each of them.
async fn moving(world: &mut World, round: usize, last: &mut Each) -> Result<(), Failure> {
    let (old, new) = if round.is_multiple_of(2) { (b'a', b'b') } else { (b'b', b'a') };
    let ports = world.ports.clone();
    for (who, door) in doors(&ports).into_iter().enumerate().skip(MUSTER) {
        let clients = Clients::start(door.moving).await;
        let changed_us = clients.us();
        match who {
            MUSTER => world.move_muster().await?,
            HAPROXY => world.move_haproxy(round + 1)?,
            _ => world.move_nginx(round + 1)?,
        }
        let took = clients.end(changed_us, old, new).await;
        last[who].push(took.map_err(|error| format!("{}: {error}", NAMES[who]))?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_what_is_above_the_same_round_without_a_proxy() {
        let times = [vec![100, 200], vec![150, 190], vec![100, 300], vec![101, 200]];
        assert_eq!(added(&times), [vec![0, 0], vec![50, 0], vec![0, 100], vec![1, 0]]);
    }
}
