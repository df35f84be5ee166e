//! Sinks: where results go. One file each.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use crate::SinkError;

pub mod jsonl;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod parquet;
pub mod recording;

/// The name a file has until it is finished: a reader never sees half a file under its own name.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    path.with_file_name(name)
}

/// What the system refused, with the file.
fn at(path: &Path) -> impl Fn(io::Error) -> SinkError {
    let path = path.to_owned();
    move |source| SinkError::Io { path: path.clone(), source }
}

/// Makes a written file durable, then gives it its name.
fn publish(file: &File, temporary: &Path, path: &Path) -> Result<(), SinkError> {
    file.sync_all().map_err(at(path))?;
    fs::rename(temporary, path).map_err(at(path))?;
    // The new name lives in the directory, which has to be durable as well.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if cfg!(unix) {
        File::open(parent).and_then(|directory| directory.sync_all()).map_err(at(path))?;
    }
    Ok(())
}
