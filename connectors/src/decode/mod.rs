//! From the bytes of one record or one line to canonical rows. One decoder a file.
//!
//! A decoder of records never fails: what cannot become rows becomes a [`crate::BadRecord`] and the
//! next record starts afresh.
//!
//! Absent: schema registries. A Confluent frame (`0x00` and a 4-byte schema id) in front of JSON is
//! skipped, its id is not looked up.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, Float64Array, cast::AsArray, types::Float64Type};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub mod csv;
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

/// What an empty (null) cell of the wide layout is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NullCell {
    /// Nothing at all: the tag was not sampled at this time.
    #[default]
    NoSample,
    /// A missing sample: the tag was sampled and there was no value.
    Missing,
}

impl NullCell {
    /// A wide column of numbers with its nulls as they are meant.
    pub(crate) fn settle(self, numbers: ArrayRef) -> ArrayRef {
        if self == NullCell::NoSample || numbers.null_count() == 0 {
            return numbers;
        }
        let cells = numbers.as_primitive::<Float64Type>().iter();
        Arc::new(Float64Array::from_iter_values(cells.map(|x| x.unwrap_or(f64::NAN))))
    }
}
