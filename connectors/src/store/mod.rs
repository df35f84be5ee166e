//! Stores: where the state of a stream is kept between runs. One file each.

use std::{io, path::PathBuf};

pub mod dir;

/// Why state could not be kept or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file system refused (a full disk is this).
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process works with the same state.
    #[error("{}: another process is using this state directory; give each stream its own", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// There is no store to keep it in.
    #[error("no state directory is configured (`[run] state_dir = \"…\"`)")]
    None,
}
