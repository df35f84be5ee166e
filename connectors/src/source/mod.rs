//! Sources: where rows come from. One file each.

pub mod file;
#[cfg(feature = "kafka")]
pub mod kafka;
mod merge;
pub(crate) mod table;
