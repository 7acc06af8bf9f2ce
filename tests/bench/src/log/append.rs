//! Durable appends, beside a bare database that is given the same rows in the same groups, and
//! beside one sync an event.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use event_log::store::FjallStore;
use event_log::testing::{Bare, BareRow};
use runtime::Failure;

use super::driver::Driver;
use super::{Folder, head};
use crate::Args;
use crate::clock::{Since, per_second};
use crate::figure::{Goal, Row, Spread, Unit, percentile};

const GROUPS: [usize; 4] = [1, 16, 64, 256];

/// Groups in each repetition.
const TIMES: usize = 200;

/// Requests a second that arrive, whoever waits, and the most that are taken in one group.
const RATES: [u64; 3] = [200, 2_000, 10_000];
const GROUP_MAX: u64 = 256;

/// How long each rate is held.
const HELD_US: u64 = 2_000_000;

/// What one repetition at one size gave.
#[derive(Default)]
struct Sample {
    ours: Vec<u64>,
    bare: Vec<u64>,
    events: u64,
}

pub(super) fn measure(args: &Args) -> Result<Vec<Row>, Failure> {
    let folder = Folder::make(args, "append")?;
    let mut rows = Vec::new();
    for group in GROUPS {
        rows.extend(groups_of(args, &folder.0.join(group.to_string()), group)?);
    }
    for rate in RATES {
        rows.push(open_loop(args, &folder.0.join(format!("rate-{rate}")), rate)?);
    }
    Ok(rows)
}

fn groups_of(args: &Args, folder: &Path, group: usize) -> Result<Vec<Row>, Failure> {
    std::fs::create_dir_all(folder)?;
    let mut driver = Driver::open(folder)?;
    let mut bare = Bare::open(&folder.join("bare"))?;
    let mut file = File::create(folder.join("file"))?;
    let (mut ours, mut beside) = (Vec::new(), Vec::new());
    let (mut worst, mut synced, mut alone) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..args.repeat {
        driver.prepare(group * TIMES)?;
        let mut sample = Sample::default();
        let mut syncs = Vec::new();
        for _ in 0..TIMES {
            let before = driver.position();
            sample.ours.push(driver.append(group)?);
            let stored = driver.rows(before + 1)?;
            sample.events += stored.len() as u64;
            let since = Since::now();
            bare.write(&stored)?;
            sample.bare.push(since.us());
            let bytes: Vec<u8> = stored.iter().flat_map(|(_, value)| value.clone()).collect();
            let since = Since::now();
            file.write_all(&bytes)?;
            file.sync_data()?;
            syncs.push(since.us());
        }
        ours.push(per_second(sample.events, sample.ours.iter().sum()));
        beside.push(per_second(sample.events, sample.bare.iter().sum()));
        alone.push(per_second(TIMES as u64, syncs.iter().sum()));
        sample.ours.sort_unstable();
        syncs.sort_unstable();
        worst.push(percentile(&sample.ours, 99));
        synced.push(percentile(&syncs, 99));
    }
    let most = Spread::of(synced.iter().map(|us| us * 3 + 5_000));
    let row = |what: String, ours, name: &str, beside, goal| Row {
        what,
        unit: Unit::PerSecond,
        ours: Spread::of(ours),
        beside: Some((name.to_owned(), Spread::of(beside))),
        goal,
    };
    Ok(vec![
        row(
            format!("events durable, {group} requests a group"),
            ours.clone(),
            "bare database, the same rows without indexes",
            beside,
            Some(Goal::AtLeastYardstick(70)),
        ),
        row(
            format!("events durable, {group} requests a group"),
            ours,
            "one sync an event",
            alone,
            None,
        ),
        Row {
            what: format!("p99 of a group of {group} requests"),
            unit: Unit::Microseconds,
            ours: Spread::of(worst),
            beside: Some(("3 × p99 of one fdatasync of its bytes + 5 ms".to_owned(), most)),
            goal: Some(Goal::TimesYardstick(100)),
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
        let mut waited = Vec::new();
        let since = Since::now();
        let mut done = 0;
        while done < count {
            let arrived = (since.us() * rate / 1_000_000 + 1).min(count);
            let group = (arrived - done).min(GROUP_MAX);
            if group == 0 {
                std::thread::sleep(std::time::Duration::from_micros(20));
                continue;
            }
            driver.append(usize::try_from(group)?)?;
            let now = since.us();
            waited.extend((done..done + group).map(|i| now - i * 1_000_000 / rate));
            done += group;
        }
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

impl Driver {
    /// What is stored from a position on, as keys and values.
    fn rows(&self, from: u64) -> Result<Vec<BareRow>, Failure> {
        let store: &FjallStore = self.store();
        let rows = event_log::store::rows(store, from, head(store)?)?;
        Ok(rows.into_iter().map(|row| (row.position().to_be_bytes(), row.bytes.to_vec())).collect())
    }
}
