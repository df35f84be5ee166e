use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    TimestampMillisecondArray,
    cast::AsArray,
    types::{Float64Type, Int32Type, TimestampNanosecondType, UInt32Type},
};
use arrow_ipc::writer::{FileWriter, StreamWriter};
use parquet::arrow::ArrowWriter;
use tempfile::TempDir;

use super::*;
use crate::source::table::dictionary_type;

const S: i64 = 1_000_000_000;

/// A row as text: `offset ts_s tag=value ...`; `!code` for a bad row.
fn read_all(paths: &[PathBuf], config: &FilesConfig, batch_rows: usize) -> Vec<String> {
    let mut source = FileSource::open(paths, config, batch_rows).unwrap();
    let mut log = Vec::new();
    while let Some(Polled { batch, spans, bad, .. }) = source.poll(Duration::ZERO).unwrap() {
        assert!(batch.num_rows() <= batch_rows);
        assert_eq!(spans.iter().map(|span| span.rows).sum::<usize>(), batch.num_rows());
        let offsets: Vec<i64> = spans.iter().flat_map(|s| (0..s.rows as i64).map(|k| s.offset + k)).collect();
        let mut bad = bad.iter().peekable();
        for row in 0..=batch.num_rows() {
            while let Some(record) = bad.next_if(|record| record.before_row <= row) {
                let raw = String::from_utf8_lossy(&record.raw);
                log.push(format!("{} !{} {raw}", record.offset, record.code));
            }
            if let Some(offset) = offsets.get(row) {
                log.push(format!("{} {}", offset, show(&batch, row)));
            }
        }
        assert!(bad.next().is_none());
    }
    log
}

fn show(batch: &RecordBatch, row: usize) -> String {
    let ts = batch.column(0).as_primitive::<TimestampNanosecondType>().value(row) / S;
    let number = |array: &ArrayRef| {
        let array = array.as_primitive::<Float64Type>();
        if array.is_null(row) { "-".to_owned() } else { array.value(row).to_string() }
    };
    let schema = batch.schema();
    if schema.metadata().get(crate::LAYOUT_KEY).is_some() {
        let cells = schema.fields().iter().zip(batch.columns()).skip(1);
        let cells = cells.map(|(field, array)| match field.metadata().get(crate::QUALITY_OF_KEY) {
            Some(tag) if array.is_null(row) => format!("{tag}?-"),
            Some(tag) => format!("{tag}?{}", code(array, row)),
            None => format!("{}={}", field.name(), number(array)),
        });
        return format!("{ts} {}", cells.collect::<Vec<_>>().join(" "));
    }
    format!("{ts} {}={}", word(batch.column(1), row), number(batch.column(2)))
}

fn code(array: &ArrayRef, row: usize) -> String {
    match array.as_primitive_opt::<UInt32Type>() {
        Some(codes) => codes.value(row).to_string(),
        None => word(array, row),
    }
}

fn word(array: &ArrayRef, row: usize) -> String {
    match array.as_string_opt::<i32>() {
        Some(text) => text.value(row).to_owned(),
        None => {
            let dictionary = array.as_dictionary::<Int32Type>();
            dictionary.values().as_string::<i32>().value(dictionary.keys().value(row) as usize).to_owned()
        }
    }
}

/// Reads with several batch sizes, which must not matter.
fn read(paths: &[PathBuf], config: &FilesConfig) -> Vec<String> {
    let rows = read_all(paths, config, 1000);
    for batch_rows in [1, 2, 7] {
        assert_eq!(read_all(paths, config, batch_rows), rows, "batches of {batch_rows}");
    }
    rows
}

fn write(directory: &TempDir, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let path = directory.path().join(name);
    fs::write(&path, text).unwrap();
    path
}

fn config(toml_like: serde_json::Value) -> FilesConfig {
    serde_json::from_value(toml_like).unwrap()
}

fn open_error(path: PathBuf, config: &FilesConfig) -> String {
    match FileSource::open(&[path], config, 10) {
        Err(error) => error.to_string(),
        Ok(mut source) => loop {
            match source.poll(Duration::ZERO) {
                Ok(Some(_)) => {}
                Ok(None) => panic!("no error"),
                Err(error) => return error.to_string(),
            }
        },
    }
}

