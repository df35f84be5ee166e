//! Rows a second of the whole path, each beside a plain decode of the same bytes: decoded by the source, judged by four
//! judgements, written as a run directory's tables. Parquet as `replay` reads it, JSON records as `run` does.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{
    ArrayRef, Float64Array, Int32Array, RecordBatch, StringArray, TimestampNanosecondArray, UInt32Array,
    types::Int32Type,
};
use connectors::decode::json::{JsonDecoder, JsonMapping};
use connectors::decode::rows::{NoHeaders, RecordContext, RowBuilder};
use connectors::sink::parquet::ParquetTable;
use connectors::source::file::{FileSource, FilesConfig};
use connectors::{Polled, Source};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use engine::{Outputs, Plan};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::fs::File;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use truegauge::live::Live;
use truegauge::run_dir::{InOrder, SortLimits};

mod plant;

const TAGS: usize = 1_000;
const SCANS: usize = 200;
const ROWS: usize = TAGS * SCANS;
const BATCH: usize = 65_536;
const FIRST_NS: i64 = 1_700_000_000_000_000_000;

fn tag(i: usize) -> String {
    format!("unit{:02}.temp{:04}.{}", i / 3 % 20, i / 3, ["a", "b", "c"][i % 3])
}

/// The value of a row; one in 4,096 is far off.
fn value(i: usize) -> f64 {
    let noise =
        (i as u64 + 1).wrapping_mul(6_364_136_223_846_793_005).rotate_left(31).wrapping_mul(0x9E37_79B9);
    let off = if (noise >> 8).is_multiple_of(4_096) { 500.0 } else { 0.0 };
    50.0 + (noise >> 40) as f64 / (1u64 << 24) as f64 + off
}

fn config() -> String {
    let mut text = String::from("[source.files]\nquality = \"quality\"\n");
    plant::judgements(&mut text, (0..TAGS / 10).map(|g| [tag(3 * g), tag(3 * g + 1), tag(3 * g + 2)]));
    text
}

/// The rows as a Parquet file.
fn write_file(path: &Path) {
    let ts = TimestampNanosecondArray::from_iter_values(
        (0..ROWS).map(|i| FIRST_NS + (i / TAGS) as i64 * 6_000_000_000),
    );
    let keys = Int32Array::from_iter_values((0..ROWS).map(|i| (i % TAGS) as i32));
    let words = StringArray::from_iter_values((0..TAGS).map(tag));
    let tags = arrow_array::DictionaryArray::<Int32Type>::new(keys, Arc::new(words));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("ts", Arc::new(ts.with_timezone("UTC"))),
        ("tag", Arc::new(tags)),
        ("value", Arc::new(Float64Array::from_iter_values((0..ROWS).map(value)))),
        ("quality", Arc::new(UInt32Array::from(vec![0; ROWS]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
    let mut table = ParquetTable::create(path, batch.schema()).expect("a file");
    table.write(&batch).expect("written");
    table.finish().expect("written");
}

fn source(path: &Path) -> FileSource {
    let config = FilesConfig { quality: Some("quality".into()), ..FilesConfig::default() };
    FileSource::open(&[path.into()], &config, BATCH).expect("a Parquet file")
}

fn sum(batch: &RecordBatch) -> f64 {
    let value = batch.column_by_name("value").and_then(|v| v.as_primitive_opt::<Float64Type>());
    value.expect("numbers").values().iter().sum()
}

fn judge(plan: &Arc<Plan>, batches: impl Iterator<Item = Polled>) -> (Live, Outputs) {
    let (mut live, mut out) = (Live::new(plan.clone()), Outputs::default());
    for polled in batches {
        live.take(&polled, &mut out).expect("canonical columns");
    }
    live.end(&mut out);
    (live, out)
}

fn polls(source: &mut FileSource) -> impl Iterator<Item = Polled> {
    std::iter::from_fn(|| source.poll(Duration::MAX).expect("readable"))
}

fn plan(dir: &Path) -> Arc<Plan> {
    let path = dir.join("c.toml");
    std::fs::write(&path, config()).expect("written");
    Arc::new(truegauge::config::load(&path).expect("a configuration").plan)
}

fn parquet(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("rows.parquet");
    write_file(&path);
    let plan = plan(dir.path());
    let mut group = c.benchmark_group("parquet");
    group.throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("plain decode", |b| {
        b.iter(|| {
            let file = File::open(&path).expect("a file");
            let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("a Parquet file");
            let reader = reader.with_batch_size(BATCH).build().expect("a Parquet file");
            reader.map(|batch| sum(&batch.expect("readable"))).sum::<f64>()
        })
    });
    group.bench_function("decoded", |b| {
        b.iter(|| polls(&mut source(&path)).map(|polled| sum(&polled.batch)).sum::<f64>())
    });
    group.bench_function("decoded and judged", |b| {
        b.iter(|| judge(&plan, polls(&mut source(&path))).1.verdicts.len())
    });
    group.bench_function("decoded, judged and written", |b| {
        b.iter(|| {
            let (live, mut out) = judge(&plan, polls(&mut source(&path)));
            let mut files = InOrder::new(dir.path(), &plan, SortLimits::default());
            files.take(&mut out, live.names()).expect("taken");
            files.finish(live.names()).expect("written")
        })
    });
    group.finish();
}

fn json(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let plan = plan(dir.path());
    let rows: Vec<String> = (0..ROWS)
        .map(|i| plant::message(FIRST_NS + (i / TAGS) as i64 * 6_000_000_000, &tag(i % TAGS), value(i)))
        .collect();
    let mapping: JsonMapping = serde_json::from_str(r#"{"ts_unit":"ns"}"#).expect("a mapping");
    let decode = |out: &mut RowBuilder, decoder: &mut JsonDecoder, rows: &[String], first: usize| {
        for (offset, row) in (first as i64..).zip(rows) {
            let ctx = RecordContext { offset, record_ts: None, key: None, topic: "t", headers: &NoHeaders };
            decoder.decode(row.as_bytes(), ctx, out);
        }
        out.finish()
    };
    let mut group = c.benchmark_group("json");
    group.throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("plain decode", |b| {
        b.iter(|| {
            let (mut ts, mut value, mut quality, mut tag) = (vec![], vec![], vec![], String::new());
            for row in &rows {
                let row: plant::Row<'_> = serde_json::from_str(row).expect("a row");
                ts.push(row.ts);
                tag.push_str(row.tag);
                value.push(row.value);
                quality.push(row.quality);
            }
            black_box((ts, tag, value, quality));
        })
    });
    let mut decoder = JsonDecoder::new(&mapping).expect("a mapping");
    let mut builder = RowBuilder::new(0);
    let batches = |decoder: &mut JsonDecoder, builder: &mut RowBuilder, take: &mut dyn FnMut(Polled)| {
        for (i, rows) in rows.chunks(8_192).enumerate() {
            take(decode(builder, decoder, rows, i * 8_192));
        }
    };
    group.bench_function("decoded", |b| {
        b.iter(|| batches(&mut decoder, &mut builder, &mut |polled| drop(black_box(polled))))
    });
    group.bench_function("decoded and judged", |b| {
        b.iter(|| {
            let (mut live, mut out) = (Live::new(plan.clone()), Outputs::default());
            batches(&mut decoder, &mut builder, &mut |polled| live.take(&polled, &mut out).expect("columns"));
            live.end(&mut out);
            out.verdicts.len()
        })
    });
    group.finish();
}

criterion_group!(path, parquet, json);
criterion_main!(path);
