//! One tag through the real engine: the partitions of `replay`, one rule, and a result for every row.

use crate::cmd::CommandError;
use crate::live::Live;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, TimestampNanosecondType};
use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use connectors::source::file::{FileSource, FilesConfig, Layout};
use connectors::{Polled, Source, Span};
use detectors::DetectRaw;
use detectors::sample::Flag;
use engine::config::raw::RuleRaw;
use engine::{EngineRaw, Outputs, Plan};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A tag's rows, in the order of their log, before any judgement.
#[derive(Debug, Clone, Default)]
pub(super) struct Series {
    pub(super) name: String,
    /// Nanoseconds since 1970 UTC; those of a file may go back.
    pub(super) ts: Vec<i64>,
    pub(super) value: Vec<f64>,
    pub(super) polled: Vec<Polled>,
}

/// What became of each row: score 0 for one that was not judged.
#[derive(Debug, Clone, Default)]
pub(super) struct Judged {
    pub(super) score: Vec<f64>,
    pub(super) flag: Vec<Option<Flag>>,
}

impl Series {
    /// Reads a file of one tag as `replay` does: the time column, then the value column.
    pub(super) fn read(path: &Path, name: &str, files: &FilesConfig) -> Result<Series, CommandError> {
        let config = FilesConfig { layout: Layout::Single, tag_name: Some(name.to_owned()), ..files.clone() };
        let mut source = FileSource::open(&[path.to_path_buf()], &config, BATCH_ROWS)?;
        let mut series = Series { name: name.to_owned(), ..Series::default() };
        while let Some(polled) = source.poll(Duration::MAX)? {
            if let Some(bad) = polled.bad.first() {
                let message = format!("{}: row {}: {}", path.display(), bad.offset + 1, bad.reason);
                return Err(CommandError::Usage(message));
            }
            let column = |name| polled.batch.column_by_name(name);
            if let (Some(ts), Some(value)) = (column(connectors::TS), column(connectors::VALUE)) {
                series.ts.extend(ts.as_primitive::<TimestampNanosecondType>().values());
                let value = value.as_primitive::<Float64Type>();
                series.value.extend(value.iter().map(|x| x.unwrap_or(f64::NAN)));
            }
            series.polled.push(polled);
        }
        Ok(series)
    }

    /// From rows in memory.
    pub(super) fn of(name: &str, ts: Vec<i64>, value: Vec<f64>) -> Result<Series, CommandError> {
        let time = DataType::Timestamp(TimeUnit::Nanosecond, Some(connectors::UTC.into()));
        let schema = Schema::new(vec![
            Field::new(connectors::TS, time, false),
            Field::new(connectors::TAG, DataType::Utf8, false),
            Field::new(connectors::VALUE, DataType::Float64, true),
        ]);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(TimestampNanosecondArray::from(ts.clone()).with_timezone(connectors::UTC)),
            Arc::new(StringArray::from(vec![name; ts.len()])),
            Arc::new(Float64Array::from(value.clone())),
        ];
        let batch = RecordBatch::try_new(Arc::new(schema), columns)
            .map_err(|error| CommandError::Usage(error.to_string()))?;
        let span = Span { rows: ts.len(), offset: 0, first_index: 0, record_ts: None };
        let polled = Polled { partition: 0, batch, spans: vec![span], bad: Vec::new() };
        Ok(Series { name: name.to_owned(), ts, value, polled: vec![polled] })
    }

    /// Judges the rows with one detector.
    pub(super) fn judge(&self, detect: &DetectRaw) -> Result<Judged, CommandError> {
        let rule =
            RuleRaw { id: "bench".into(), tags: vec!["*".into()], detect: detect.clone(), alert: None };
        let plan = Plan::new(EngineRaw { rule: vec![rule], ..EngineRaw::default() }, None)
            .map_err(|error| CommandError::Usage(error.to_string()))?;
        let mut live = Live::new(Arc::new(plan));
        let mut out = Outputs { all_verdicts: true, ..Outputs::default() };
        for polled in &self.polled {
            live.take(polled, &mut out)?;
        }
        live.end(&mut out);
        let mut judged = Judged { score: vec![0.0; self.ts.len()], flag: vec![None; self.ts.len()] };
        // Verdicts come in the order of the rows; a late row and a duplicate have none.
        let mut verdicts = out.verdicts.iter().peekable();
        for (i, &ts) in self.ts.iter().enumerate() {
            if let Some(verdict) = verdicts.next_if(|verdict| verdict.ts == ts) {
                (judged.score[i], judged.flag[i]) = (verdict.score, Some(verdict.flag));
            }
        }
        Ok(judged)
    }
}

const BATCH_ROWS: usize = 65_536;