fn long_batch() -> RecordBatch {
    RecordBatch::try_from_iter([
        ("other", Arc::new(Int64Array::from(vec![0, 0, 0])) as ArrayRef),
        ("ts", Arc::new(TimestampMillisecondArray::from(vec![Some(1000), None, Some(3000)]))),
        ("value", Arc::new(Float64Array::from(vec![Some(1.5), Some(2.0), None]))),
        ("tag", Arc::new(StringArray::from(vec!["a", "b", "a"]))),
    ])
    .unwrap()
}

fn wide_batch() -> RecordBatch {
    RecordBatch::try_from_iter([
        ("ts", Arc::new(TimestampMicrosecondArray::from(vec![1_000_000, 2_000_000])) as ArrayRef),
        ("t1", Arc::new(Float64Array::from(vec![Some(1.0), None]))),
        ("t2", Arc::new(Int64Array::from(vec![7, 8]))),
    ])
    .unwrap()
}

fn write_parquet(path: &Path, batch: &RecordBatch) {
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

/// Given the same rows in Parquet and both forms of Arrow IPC, when read, then they are equal, and
/// the row without a time is bad.
#[test]
fn columnar_formats_agree() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    for (batch, want) in [
        (long_batch(), vec!["0 1 a=1.5", "1 !missing_field row 1", "2 3 a=-"]),
        (wide_batch(), vec!["0 1 t1=1 t2=7", "1 2 t1=- t2=8"]),
    ] {
        write_parquet(&path("x.parquet"), &batch);
        let mut writer =
            FileWriter::try_new(File::create(path("x.arrow")).unwrap(), &batch.schema()).unwrap();
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        let mut writer =
            StreamWriter::try_new(File::create(path("x.arrows")).unwrap(), &batch.schema()).unwrap();
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        for name in ["x.parquet", "x.arrow", "x.arrows"] {
            assert_eq!(read(&[path(name)], &FilesConfig::default()), want, "{name}");
        }
    }
}

/// Given a Parquet file with text tags, when read, then tags come as a dictionary and the number of
/// rows is known.
#[test]
fn parquet_tags_are_read_as_a_dictionary() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.parquet");
    write_parquet(&path, &long_batch());
    let mut source = FileSource::open(&[path], &FilesConfig::default(), 10).unwrap();
    assert_eq!(source.total_rows_hint(), Some(3));
    let batch = source.poll(Duration::ZERO).unwrap().unwrap().batch;
    assert_eq!(*batch.column(1).data_type(), dictionary_type());
    assert!(!batch.schema().field(1).is_nullable());
}

/// Given a long CSV file with every kind of bad row, when read, then each becomes a bad record in
/// its place and the others flow; an empty value is a missing sample.
#[test]
fn bad_csv_rows_keep_their_place() {
    let directory = tempfile::tempdir().unwrap();
    let text = b"ts,tag,value\n1970-01-01 00:00:01,a,1\nnever,a,1\n1970-01-01 00:00:02,a\n\
        1970-01-01 00:00:03,a,x\n1970-01-01 00:00:04,\xff,1\n1970-01-01 00:00:05,,1\n\
        1970-01-01T00:00:06Z,\"b,c\",\n,a,1\n";
    let path = write(&directory, "x.csv", text);
    let want = [
        "0 1 a=1",
        "1 !bad_timestamp never,a,1",
        "2 !wrong_fields 1970-01-01 00:00:02,a",
        "3 !wrong_type 1970-01-01 00:00:03,a,x",
        "4 !not_utf8 1970-01-01 00:00:04,\u{fffd},1",
        "5 !missing_field 1970-01-01 00:00:05,,1",
        "6 6 b,c=-",
        "7 !missing_field ,a,1",
    ];
    assert_eq!(read(&[path], &FilesConfig::default()), want);
}

/// Given a wide CSV file with a bad cell, when read, then the cell is a bad record with the offset
/// of its row, and the other cells of the row flow.
#[test]
fn a_bad_cell_does_not_cost_its_row() {
    let directory = tempfile::tempdir().unwrap();
    let path = write(
        &directory,
        "x.csv",
        "datetime;t1;t2;anomaly\n1970-01-01 00:00:01;1;;0\nx;1;1;0\n1970-01-01 00:00:02;bad;4;0\n",
    );
    let config = config(serde_json::json!({
        "ts": "datetime", "csv": {"delimiter": ";"}, "ignore": ["anomaly"], "tag_prefix": "p."
    }));
    let want = [
        "0 1 p.t1=1 p.t2=-",
        "1 !bad_timestamp x;1;1;0",
        "2 !wrong_type 1970-01-01 00:00:02;bad;4;0",
        "2 2 p.t1=- p.t2=4",
    ];
    assert_eq!(read(&[path], &config), want);
}

