//! The only ways into a partition: rows, and entries of the journal.

use serde::{Deserialize, Serialize};

/// Where a stretch of a batch's rows came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Rows of the batch it covers.
    pub rows: usize,
    /// Offset of the record.
    pub offset: i64,
    /// Place of the first row in its record.
    pub first_index: u32,
    /// Timestamp of the record.
    pub record_ts: Option<i64>,
}

/// What influenced a partition and is not in its log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// Counts the entries of a partition from 1.
    pub number: u64,
    /// What it is.
    pub content: Content,
}

/// What a journal entry is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Content {
    /// The clock stood at `time`, with nothing older on its way.
    ClockTick {
        /// Event time.
        time: i64,
    },
    /// Take a signal out of service.
    Hold {
        /// The signal.
        signal: String,
    },
    /// Put it back.
    Release {
        /// The signal.
        signal: String,
    },
    /// The members of a signal come from two partitions: it fails.
    Split {
        /// The signal.
        signal: String,
    },
    /// Forget what a rule learned of a tag.
    Rebaseline {
        /// The rule.
        rule: String,
        /// The tag.
        tag: String,
    },
}
