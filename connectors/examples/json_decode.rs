//! Rows a second of the JSON decoder beside serde_json into a typed struct.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{hint::black_box, time::Instant};

use connectors::decode::{
    json::{JsonDecoder, JsonMapping},
    rows::{NoHeaders, RecordContext, RowBuilder},
};

#[derive(serde::Deserialize)]
struct Typed<'a> {
    ts: i64,
    tag: &'a str,
    value: f64,
    quality: u32,
}

fn main() {
    let rows: Vec<String> = (0..8192)
        .map(|i| {
            let (ts, tag, value) = (1_700_000_000_000_i64 + i, i % 1000, (i as f64 * 0.37).sin() * 100.0);
            format!(r#"{{"ts":{ts},"tag":"plant1.unit{tag:04}.temp","value":{value:.4},"quality":192}}"#)
        })
        .collect();
    let bytes: usize = rows.iter().map(String::len).sum();
    let measure = |name: &str, work: &mut dyn FnMut()| {
        let mut best = f64::MAX;
        for _ in 0..40 {
            let start = Instant::now();
            work();
            best = best.min(start.elapsed().as_secs_f64());
        }
        println!("{name}: {:.1} M rows/s, {:.0} MB/s", 8192.0 / best / 1e6, bytes as f64 / best / 1e6);
    };
    measure("serde_json typed into columns", &mut || {
        let (mut ts, mut tag, mut value, mut quality) = (vec![], String::new(), vec![], vec![]);
        for row in &rows {
            let row: Typed<'_> = serde_json::from_str(row).unwrap();
            ts.push(row.ts);
            tag.push_str(row.tag);
            value.push(row.value);
            quality.push(row.quality);
        }
        black_box((ts, tag, value, quality));
    });
    for (name, mapping) in [
        ("JsonDecoder, flat", r#"{"ts_unit":"ms"}"#),
        ("JsonDecoder, general (template)", r#"{"ts_unit":"ms","tag_template":"{tag}"}"#),
    ] {
        let mapping: JsonMapping = serde_json::from_str(mapping).unwrap();
        let mut decoder = JsonDecoder::new(&mapping).unwrap();
        let mut out = RowBuilder::new(0);
        measure(name, &mut || {
            for (offset, row) in (0..).zip(&rows) {
                let ctx =
                    RecordContext { offset, record_ts: None, key: None, topic: "t", headers: &NoHeaders };
                decoder.decode(row.as_bytes(), ctx, &mut out);
            }
            let polled = black_box(out.finish());
            assert_eq!((polled.batch.num_rows(), polled.bad.len()), (8192, 0));
        });
    }
}
