//! The settings of `[source.files]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::decode::{NullCell, csv::CsvConfig, time::TimeUnit};

/// How files are read: the table `[source.files]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FilesConfig {
    /// The time column.
    pub ts: String,
    /// The tag column of the long layout.
    pub tag: String,
    /// The value column of the long layout.
    pub value: String,
    /// The quality column of the long layout. Absent: there is none.
    pub quality: Option<String>,
    /// The column of sequence numbers of the long layout. Absent: there is none.
    pub seq: Option<String>,
    /// Ending of the quality columns of the wide layout: with `"_q"`, `p1_q` holds the qualities of
    /// `p1`. Such a column without its tag is a tag like any other; with an ignored tag, it is ignored.
    pub quality_suffix: Option<String>,
    /// What an empty cell of the wide layout is.
    pub null: NullCell,
    /// How tags are laid out.
    pub layout: Layout,
    /// How times are written.
    pub ts_unit: TimeUnit,
    /// How CSV files are written.
    pub csv: CsvConfig,
    /// Files of a folder that are not data, by name: `skip = ["labels.csv"]`. A file that is named itself is read.
    pub skip: Vec<String>,
    /// Columns of the wide layout that are not tags: `ignore = ["anomaly", "changepoint"]`.
    pub ignore: Vec<String>,
    /// Put in front of every tag.
    pub tag_prefix: String,
    /// Whether `layout = "auto"` may take a file of only a time and a value column as one tag.
    pub tag_from_file: bool,
    /// The tag of the layout `single`. Absent: the file name without its ending.
    pub tag_name: Option<String>,
}

impl Default for FilesConfig {
    fn default() -> Self {
        FilesConfig {
            ts: "ts".to_owned(),
            tag: "tag".to_owned(),
            value: "value".to_owned(),
            quality: None,
            seq: None,
            quality_suffix: None,
            null: NullCell::NoSample,
            layout: Layout::Auto,
            ts_unit: TimeUnit::Auto,
            csv: CsvConfig::default(),
            skip: Vec::new(),
            ignore: Vec::new(),
            tag_prefix: String::new(),
            tag_from_file: true,
            tag_name: None,
        }
    }
}

/// How the tags of a file are laid out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// Long when there are a tag and a value column, single when there are only a time and a value
    /// column (see `tag_from_file`), else wide.
    #[default]
    Auto,
    /// One row a sample: time, tag, value.
    Long,
    /// One row a time, one column a tag.
    Wide,
    /// One tag a file: time, value.
    Single,
}
