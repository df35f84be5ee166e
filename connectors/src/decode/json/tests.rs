use arrow_array::{cast::AsArray, types::*};
use proptest::prelude::*;

use super::*;
use crate::{Polled, decode::rows::NoHeaders};

fn mapping(json: &str) -> JsonMapping {
    serde_json::from_str(json).unwrap()
}

fn context(offset: i64) -> RecordContext<'static> {
    RecordContext { offset, record_ts: None, key: Some(b"k"), topic: "t", headers: &NoHeaders }
}

fn decode(mapping: &JsonMapping, payload: &[u8]) -> Polled {
    let mut out = RowBuilder::new(0);
    JsonDecoder::new(mapping).unwrap().decode(payload, context(7), &mut out);
    out.finish()
}

fn decode_generally(mapping: &JsonMapping, payload: &[u8]) -> Polled {
    let mut out = RowBuilder::new(0);
    let mut decoder = JsonDecoder::new(mapping).unwrap();
    decoder.flat = None;
    decoder.decode(payload, context(7), &mut out);
    out.finish()
}

fn rows(polled: &Polled) -> Vec<(i64, String, f64)> {
    let batch = &polled.batch;
    let ts = batch.column(0).as_primitive::<TimestampNanosecondType>();
    let (tag, value) = (batch.column(1).as_string::<i32>(), batch.column(2).as_primitive::<Float64Type>());
    (0..batch.num_rows()).map(|i| (ts.value(i), tag.value(i).to_owned(), value.value(i))).collect()
}

fn codes(polled: &Polled) -> Vec<(Option<u32>, &'static str)> {
    polled.bad.iter().map(|bad| (bad.index, bad.code)).collect()
}