/// Given JSON lines in both layouts, when read, then broken lines are bad records and tags that
/// appear late are columns from the start.
#[test]
fn json_lines_in_both_layouts() {
    let directory = tempfile::tempdir().unwrap();
    let text = "{\"ts\":1,\"tag\":\"a\",\"value\":1}\n{\n{\"ts\":2,\"tag\":\"a\",\"value\":\"1\"}\n[]\n\
        {\"ts\":3.0,\"tag\":\"a\",\"value\":null}\n";
    let long = write(&directory, "long.jsonl", text);
    let seconds = config(serde_json::json!({"ts_unit": "s"}));
    let want = [
        "0 1 a=1",
        "1 !json_syntax {",
        "2 !wrong_type {\"ts\":2,\"tag\":\"a\",\"value\":\"1\"}",
        "3 !wrong_type []",
        "4 3 a=-",
    ];
    assert_eq!(read(std::slice::from_ref(&long), &seconds), want);
    assert!(open_error(long, &FilesConfig::default()).contains("set `ts_unit`"));
    let wide = write(&directory, "wide.ndjson", "{\"ts\":1,\"a\":1}\n{\"ts\":2,\"b\":2}\n");
    assert_eq!(read(&[wide], &seconds), ["0 1 a=1 b=-", "1 2 a=- b=2"]);
}

/// Given one file per tag in a directory, when read, then they are one log in time order; equal
/// times go by file, and bad rows stay where they were in their file.
#[test]
fn one_file_per_tag_is_one_log() {
    let directory = tempfile::tempdir().unwrap();
    write(&directory, "b.csv", "timestamp,value\n1970-01-01 00:00:01,10\n?,0\n1970-01-01 00:00:04,40\n?,1\n");
    write(
        &directory,
        "a.csv",
        "timestamp,value\n1970-01-01 00:00:01,1\n1970-01-01 00:00:02,2\n1970-01-01 00:00:05,5\n",
    );
    write(&directory, "notes.txt", "not data");
    let config = config(serde_json::json!({"ts": "timestamp"}));
    let want = [
        "0 1 a=1",
        "1 1 b=10",
        "2 2 a=2",
        "3 !bad_timestamp ?,0",
        "4 4 b=40",
        "5 !bad_timestamp ?,1",
        "6 5 a=5",
    ];
    assert_eq!(read(&[directory.path().to_owned()], &config), want);
}

/// Given a file with a row out of order, when merged, then the smallest of its next three times
/// decides and its own order is kept.
#[test]
fn three_rows_ahead_decide_the_merge() {
    let directory = tempfile::tempdir().unwrap();
    let a = write(&directory, "a.csv", "ts,tag,value\n5,a,1\n6,a,2\n2,a,3\n9,a,4\n");
    let b = write(
        &directory,
        "b.jsonl",
        "{\"ts\":3,\"tag\":\"b\",\"value\":1}\n{\"ts\":7,\"tag\":\"b\",\"value\":2}\n",
    );
    let seconds = config(serde_json::json!({"ts_unit": "s"}));
    let want = ["0 5 a=1", "1 6 a=2", "2 2 a=3", "3 3 b=1", "4 7 b=2", "5 9 a=4"];
    assert_eq!(read(&[a, b], &seconds), want);
}

/// Given wide files with different tags, when merged, then each row has null cells for the tags of
/// the other; a long file among them is refused.
#[test]
fn wide_files_bring_their_tags_together() {
    let directory = tempfile::tempdir().unwrap();
    let a = write(&directory, "a.csv", "ts,t1\n1,1\n3,3\n");
    let b = write(&directory, "b.csv", "ts,t2\n2,2\n");
    let seconds = config(serde_json::json!({"ts_unit": "s"}));
    assert_eq!(read(&[a.clone(), b], &seconds), ["0 1 t1=1 t2=-", "1 2 t1=- t2=2", "2 3 t1=3 t2=-"]);
    let long = write(&directory, "c.csv", "ts,tag,value\n2,a,2\n");
    assert!(matches!(FileSource::open(&[a, long], &seconds, 1), Err(SourceError::MixedFiles { .. })));
}

