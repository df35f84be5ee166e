//! Judgement over time: admission, per-tag order, timers, ticks, alerts, signals and their served values.
//!
//! Absent, and why: network, Kafka, files and clocks (time comes in as rows and clock ticks, so that a replay equals
//! the live run), threads (a partition is one sequence), connectors (batches are all that is shared with them).

mod admit;
mod alert;
pub mod checkpoint;
mod columns;
pub mod config;
pub mod control;
pub mod driver;
mod group;
mod intake;
pub mod journal;
mod keyed;
pub mod limits;
pub mod metrics;
mod output;
pub mod payload;
mod pipeline;
mod rule;

pub use columns::{BatchError, LAYOUT, QUALITY_OF};
pub use config::catalogue::Catalogue;
pub use config::plan::{ConfigError, Plan};
pub use config::raw::EngineRaw;
pub use intake::{Content, JournalEntry, Span};
pub use output::{
    Counters, DeadRow, Event, Explanation, FlagCounts, LateRow, Outputs, ServedValue, Source, State,
    Transition, VerdictRow, What, status,
};
pub use pipeline::{Pipeline, RestoreError, tell_idle_rules};
