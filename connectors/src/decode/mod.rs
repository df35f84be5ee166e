//! From the bytes of one record or one line to canonical rows. One decoder a file.
//!
//! A decoder of records never fails: what cannot become rows becomes a [`crate::BadRecord`] and the
//! next record starts afresh.
//!
//! Absent: schema registries. A Confluent frame (`0x00` and a 4-byte schema id) in front of JSON is
//! skipped, its id is not looked up.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub mod csv;
mod flat;
pub mod ipc;
pub mod json;
pub mod rows;
pub mod time;

/// How the bytes of a record are read: `decode = { json = {} }`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DecodeConfig {
    /// JSON: one row, an array of rows, or a nested shape described by the mapping.
    Json(json::JsonMapping),
    /// Arrow IPC stream: one stream a record, long or wide.
    Ipc(ipc::IpcMapping),
}

impl Default for DecodeConfig {
    fn default() -> Self {
        Self::Json(json::JsonMapping::default())
    }
}