/// Given flat rows, alone and in an array, when decoded, then each is a row in its place.
#[test]
fn flat_rows_alone_and_in_an_array_are_rows() {
    let ms = mapping(r#"{"ts_unit":"ms"}"#);
    let one = decode(&ms, br#"{"ts":1000,"tag":"a","value":1.5,"seq":3,"quality":192}"#);
    assert_eq!(rows(&one), [(1_000_000_000, "a".to_owned(), 1.5)]);
    assert_eq!(one.batch.column_by_name("seq").unwrap().as_primitive::<Int64Type>().value(0), 3);
    assert_eq!(one.batch.column_by_name("quality").unwrap().as_primitive::<UInt32Type>().value(0), 192);
    let two = decode(&ms, br#" [{"ts":1,"tag":"a","value":1},{"value":null,"tag":"b","ts":2}] "#);
    assert_eq!(two.spans.len(), 1);
    assert_eq!(two.spans[0].rows, 2);
    assert!(rows(&two)[1].2.is_nan());
    let auto = decode(&JsonMapping::default(), br#"{"ts":"1970-01-01T00:00:01Z","tag":"a","value":-2}"#);
    assert_eq!(rows(&auto), [(1_000_000_000, "a".to_owned(), -2.0)]);
    let framed = decode(&ms, b"\0\0\0\0\x07{\"ts\":1000,\"tag\":\"a\",\"value\":1}");
    assert_eq!(rows(&framed).len(), 1);
}

/// Given bad rows in an array, when decoded, then each is dead-lettered with its index and its
/// own bytes, and its siblings flow.
#[test]
fn bad_rows_do_not_hold_their_siblings() {
    let text = br#"[{"ts":1,"tag":"a","value":1},{"ts":1,"tag":"a"}, 5,{"ts":1,"tag":"a","value":"x"},{"ts":true,"tag":"a","value":1},{"ts":"x","tag":"a","value":1},{"ts":9,"tag":"b","value":2}]"#;
    let polled = decode(&mapping(r#"{"ts_unit":"ns"}"#), text);
    assert_eq!(rows(&polled), [(1, "a".to_owned(), 1.0), (9, "b".to_owned(), 2.0)]);
    let want = [
        (Some(1), "missing_field"),
        (Some(2), "wrong_type"),
        (Some(3), "wrong_type"),
        (Some(4), "wrong_type"),
        (Some(5), "bad_timestamp"),
    ];
    assert_eq!(codes(&polled), want);
    assert_eq!(polled.bad[0].raw, br#"{"ts":1,"tag":"a"}"#);
    assert_eq!(polled.bad[0].before_row, 1);
    assert_eq!(polled.spans[1].first_index, 6);
}

/// Given what is no JSON or holds nothing, when decoded, then it is one bad record.
#[test]
fn undecodable_records_are_one_bad_record_each() {
    let ns = mapping(r#"{"ts_unit":"ns"}"#);
    for (text, code) in [
        (&b""[..], "empty"),
        (b"[]", "empty"),
        (b"hello", "json_syntax"),
        (br#"{"ts":1,"tag":"a","value":NaN}"#, "json_syntax"),
        (br#"{"ts":1,"tag":"a","value":1e999}"#, "json_syntax"),
        (br#"[{"ts":1,"tag":"a","value":1},{"ts":2"#, "json_syntax"),
        (br#"{"ts":1,"tag":"a","value":1} x"#, "json_syntax"),
        (b"5", "wrong_type"),
        (br#"{"ts":1,"tag":"","value":1}"#, "missing_field"),
        (br#"{"ts":1.5e300,"tag":"a","value":1}"#, "bad_timestamp"),
    ] {
        let polled = decode(&ns, text);
        assert_eq!(codes(&polled), [(None, code)], "{}", String::from_utf8_lossy(text));
        assert_eq!((polled.batch.num_rows(), &polled.bad[0].raw[..]), (0, text));
    }
    let plain = decode(&JsonMapping::default(), br#"{"ts":1,"tag":"a","value":1}"#);
    assert_eq!(codes(&plain), [(None, "bad_timestamp")]);
}

/// Given a Telegraf message, when decoded with its preset, then each number is a sample, a null
/// is none, and what is no number is dead-lettered.
#[test]
fn telegraf_fields_are_samples() {
    let text =
        br#"{"fields":{"a":1.5,"b":"x","c":null,"d":2},"name":"cpu","tags":{"host":"h"},"timestamp":2}"#;
    let polled = decode(&mapping(r#"{"preset":"telegraf"}"#), text);
    let want = [(2_000_000_000, "h.cpu.a".to_owned(), 1.5), (2_000_000_000, "h.cpu.d".to_owned(), 2.0)];
    assert_eq!(rows(&polled), want);
    assert_eq!(codes(&polled), [(Some(1), "wrong_type")]);
    assert_eq!(
        polled.spans.iter().map(|span| (span.first_index, span.rows)).collect::<Vec<_>>(),
        [(0, 1), (2, 1)]
    );
}

/// Given rows deep in a record and the device behind them, when decoded with a template, then
/// the tag is put together from both, the key and the topic.
#[test]
fn exploded_rows_take_parts_of_the_record_around_them() {
    let config = mapping(
        r#"{"rows":"payload.samples","ts":"at.t","ts_unit":"s","value":"v","tag_template":"{topic}/{key}/{payload.device}.{n}"}"#,
    );
    let text =
        br#"{"payload":{"samples":[{"at":{"t":1},"v":1,"n":"x"},{"at":{"t":2},"n":"y"}],"device":"d"}}"#;
    let polled = decode(&config, text);
    assert_eq!(rows(&polled), [(1_000_000_000, "t/k/d.x".to_owned(), 1.0)]);
    assert_eq!(codes(&polled), [(Some(1), "missing_field")]);
    assert_eq!(polled.bad[0].raw, br#"{"at":{"t":2},"n":"y"}"#);
    assert_eq!(codes(&decode(&config, b"{}")), [(None, "missing_field")]);
}

/// Given mappings that cannot be meant, when a decoder is made, then they are refused.
#[test]
fn contradictory_mappings_are_refused() {
    for text in [
        r#"{"ts":"a..b"}"#,
        r#"{"value":"v","fields":"f"}"#,
        r#"{"tag":"t","tag_template":"{key}"}"#,
        r#"{"tag_template":"{"}"#,
        r#"{"tag_template":"a}b"}"#,
    ] {
        assert!(JsonDecoder::new(&mapping(text)).is_err(), "{text}");
    }
    assert!(serde_json::from_str::<JsonMapping>(r#"{"tagg":"t"}"#).is_err());
}

fn same(a: &Polled, b: &Polled) -> bool {
    let batches = format!("{:?}", a.batch) == format!("{:?}", b.batch);
    batches && a.spans == b.spans && a.bad == b.bad
}

proptest! {
    /// Whatever bytes come, every decoder answers with rows or one bad record.
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for config in [r#"{}"#, r#"{"preset":"telegraf"}"#, r#"{"rows":"a.b"}"#] {
            let polled = decode(&mapping(config), &bytes);
            prop_assert!(polled.batch.num_rows() + polled.bad.len() > 0);
        }
    }

    /// The scanner of flat rows and the general reader answer the same, also on broken text.
    #[test]
    fn the_scanner_agrees_with_the_general_reader(
        value in "(-?[0-9]{1,20}(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?|null|true|\"x\"|-0|01|1\\.)",
        tag in "[a-zäö\\\\\"nu ]{0,6}",
        ts in "(-?[0-9]{1,20}|\"[0-9]{4}\"|1\\.5)",
        cut in 0usize..120,
        array in any::<bool>(),
    ) {
        let row = format!(r#"{{"ts":{ts}, "x":[{{}}],"tag":"{tag}","value":{value},"seq":1}}"#);
        let plain = format!(r#"{{"ts":{ts}, "tag":"{tag}","value":{value},"quality":"good"}}"#);
        for row in [row, plain] {
            let text = if array { format!("[{row},{row}]") } else { row };
            let mut bytes = text.into_bytes();
            if cut < 20 { bytes.truncate(cut * 5); }
            let config = mapping(r#"{"ts_unit":"us"}"#);
            let (a, b) = (decode(&config, &bytes), decode_generally(&config, &bytes));
            prop_assert!(same(&a, &b), "{}\n{a:?}\n{b:?}", String::from_utf8_lossy(&bytes));
        }
    }
}
