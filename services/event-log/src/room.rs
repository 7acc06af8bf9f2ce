//! How much room the disks have, and what that means for the intake.
//!
//! A full disk is met before it is full: the store takes nothing more after a write that failed, and
//! nats-server freezes a stream. Two marks. Below the first, commands that ask for more are refused,
//! and there is still room to record that, and what agents and deciding services have to say. Below
//! the second, nothing is taken: what is offered stays unanswered, and is offered again.
//!
//! Not here: what is done about it (`sequencer/room.rs`).

use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::sequencer::{Room, Short};

/// The share of the first mark that must be free on top of it before the intake opens again.
const SLACK: u64 = 8;

/// The disks that are watched.
#[derive(Debug)]
pub(crate) struct Disks {
    watched: Vec<(&'static str, PathBuf)>,
    close: u64,
    stop: u64,
}

impl Disks {
    pub(crate) fn new(config: &Config) -> Self {
        let mut watched = vec![("log", config.folder())];
        watched.extend(config.nats_store_dir.clone().map(|folder| ("nats", folder)));
        let mib = 1024 * 1024;
        let close = config.disk_close_mib.saturating_mul(mib);
        Self { watched, close, stop: config.disk_stop_mib.saturating_mul(mib).min(close) }
    }

    /// Looks at all of them, and tells `each` how many bytes are free. The worst decides. None when
    /// nothing can be known.
    pub(crate) fn look(&self, each: &mut dyn FnMut(&'static str, u64)) -> Option<Room> {
        let free = |(name, folder): &(&'static str, PathBuf)| Some((*name, free(folder)?));
        let found: Vec<_> = self.watched.iter().filter_map(free).collect();
        for (name, free) in &found {
            each(name, *free);
        }
        let (disk, free) = found.into_iter().min_by_key(|(_, free)| *free)?;
        let short = Short { disk, free_bytes: free, needed_bytes: self.close + self.close / SLACK };
        Some(match free {
            free if free < self.stop => Room::None(short),
            free if free < self.close => Room::Little(short),
            free if free < short.needed_bytes => Room::Between,
            _ => Room::Enough(short),
        })
    }
}

/// A folder that is not there yet has nothing in it to lose.
fn free(folder: &Path) -> Option<u64> {
    runtime::files::free_bytes(folder).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disks(close: u64, stop: u64) -> Disks {
        Disks { watched: vec![("log", std::env::temp_dir())], close, stop }
    }

    #[test]
    fn the_marks_are_met_one_after_the_other() {
        let look = |close, stop| disks(close, stop).look(&mut |_, free| assert!(free > 0));
        assert!(matches!(look(0, 0), Some(Room::Enough(_))));
        assert!(matches!(look(u64::MAX / 2, 0), Some(Room::Little(_))));
        let Some(Room::None(short)) = look(u64::MAX / 2, u64::MAX / 2) else { panic!("no room") };
        assert_eq!(short.disk, "log");
        assert!(short.needed_bytes > u64::MAX / 2);
    }

    #[test]
    fn a_little_above_the_first_mark_something_is_said_too() {
        let free = runtime::files::free_bytes(&std::env::temp_dir()).expect("it is there");
        // Enough for the mark with room to spare for what others write meanwhile; not for the slack.
        let room = disks(free - free / (2 * SLACK), 0).look(&mut |_, _| {});
        assert_eq!(room, Some(Room::Between));
    }

    #[test]
    fn what_cannot_be_looked_at_decides_nothing() {
        let watched = vec![("nats", PathBuf::from("/nowhere/at/all"))];
        assert_eq!(Disks { watched, close: 1, stop: 1 }.look(&mut |_, _| {}), None);
    }
}
