//! Sources: where rows come from. One file or folder each.

pub mod file;
#[cfg(feature = "kafka")]
pub mod kafka;
mod merge;
pub mod recording;
pub(crate) mod table;