/// Given files that cannot be read, when opened or read, then the error names the file.
#[test]
fn errors_name_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let whole = directory.path().join("whole.parquet");
    write_parquet(&whole, &long_batch());
    let bytes = fs::read(&whole).unwrap();
    let cut = write(&directory, "cut.parquet", &bytes[..bytes.len() / 2]);
    let empty = write(&directory, "empty.csv", "");
    let other = write(&directory, "x.xlsx", "");
    let numbers = write(&directory, "n.csv", "ts,tag,value\n1,a,1\n");
    let no_ts = write(&directory, "t.csv", "time,tag,value\n1,a,1\n");
    let missing = directory.path().join("none.csv");
    for path in [cut, empty, other, numbers, no_ts, missing] {
        let error = open_error(path.clone(), &FilesConfig::default());
        assert!(error.contains(path.to_str().unwrap()), "{error}");
    }
    let error = FileSource::open(&[directory.path().join("x")], &FilesConfig::default(), 1).unwrap_err();
    assert!(matches!(error, SourceError::Io { .. }));
}

/// Given a configuration with an unknown field or unit, when parsed, then it is refused.
#[test]
fn unknown_settings_are_refused() {
    for wrong in [r#"{"tss": "x"}"#, r#"{"ts_unit": "weeks"}"#, r#"{"csv": {"sep": ";"}}"#] {
        assert!(serde_json::from_str::<FilesConfig>(wrong).is_err(), "{wrong}");
    }
}

/// Given quality columns beside the tags of a wide file, then text and columnar formats agree, an empty cell is what the
/// configuration says, files with and without such columns go together, and a tag that is left out takes its qualities
/// along.
#[test]
fn wide_files_have_qualities_beside_their_tags() {
    let directory = tempfile::tempdir().unwrap();
    let text = "ts,a,a_q,b,c_q\n1970-01-01 00:00:01,1,192,,7\n1970-01-01 00:00:02,,0,5,8\n";
    let csv = write(&directory, "a.csv", text);
    let parquet = directory.path().join("a.parquet");
    let batch = RecordBatch::try_from_iter([
        ("ts", Arc::new(TimestampMillisecondArray::from(vec![1000, 2000])) as ArrayRef),
        ("a", Arc::new(Float64Array::from(vec![Some(1.0), None]))),
        ("a_q", Arc::new(Int64Array::from(vec![192, 0]))),
        ("b", Arc::new(Float64Array::from(vec![None, Some(5.0)]))),
        ("c_q", Arc::new(Int64Array::from(vec![7, 8]))),
    ])
    .unwrap();
    write_parquet(&parquet, &batch);
    let json = write(
        &directory,
        "a.jsonl",
        "{\"ts\":\"1970-01-01T00:00:01Z\",\"a\":1,\"a_q\":192,\"c_q\":7}\n\
         {\"ts\":\"1970-01-01T00:00:02Z\",\"a\":null,\"a_q\":0,\"b\":5,\"c_q\":8}\n",
    );
    let suffix = serde_json::json!({ "quality_suffix": "_q" });
    // `c_q` has no tag `c`, so it is a tag itself.
    let want = ["0 1 a=1 b=- c_q=7 a?192", "1 2 a=- b=5 c_q=8 a?0"];
    for path in [&csv, &parquet, &json] {
        assert_eq!(read(std::slice::from_ref(path), &config(suffix.clone())), want, "{}", path.display());
    }
    let missing = config(serde_json::json!({ "quality_suffix": "_q", "null": "missing" }));
    for path in [&csv, &parquet, &json] {
        let want = ["0 1 a=1 b=NaN c_q=7 a?192", "1 2 a=NaN b=5 c_q=8 a?0"];
        assert_eq!(read(std::slice::from_ref(path), &missing), want, "{}", path.display());
    }
    let ignore = config(serde_json::json!({ "quality_suffix": "_q", "ignore": ["a"] }));
    assert_eq!(read(std::slice::from_ref(&csv), &ignore), ["0 1 b=- c_q=7", "1 2 b=5 c_q=8"]);
    let plain = write(&directory, "b.csv", "ts,d\n1970-01-01 00:00:01.5,9\n");
    let want = ["0 1 a=1 b=- c_q=7 a?192 d=-", "1 1 a=- b=- c_q=- a?- d=9", "2 2 a=- b=5 c_q=8 a?0 d=-"];
    for path in [csv, parquet] {
        assert_eq!(read(&[path, plain.clone()], &config(suffix.clone())), want);
    }
    let long = write(&directory, "long.csv", "ts,tag,value\n1970-01-01 00:00:01,a,1\n");
    assert!(open_error(long, &config(suffix)).contains("`quality_suffix` = \"_q\": want none"));
}
