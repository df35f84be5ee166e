//! How a JSON mapping is written.

use super::*;

/// Where in a JSON record the parts of a row are. Paths are keys joined by dots.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonMapping {
    /// Names for a common shape; every other field changes one of them.
    #[serde(default)]
    pub preset: Preset,
    /// Path of the array of rows in the record: `"payload.samples"`. Absent: the record is a row, or
    /// an array of rows. Parts missing in a row are looked for in the record around it.
    pub rows: Option<String>,
    /// Path of the time. Default `ts` (`timestamp` for telegraf).
    pub ts: Option<String>,
    /// Path of the tag. Default `tag`.
    pub tag: Option<String>,
    /// Path of the value: a number, or null for a missing sample. Default `value`.
    pub value: Option<String>,
    /// Path of the quality, a whole number or a word; need not be in every row. Default `quality`.
    pub quality: Option<String>,
    /// Path of the sequence number; need not be in every row. Default `seq`.
    pub seq: Option<String>,
    /// Path of a map of values, each a sample of its own: `{"fields": {"a": 1.0, "b": 2.0}}`. A null
    /// in it is no sample. Takes the place of `value`. Default `fields` for telegraf.
    pub fields: Option<String>,
    /// How a tag is put together: `"{device}.{field}"`. In braces: a path in the row or the record
    /// around it (`{payload.device}` is that path, or `device` when there is no such), `{field}` (the
    /// key in `fields`), `{key}`, `{topic}`, `{header:NAME}`. Takes the place of `tag`.
    pub tag_template: Option<String>,
    /// How the time is written: `auto` (RFC 3339 and its like; plain numbers are refused), `rfc3339`,
    /// `s`, `ms`, `us`, `ns`, or a pattern. Default `auto` (`s` for telegraf).
    pub ts_unit: Option<TimeUnit>,
}

/// A common shape of JSON telemetry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// `{"ts": .., "tag": "..", "value": ..}`.
    #[default]
    Flat,
    /// `{"name": "..", "tags": {"host": ".."}, "fields": {"a": 1.0}, "timestamp": 1700000000}`, tags
    /// named `{tags.host}.{name}.{field}`.
    Telegraf,
}
