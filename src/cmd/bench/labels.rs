//! Labels: intervals of time in which something is wrong, by the name of a file.

use crate::cmd::CommandError;
use connectors::decode::csv::{Fields, Lines};
use connectors::decode::time::TimeUnit;
use std::collections::BTreeMap;
use std::path::Path;

/// Intervals by file, first and last time, nanoseconds since 1970 UTC.
pub(super) type Labels = BTreeMap<String, Vec<(i64, i64)>>;

/// Reads intervals: NAB's JSON (`{"file.csv": [["from", "to"], …]}`), or CSV with columns `file`, `start`, `end`.
pub(super) fn read(path: &Path) -> Result<Labels, CommandError> {
    let text = std::fs::read(path).map_err(|source| CommandError::Io { path: path.into(), source })?;
    let wrong = |what: &str| CommandError::Usage(format!("{}: {what}", path.display()));
    let labels = if text.trim_ascii_start().starts_with(b"{") {
        let read: BTreeMap<String, Vec<[String; 2]>> =
            serde_json::from_slice(&text).map_err(|error| wrong(&error.to_string()))?;
        let interval = |[from, to]: &[String; 2]| interval(from.as_bytes(), to.as_bytes());
        read.iter()
            .map(|(file, spans)| {
                let spans: Result<_, String> = spans.iter().map(interval).collect();
                spans.map(|spans| (file.clone(), spans))
            })
            .collect()
    } else {
        from_csv(&text)
    };
    let mut labels: Labels = labels.map_err(|error| wrong(&error))?;
    labels.values_mut().for_each(|spans| spans.sort_unstable());
    Ok(labels)
}

fn from_csv(text: &[u8]) -> Result<Labels, String> {
    let (mut lines, mut fields) = (Lines::new(text, None), Fields::new(b','));
    let mut labels = Labels::new();
    let mut at: Option<[usize; 3]> = None;
    while let Some(record) = lines.next_record(true).map_err(|error| error.to_string())? {
        fields.cut(record);
        let Some([file, from, to]) = at else {
            let place = |name: &str| {
                (0..fields.len())
                    .find(|&i| fields.get(i) == name.as_bytes())
                    .ok_or_else(|| format!("no column `{name}`; wanted are file, start and end"))
            };
            at = Some([place("file")?, place("start")?, place("end")?]);
            continue;
        };
        if fields.len() <= file.max(from).max(to) {
            return Err(format!("a short line: {}", String::from_utf8_lossy(record)));
        }
        let name = String::from_utf8_lossy(fields.get(file)).into_owned();
        labels.entry(name).or_default().push(interval(fields.get(from), fields.get(to))?);
    }
    Ok(labels)
}

fn interval(from: &[u8], to: &[u8]) -> Result<(i64, i64), String> {
    let time = |text: &[u8]| {
        // Plain numbers are nanoseconds.
        TimeUnit::Auto
            .parse(text)
            .or_else(|| TimeUnit::Nanos.parse(text))
            .ok_or_else(|| format!("not a time: `{}`", String::from_utf8_lossy(text)))
    };
    let (from, to) = (time(from)?, time(to)?);
    if from > to {
        return Err(format!("an interval ends before it starts: {from} to {to}"));
    }
    Ok((from, to))
}

/// Rows of the intervals: from the first row at or after the start to the last at or before the end.
pub(super) fn rows(ts: &[i64], spans: &[(i64, i64)]) -> Vec<(usize, usize)> {
    spans
        .iter()
        .filter_map(|&(from, to)| {
            let first = ts.iter().position(|&t| t >= from)?;
            let last = ts.iter().rposition(|&t| t <= to)?;
            (first <= last).then_some((first, last))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Given the same intervals as CSV and as NAB's JSON, then they are the same; what is no interval is refused.
    #[test]
    fn both_forms_of_labels_are_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("labels");
        let read = |text: &str| {
            std::fs::write(&path, text).expect("written");
            super::read(&path).map_err(|error| error.to_string())
        };
        let csv = read("start,file,end\n2026-01-01 00:00:00,a.csv,2026-01-01T00:00:05Z\n").expect("labels");
        let json =
            read(r#"{"a.csv": [["2026-01-01 00:00:00.000000", "2026-01-01 00:00:05"]]}"#).expect("labels");
        assert_eq!(csv, json);
        assert_eq!(csv["a.csv"], [(1_767_225_600_000_000_000, 1_767_225_605_000_000_000)]);
        for bad in
            ["a,b\n", "file,start,end\na.csv,9,3\n", "file,start,end\na.csv,soon,3\n", "file,start,end\na\n"]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    /// Given an interval between rows, then it has none; else its rows are those inside.
    #[test]
    fn intervals_become_rows() {
        let ts = [0, 10, 20, 30];
        assert_eq!(rows(&ts, &[(5, 20), (21, 29), (30, 90), (31, 90)]), [(1, 2), (3, 3)]);
    }
}
