//! The file of the control socket: private from birth, never taken from a living stream, removed at the end.
//!
//! It is bound inside a directory that only its owner can enter (made with mode 0700), gets mode 0600 there, and is then
//! linked to its place. So there is no moment in which another user could connect, and the umask, which all threads
//! share, is not touched. The link fails when something is in its place already; what is there is moved away only when
//! nobody answers on it, and put back when somebody began to in between.

use crate::listen::ServerError;
use std::ffi::OsStr;
use std::fs::{DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// A socket in its place; dropping it removes the file, if it is still this one.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    id: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|id| id == self.id) {
            // The next start replaces what could not be removed.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Opens the socket for commands at `path`.
pub(crate) fn open(path: &Path) -> Result<(UnixListener, SocketFile), ServerError> {
    let failed = |source| ServerError::Socket { path: path.into(), source };
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let private = parent.join(format!(".tg{}", std::process::id()));
    let born = private.join(BORN);
    for name in [path, &born] {
        if SocketAddr::from_pathname(name).is_err_and(|e| e.kind() == ErrorKind::InvalidInput) {
            return Err(ServerError::PathTooLong { path: path.into(), bytes: name.as_os_str().len() });
        }
    }
    let private = Private::make(private).map_err(failed)?;
    let listener = UnixListener::bind(&born).map_err(failed)?;
    std::fs::set_permissions(&born, Permissions::from_mode(0o600)).map_err(failed)?;
    let id = identity(&born).map_err(failed)?;
    for _ in 0..ATTEMPTS {
        match std::fs::hard_link(&born, path) {
            Ok(()) => return Ok((listener, SocketFile { path: path.into(), id })),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => clear(path, &private.0.join(OLD))?,
            Err(error) => return Err(failed(error)),
        }
    }
    Err(ServerError::SocketTaken { path: path.into() })
}

/// Moves away what a crash left at `path`.
fn clear(path: &Path, old: &Path) -> Result<(), ServerError> {
    let failed = |source| ServerError::Socket { path: path.into(), source };
    let taken = || ServerError::SocketTaken { path: path.into() };
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ServerError::NotASocket { path: path.into() });
        }
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    }
    if answers(path).map_err(failed)? {
        return Err(taken());
    }
    match std::fs::rename(path, old) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    }
    // Another start may have replaced it since we asked.
    if answers(old).map_err(failed)? {
        std::fs::rename(old, path).map_err(failed)?;
        return Err(taken());
    }
    std::fs::remove_file(old).map_err(failed)
}

/// Whether a process listens on the socket. A full queue is an answer.
fn answers(path: &Path) -> io::Result<bool> {
    match UnixStream::connect(path) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => Ok(false),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

/// A directory that only its owner can enter; gone when dropped.
struct Private(PathBuf);

impl Private {
    fn make(path: PathBuf) -> io::Result<Self> {
        // A crash in an earlier life with the same process id (a container) may have left one.
        Self::clear(&path);
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Private(path))
    }

    /// Removes the names that `open` makes and the directory, and nothing else.
    fn clear(path: &Path) {
        for name in [BORN, OLD].map(OsStr::new) {
            let _ = std::fs::remove_file(path.join(name));
        }
        let _ = std::fs::remove_dir(path);
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        Self::clear(&self.0);
    }
}

const BORN: &str = "s";
const OLD: &str = "o";
/// Each failed attempt means that another start came between.
const ATTEMPTS: usize = 3;
