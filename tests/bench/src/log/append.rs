//! Durable appends, beside a bare database that is given the same rows in the same groups, and
//! beside one sync an event.
//!
//! The sides take turns, some groups each. The log makes a group while the one before it is synced, so how
//! much it takes is measured with two groups under way, by the time of a turn. How long a group takes is
//! measured twice: among these, where each waits for the one before it, and by itself, as the bare database
//! and the bare file are given theirs.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use event_log::testing::{Bare, BareRow, rows_between};
use runtime::Failure;

use super::Folder;
use super::driver::{Driver, UNDER_WAY};
use super::jetstream::JetStream;
use crate::Args;
use crate::clock::{Since, per_second};
use crate::figure::{Goal, Row, Spread, Unit, percentile};

const GROUPS: [usize; 4] = [1, 16, 64, 256];

/// Turns in each repetition, and groups in each turn.
const TURNS: usize = 10;
const TIMES: usize = 20;

/// Groups that JetStream is given in each.
const JETSTREAM_TIMES: usize = 50;

/// Requests a second that arrive, whoever waits, and the most that are taken in one group.
const RATES: [u64; 3] = [200, 2_000, 10_000];
const GROUP_MAX: u64 = 256;

/// How long each rate is held.
const HELD_US: u64 = 2_000_000;

pub(super) async fn measure(args: &Args) -> Result<Vec<Row>, Failure> {
    let folder = Folder::make(args, "append")?;
    let mut rows = Vec::new();
    for group in GROUPS {
        rows.extend(groups_of(args, &folder.0.join(group.to_string()), group).await?);
    }
    for rate in RATES {
        rows.push(open_loop(args, &folder.0.join(format!("rate-{rate}")), rate)?);
    }
    Ok(rows)
}

/// What is measured side by side.
struct Sides {
    driver: Driver,
    bare: Bare,
    file: File,
    jetstream: JetStream,
}

/// What one repetition gave.
#[derive(Default)]
struct Sample {
    /// Events in it.
    events: u64,
    /// Microseconds of all groups: the log, the bare database, the bare file.
    us: [u64; 3],
    /// Microseconds of each group, alike.
    groups: [Vec<u64>; 3],
    /// Of those that the log was given one at a time, and the bare database as well: both store as much.
    alone: [Vec<u64>; 2],
    /// What JetStream took a second.
    jetstream: u64,
}

impl Sides {
    async fn open(folder: &Path) -> Result<Self, Failure> {
        std::fs::create_dir_all(folder)?;
        Ok(Self {
            driver: Driver::open(folder)?,
            bare: Bare::open(&folder.join("bare"))?,
            file: File::create(folder.join("file"))?,
            jetstream: JetStream::start(true).await?,
        })
    }

    /// Some groups of so many requests, on every side in turn.
    async fn round(&mut self, group: usize) -> Result<Sample, Failure> {
        self.driver.prepare(group * TURNS * TIMES * 2)?;
        let begin = self.driver.position() + 1;
        let mut sample = Sample::default();
        for _ in 0..TURNS {
            let mut from = self.driver.position() + 1;
            let ran = self.driver.run(TIMES, group, UNDER_WAY)?;
            sample.events += self.driver.position() + 1 - from;
            sample.us[0] += ran.us;
            sample.groups[0].extend(ran.groups);
            let alone = self.driver.run(TIMES, group, 1)?;
            sample.alone[0].extend(alone.groups);
            let mut rows = Vec::new();
            for end in ran.ends {
                rows.push(rows_between(self.driver.store(), from, end)?);
                from = end + 1;
            }
            for rows in &rows {
                let since = Since::now();
                self.bare.write(rows)?;
                sample.took(1, since.us());
            }
            for end in alone.ends {
                let rows = rows_between(self.driver.store(), from, end)?;
                from = end + 1;
                let since = Since::now();
                self.bare.write(&rows)?;
                sample.alone[1].push(since.us());
            }
            for rows in rows {
                let bytes: Vec<u8> = rows.into_iter().flat_map(BareRow::into_value).collect();
                let since = Since::now();
                self.file.write_all(&bytes)?;
                self.file.sync_data()?;
                sample.took(2, since.us());
            }
        }
        let rows = event_log::store::rows(self.driver.store(), begin, self.driver.position())?;
        let few = &rows[..rows.len().min(group * JETSTREAM_TIMES)];
        sample.jetstream = self.jetstream.publish(few, group).await?;
        for side in sample.groups.iter_mut().chain(&mut sample.alone) {
            side.sort_unstable();
        }
        Ok(sample)
    }
}

