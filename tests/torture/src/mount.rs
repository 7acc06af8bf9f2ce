//! File systems of one's own: an ext4 in a file, whose disk can be copied at any moment as a power
//! cut would leave it, and a tmpfs that can be filled. Unmounted when dropped.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use runtime::Failure;

/// How often a tmpfs may have been filled while it was looked at.
const FILLED_MEANWHILE: usize = 20;

/// A mounted file system.
#[derive(Debug)]
pub(crate) struct Mount {
    at: PathBuf,
    /// The loop device, when it is on one.
    device: Option<String>,
}

impl Mount {
    /// Makes an ext4 of so many MiB in `file` and mounts it at `at`.
    pub(crate) fn ext4(file: &Path, mib: u64, at: &Path) -> Result<Self, Failure> {
        std::fs::File::create(file)?.set_len(mib * 1024 * 1024)?;
        let quiet = [OsStr::new("-q"), OsStr::new("-F"), file.as_os_str()];
        run("mkfs.ext4", &quiet)?;
        Self::image(file, at)
    }

    /// Mounts the ext4 in `file` at `at`. Its journal is replayed, as after a power cut.
    pub(crate) fn image(file: &Path, at: &Path) -> Result<Self, Failure> {
        std::fs::create_dir_all(at)?;
        // Not through the page cache of the file: what the file holds is what the disk got.
        let args = ["--direct-io=on", "--find", "--show"].map(OsStr::new);
        let device = run("losetup", &[&args[..], &[file.as_os_str()]].concat())?;
        let device = device.trim().to_owned();
        let mount = Self { at: at.to_owned(), device: Some(device.clone()) };
        run("mount", &[OsStr::new("-t"), OsStr::new("ext4"), OsStr::new(&device), at.as_os_str()])?;
        Ok(mount)
    }

    /// A tmpfs of so many KiB at `at`.
    pub(crate) fn tmpfs(kib: u64, at: &Path) -> Result<Self, Failure> {
        std::fs::create_dir_all(at)?;
        let size = format!("size={kib}k");
        let args = ["-t", "tmpfs", "-o", &size, "muster-torture"].map(OsStr::new);
        run("mount", &[&args[..], &[at.as_os_str()]].concat())?;
        Ok(Self { at: at.to_owned(), device: None })
    }

    /// Makes a tmpfs so large, in KiB. It must not be smaller than what is in it.
    pub(crate) fn resize(&self, kib: u64) -> Result<(), Failure> {
        let size = format!("remount,size={kib}k");
        run("mount", &[OsStr::new("-o"), OsStr::new(&size), self.at.as_os_str()]).map(drop)
    }

    /// Leaves so much room in a tmpfs, in KiB.
    pub(crate) fn leave(&self, kib: u64) -> Result<(), Failure> {
        let mut left = self.leave_of_now(kib);
        for _ in 0..FILLED_MEANWHILE {
            if left.is_ok() {
                break;
            }
            left = self.leave_of_now(kib);
        }
        left
    }

    /// The same, once: what is there may grow while it is looked at, and a tmpfs never becomes smaller
    /// than what is in it.
    fn leave_of_now(&self, kib: u64) -> Result<(), Failure> {
        let args = ["-k", "--output=used"].map(OsStr::new);
        let said = run("df", &[&args[..], &[self.at.as_os_str()]].concat())?;
        let used = said.lines().nth(1).and_then(|used| used.trim().parse::<u64>().ok());
        self.resize(used.ok_or("df says something else")? + kib)
    }

    /// Where it is.
    pub(crate) fn at(&self) -> &Path {
        &self.at
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let at = self.at.as_os_str();
        if run("umount", &[at]).is_err() {
            // Somebody is still in there: it goes when they do.
            let _ = run("umount", &[OsStr::new("--lazy"), at]);
        }
        if let Some(device) = &self.device {
            let _ = run("losetup", &[OsStr::new("--detach"), OsStr::new(device)]);
        }
        let _ = std::fs::remove_dir(&self.at);
    }
}

/// Copies a file as it is now, holes left out.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    run("cp", &[OsStr::new("--sparse=always"), from.as_os_str(), to.as_os_str()]).map(drop)
}

/// Copies a folder as it is now, holes left out.
pub(crate) fn copy_folder(from: &Path, to: &Path) -> Result<(), Failure> {
    let _ = std::fs::remove_dir_all(to);
    let args = ["--archive", "--sparse=always"].map(OsStr::new);
    run("cp", &[&args[..], &[from.as_os_str(), to.as_os_str()]].concat()).map(drop)
}

fn run(program: &str, args: &[&OsStr]) -> Result<String, Failure> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("cannot run {program}: {error}"))?;
    if output.status.success() {
        return Ok(tests::cluster::text(&output.stdout));
    }
    let said = tests::cluster::text(&output.stderr);
    Err(format!("{program} {args:?}: {} (this needs root)", said.trim()).into())
}
