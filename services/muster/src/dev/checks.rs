//! What must hold before anything is started; each failure says what to do about it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bus::{Bus, BusError, Connect};
use schemas::registry::Role;
use tokio::net::{TcpStream, UnixStream};

use super::users::Users;
use crate::error::{CliError, Code};

/// How long an engine may take to take a connection.
const DEADLINE: Duration = Duration::from_secs(5);

/// Makes the data folder; its path from the root.
pub(super) fn folder(path: &Path) -> Result<PathBuf, CliError> {
    let made = std::fs::create_dir_all(path).and_then(|()| path.canonicalize());
    made.map_err(|error| {
        CliError::usage(format!("cannot make --data-dir {}: {error}", path.display()))
    })
}

/// One process a folder: the lock goes with the process that has it, however that ends.
pub(super) fn lock(folder: &Path) -> Result<File, CliError> {
    let path = folder.join("lock");
    let failed =
        |error: std::io::Error| CliError::usage(format!("cannot lock {}: {error}", path.display()));
    let mut options = OpenOptions::new();
    let mut file =
        options.read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0).map_err(failed)?;
            file.rewind().map_err(failed)?;
            write!(file, "{}", std::process::id()).map_err(failed)?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            let text = format!(
                "another muster dev, process {holder}, runs on {}: stop it, or give another --data-dir",
                folder.display()
            );
            Err(CliError::new(Code::Refused, text))
        }
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Whether an engine is there. Later it may go and come back; at first it must be.
pub(super) async fn engine(host: &str) -> Result<(), CliError> {
    let reached = async {
        match host.split_once("://") {
            None => UnixStream::connect(host).await.map(drop),
            Some(("unix", path)) => UnixStream::connect(path).await.map(drop),
            Some((_, address)) => TcpStream::connect(address.trim_end_matches('/')).await.map(drop),
        }
    };
    let why = match tokio::time::timeout(DEADLINE, reached).await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer".to_owned(),
    };
    let text = format!(
        "no engine answers at {host}: {why}; start it (`make setup` does), or name another with --docker-host"
    );
    Err(CliError::new(Code::Unreachable, text))
}

/// Whether a server that is not ours knows our users.
pub(super) async fn foreign_server(
    url: &str,
    folder: &Path,
    users: &Users,
) -> Result<(), CliError> {
    let file = users.write_config(folder)?;
    let role = Role::EventLog;
    let to = Connect {
        url: url.to_owned(),
        name: "muster dev".to_owned(),
        credentials: Some((role.user(), users.password(&role)?)),
        inbox_prefix: role.inbox_prefix(),
    };
    match Bus::connect(&to).await {
        Ok(_) => Ok(()),
        Err(BusError::Denied { .. }) => {
            let text = format!(
                "NATS at {url} does not know the users of this cluster: let its configuration include {}",
                file.display()
            );
            Err(CliError::new(Code::NotPermitted, text))
        }
        Err(error) => Err(CliError::new(Code::Unreachable, error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temporary(name: &str) -> PathBuf {
        let path =
            std::env::temp_dir().join(format!("muster-checks-{name}-{}", std::process::id()));
        folder(&path).expect("it can be made")
    }

    #[test]
    fn a_folder_is_for_one_process() {
        let dir = temporary("lock");
        let first = lock(&dir).expect("it is free");
        let refused = lock(&dir).expect_err("it is taken");
        assert!(refused.text.contains(&std::process::id().to_string()), "{}", refused.text);
        assert!(refused.text.contains("--data-dir"), "{}", refused.text);
        drop(first);
        assert!(lock(&dir).is_ok());
        std::fs::remove_dir_all(dir).expect("it goes away");
    }

    #[tokio::test]
    async fn an_engine_that_is_not_there_is_named() {
        for host in ["/nowhere/docker.sock", "unix:///nowhere/docker.sock"] {
            let error = engine(host).await.expect_err("nobody is there");
            assert!(
                error.text.contains(host) && error.text.contains("--docker-host"),
                "{}",
                error.text
            );
        }
    }
}