impl Sample {
    fn took(&mut self, side: usize, us: u64) {
        self.us[side] += us;
        self.groups[side].push(us);
    }

    fn rate(&self, side: usize) -> u64 {
        per_second(self.events, self.us[side])
    }

    fn worst(&self, side: usize) -> u64 {
        percentile(&self.groups[side], 99)
    }
}

async fn groups_of(args: &Args, folder: &Path, group: usize) -> Result<Vec<Row>, Failure> {
    let mut sides = Sides::open(folder).await?;
    let mut samples = Vec::new();
    for _ in 0..args.repeat {
        samples.push(sides.round(group).await?);
    }
    let spread = |of: &dyn Fn(&Sample) -> u64| Spread::of(samples.iter().map(of));
    let row = |name: &str, beside, goal| Row {
        what: format!("events durable, {group} requests a group"),
        unit: Unit::PerSecond,
        ours: spread(&|sample| sample.rate(0)),
        beside: Some((name.to_owned(), beside)),
        goal,
    };
    let fsync = || {
        let named = "3 × p99 of one fdatasync of its bytes + 5 ms".to_owned();
        Some((named, spread(&|sample| 3 * sample.worst(2) + 5_000)))
    };
    let alone = |side: usize| spread(&|sample| percentile(&sample.alone[side], 99));
    let one_by_one = |sample: &Sample| per_second((TURNS * TIMES) as u64, sample.us[2]);
    Ok(vec![
        row(
            "bare database, the same rows in the same groups",
            spread(&|sample| sample.rate(1)),
            Some(Goal::AtLeastYardstick(70)),
        ),
        row("one sync an event", spread(&one_by_one), None),
        row("JetStream, sync always, as many in flight", spread(&|sample| sample.jetstream), None),
        Row {
            what: format!("p99 of a group of {group} requests, one waiting for the other"),
            unit: Unit::Microseconds,
            ours: spread(&|sample| sample.worst(0)),
            beside: fsync(),
            goal: Some(Goal::TimesYardstick(100)),
        },
        Row {
            what: format!("p99 of a group of {group} requests, one at a time"),
            unit: Unit::Microseconds,
            ours: alone(0),
            beside: fsync(),
            goal: Some(Goal::TimesYardstick(100)),
        },
        Row {
            what: format!("p99 of a group of {group} requests, one at a time"),
            unit: Unit::Microseconds,
            ours: alone(0),
            beside: Some(("p99 of the bare database, the same rows".to_owned(), alone(1))),
            goal: None,
        },
    ])
}

/// Requests arrive at their own pace; what is there when a group is done makes the next.
fn open_loop(args: &Args, folder: &Path, rate: u64) -> Result<Row, Failure> {
    std::fs::create_dir_all(folder)?;
    let mut driver = Driver::open(folder)?;
    let (mut middle, mut worst) = (Vec::new(), Vec::new());
    let count = rate * HELD_US / 1_000_000;
    for _ in 0..args.repeat {
        driver.prepare(usize::try_from(count)?)?;
        let mut waited = arrive(&mut driver, rate, count)?;
        waited.sort_unstable();
        middle.push(percentile(&waited, 50));
        worst.push(percentile(&waited, 99));
    }
    Ok(Row {
        what: format!("p50 of a request until durable, {rate} arriving a second"),
        unit: Unit::Microseconds,
        ours: Spread::of(middle),
        beside: Some(("p99".to_owned(), Spread::of(worst))),
        goal: None,
    })
}

/// So many requests arrive at their own pace: how long each waits until it is durable.
fn arrive(driver: &mut Driver, rate: u64, count: u64) -> Result<Vec<u64>, Failure> {
    let mut waited = Vec::new();
    let before = driver.answered();
    let (since, mut handed_in) = (Since::now(), 0);
    while (waited.len() as u64) < count {
        let arrived = (since.us() * rate / 1_000_000 + 1).min(count);
        let group = (arrived - handed_in).min(GROUP_MAX);
        if group > 0 && driver.has_room() {
            driver.hand_in(usize::try_from(group)?)?;
            handed_in += group;
        } else if !driver.stored(!driver.has_room())? {
            std::thread::sleep(std::time::Duration::from_micros(20));
        }
        let now = since.us();
        let done = waited.len() as u64..(driver.answered() - before) as u64;
        waited.extend(done.map(|i| now - i * 1_000_000 / rate));
    }
    Ok(waited)
}
