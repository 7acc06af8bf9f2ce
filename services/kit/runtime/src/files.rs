//! Files that are whole or not there, also after a power cut.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Writes beside, syncs, and puts in place; then syncs the folder.
///
/// # Errors
///
/// What the file system says. The old content is still there then.
pub fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    write(path, content, 0o666)
}

/// The same for what only the file's owner may read.
///
/// # Errors
///
/// What the file system says. The old content is still there then.
pub fn write_secret(path: &Path, content: &[u8]) -> io::Result<()> {
    write(path, content, 0o600)
}

fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(folder)?;
    let beside = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    let mut file = options.open(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(folder)?.sync_all()
}

/// How many bytes an unprivileged process can still write on the disk of a folder.
///
/// # Errors
///
/// When the folder is not there or cannot be looked at.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(folder)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn content_is_replaced_whole() {
        let folder = std::env::temp_dir().join(format!("muster-files-{}", std::process::id()));
        let path = folder.join("a");
        write_atomically(&path, b"one").expect("it is written");
        write_atomically(&path, b"two").expect("it is written");
        assert_eq!(fs::read(&path).expect("it is there"), b"two");
        assert_eq!(fs::read_dir(&folder).expect("it is there").count(), 1);
        write_secret(&path, b"three").expect("it is written");
        let mode = fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::remove_dir_all(folder).expect("it goes away");
    }
}
