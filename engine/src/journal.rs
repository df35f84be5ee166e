//! The journal: commands and clock ticks of a partition, each with the place in the log where it took effect.
//!
//! One JSON object a line. An entry is durable before it is applied; a torn last line is one that was never applied.

use crate::columns::BatchError;
use crate::intake::{JournalEntry, Span};
use crate::output::Outputs;
use crate::pipeline::Pipeline;
use arrow_array::RecordBatch;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// A place in a log: before the row at (offset, index).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// Offset of the record.
    pub offset: i64,
    /// Place of the row in its record.
    pub index: u32,
}

/// An entry with where and when it was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Name of the partition.
    pub partition: String,
    /// It takes effect before this row.
    pub before: Place,
    /// Wall time at which it was written, nanoseconds since 1970 UTC; judges nothing.
    pub written: i64,
    /// What it is.
    #[serde(flatten)]
    pub entry: JournalEntry,
}

/// Why a journal can't be read.
#[derive(Debug, thiserror::Error)]
#[error("line {line} of the journal can't be read: {source}")]
pub struct JournalError {
    /// The line, from 1.
    pub line: usize,
    /// What the parser says.
    pub source: serde_json::Error,
}

impl Record {
    /// Its line, with the line's end.
    pub fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("plain data always encodes");
        line.push(b'\n');
        line
    }
}

/// Reads a journal; a last line without its end was never durable and is left out.
///
/// # Errors
/// When a line that is complete is not an entry.
pub fn parse(text: &[u8]) -> Result<Vec<Record>, JournalError> {
    let durable = text.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
    let lines = text[..durable].split_inclusive(|b| *b == b'\n').enumerate();
    lines
        .map(|(i, line)| serde_json::from_slice(line).map_err(|source| JournalError { line: i + 1, source }))
        .collect()
}

/// Entries of one partition that are still to be applied, in the order of their numbers.
#[derive(Debug, Default)]
pub struct Script(VecDeque<(Place, JournalEntry)>);

impl Script {
    /// Those numbered above `applied`.
    pub fn new(records: impl IntoIterator<Item = Record>, applied: u64) -> Self {
        let mut entries: Vec<_> =
            records.into_iter().filter(|r| r.entry.number > applied).map(|r| (r.before, r.entry)).collect();
        entries.sort_by_key(|(_, entry)| entry.number);
        entries.dedup_by_key(|(_, entry)| entry.number);
        Script(entries.into())
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where a new entry takes effect: at `next`, but not before those that still wait, because numbers go up.
    pub fn place(&self, next: Place) -> Place {
        self.0.back().map_or(next, |(last, _)| next.max(*last))
    }

    /// Adds the newest entry.
    pub fn add(&mut self, before: Place, entry: JournalEntry) {
        self.0.push_back((before, entry));
    }

    /// Applies what takes effect before the row at `place` or earlier.
    pub fn apply_until(&mut self, place: Place, pipeline: &mut Pipeline, out: &mut Outputs) {
        while let Some((_, entry)) = self.0.pop_front_if(|(before, _)| *before <= place) {
            pipeline.apply(&entry, out);
        }
    }

    /// Applies everything: what is left comes before the end of the input.
    pub fn apply_all(&mut self, pipeline: &mut Pipeline, out: &mut Outputs) {
        self.apply_until(Place { offset: i64::MAX, index: u32::MAX }, pipeline, out);
    }

    /// Pushes a batch, each entry applied before the first row at or behind its place.
    ///
    /// # Errors
    /// When the batch lacks a column; nothing of the stretch at hand was taken then.
    pub fn push(
        &mut self,
        pipeline: &mut Pipeline,
        batch: &RecordBatch,
        spans: &[Span],
        out: &mut Outputs,
    ) -> Result<(), BatchError> {
        let (mut start, mut rest) = (0, spans.to_vec());
        while let Some(first) = rest.first() {
            self.apply_until(Place { offset: first.offset, index: first.first_index }, pipeline, out);
            let Some(cut) = self.0.front().and_then(|(before, _)| cut(&rest, *before)) else { break };
            let behind = split(&mut rest, cut);
            pipeline.push_rows(&batch.slice(start, cut), &rest, out)?;
            start += cut;
            rest = behind;
        }
        if batch.num_rows() > start {
            pipeline.push_rows(&batch.slice(start, batch.num_rows() - start), &rest, out)?;
        }
        Ok(())
    }
}

/// How many rows of `spans` come before `place`; none if all do.
fn cut(spans: &[Span], place: Place) -> Option<usize> {
    let mut rows = 0;
    for span in spans {
        if span.offset > place.offset {
            return Some(rows);
        }
        if span.offset == place.offset {
            let before = place.index.saturating_sub(span.first_index) as usize;
            if before < span.rows {
                return Some(rows + before);
            }
        }
        rows += span.rows;
    }
    None
}

/// Leaves the first `rows` rows in `spans` and returns the rest.
fn split(spans: &mut Vec<Span>, rows: usize) -> Vec<Span> {
    let mut left = rows;
    let at = spans.iter().position(|span| {
        let inside = span.rows > left;
        left -= if inside { 0 } else { span.rows };
        inside
    });
    let Some(at) = at else { return Vec::new() };
    let mut behind = spans.split_off(at);
    if left > 0 {
        spans.push(Span { rows: left, ..behind[0] });
        behind[0].rows -= left;
        behind[0].first_index += left as u32;
    }
    behind
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::Content;

    fn span(rows: usize, offset: i64) -> Span {
        Span { rows, offset, first_index: 0, record_ts: None }
    }

    /// Given records of several rows, when they are cut before a place, then the two parts are the whole.
    #[test]
    fn spans_are_cut_between_any_two_rows() {
        let spans = [span(3, 10), span(1, 12), span(2, 15)];
        let places = [(10, 1), (10, 2), (10, 3), (11, 0), (12, 0), (13, 0), (15, 1), (15, 2), (99, 0)];
        let cuts: Vec<_> = places.map(|(offset, index)| cut(&spans, Place { offset, index })).into();
        assert_eq!(cuts, [Some(1), Some(2), Some(3), Some(3), Some(3), Some(4), Some(5), None, None]);
        for rows in 0..6 {
            let mut front = spans.to_vec();
            let behind = split(&mut front, rows);
            assert_eq!(front.iter().map(|s| s.rows).sum::<usize>(), rows);
            let all = front.iter().chain(&behind);
            let rows = |s: &Span| {
                (s.first_index..s.first_index + s.rows as u32).map(|i| (s.offset, i)).collect::<Vec<_>>()
            };
            let all: Vec<_> = all.flat_map(rows).collect();
            assert_eq!(all, [(10, 0), (10, 1), (10, 2), (12, 0), (15, 0), (15, 1)]);
        }
    }

    /// Given a journal whose last line is torn, then the others are read; a broken line before the end is an error.
    #[test]
    fn a_torn_last_line_is_left_out() {
        let record = Record {
            partition: "plant-0".into(),
            before: Place { offset: 3, index: 1 },
            written: 7,
            entry: JournalEntry { number: 1, content: Content::Hold { signal: "s".into() } },
        };
        let mut text = record.line();
        text.extend(&record.line()[..20]);
        assert_eq!(parse(&text).expect("whole lines"), std::slice::from_ref(&record));
        text.push(b'\n');
        assert_eq!(parse(&text).expect_err("a broken line").line, 2);
        assert!(parse(b"").expect("nothing").is_empty());
    }
}
