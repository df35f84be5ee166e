//! `truegauge replay` on generated data, and on the public sets where they are.

use arrow_array::builder::{
    Float64Builder, StringDictionaryBuilder, TimestampNanosecondBuilder, UInt32Builder,
};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, TimestampNanosecondType};
use arrow_array::{ArrayRef, RecordBatch};
use connectors::sink::parquet::ParquetTable;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Runs the command line; the exit code and the error's text.
pub(crate) fn truegauge(arguments: &[&str]) -> Result<(), (u8, String)> {
    use clap::Parser;
    let cli = truegauge::cmd::Cli::try_parse_from(["truegauge"].iter().chain(arguments))
        .map_err(|e| (2, e.to_string()))?;
    truegauge::cmd::run(cli).map_err(|e| (e.code(), e.to_string()))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(path).expect("written")).expect("JSON")
}

/// Every output of a run that must not depend on how it was run; the summary without its time.
fn outputs(run: &Path) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = ["alerts.jsonl", "late.jsonl", "dlq.jsonl", "journal.jsonl"]
        .iter()
        .map(|f| (f.to_string(), std::fs::read_to_string(run.join(f)).expect("written")))
        .collect();
    let mut summary = json(&run.join("summary.json"));
    summary.as_object_mut().expect("an object").remove("elapsed_s");
    all.push(("summary.json".into(), summary.to_string()));
    for table in ["verdicts.parquet", "signals.parquet"] {
        all.push((table.into(), rows(&run.join(table))));
    }
    all
}

/// A Parquet file's rows as text.
fn rows(path: &Path) -> String {
    let file = std::fs::File::open(path).expect("written");
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file)
        .expect("Parquet")
        .build();
    let mut text = String::new();
    for batch in reader.expect("readable") {
        let batch = batch.expect("readable");
        for row in 0..batch.num_rows() {
            for column in batch.columns() {
                let cell = match column.as_primitive_opt::<TimestampNanosecondType>() {
                    Some(time) => time.value(row).to_string(),
                    None => arrow_cast::display::array_value_to_string(column, row).expect("shown"),
                };
                write!(text, "{cell} ").expect("text");
            }
            text.push('\n');
        }
    }
    text
}

/// A plant of three twins and a loner, 2,000 seconds: a stuck twin, a lost quorum, a spike, a ramp, a silence, late rows,
/// duplicates and conflicts.
fn plant() -> Vec<(i64, String, f64, u32)> {
    let (mut rows, mut noise) = (Vec::new(), 1u64);
    let mut random = move || {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (noise >> 33) as f64 / (1u64 << 31) as f64 - 0.5
    };
    for second in 0..2_000i64 {
        let ts = (1_700_000_000 + second) * 1_000_000_000;
        let truth = 10.0 + 3.0 * (second % 400 - 200).abs() as f64 / 200.0;
        for (i, tag) in ["p.a", "p.b", "p.c"].iter().enumerate() {
            let stuck = i == 1 && (600..1_000).contains(&second);
            let lost = i != 0 && (1_400..1_500).contains(&second);
            let value = if stuck { 11.0 } else { truth + 0.1 * random() };
            let (value, quality) = if lost { (f64::NAN, 0x808C_0000) } else { (value, 0) };
            rows.push((ts + i as i64 * 1_000_000, (*tag).to_string(), value, quality));
        }
        if !(800..860).contains(&second) {
            let spike = if second == 300 { 50.0 } else { 0.0 };
            let ramp = if (1_200..1_210).contains(&second) { (second - 1_200) as f64 * 4.0 } else { 0.0 };
            rows.push((ts + 5_000_000, "q".into(), 20.0 + random() + spike + ramp, 0));
        }
        if second % 500 == 499 {
            let back = rows[rows.len() - 8].clone();
            rows.push((back.0, back.1.clone(), back.2 + 1.0, 0));
            let last = rows[rows.len() - 2].clone();
            rows.push(last.clone());
            rows.push((last.0, last.1, 99.0, 0));
        }
    }
    rows
}

const CONFIG: &str = r#"
[quality]
scheme = "opcua"
[[rule]]
id = "range"
tags = ["*"]
detect.range = { fail = [0.0, 45.0], suspect = [5.0, 40.0] }
alert = { on = "fail", severity = "critical" }
[[rule]]
id = "rate"
tags = ["q"]
detect.rate = { suspect_per_s = 3.5, fail_per_s = 30.0, max_gap = "30s" }
alert = { on = "suspect", for = "3s", keep_firing_for = "5s" }
[[rule]]
id = "gap"
tags = ["q"]
detect.gap = { max = "30s" }
alert = { on = "fail" }
[[rule]]
id = "ewma"
tags = ["q"]
detect.ewma = { half_life = "2m", suspect = 6.0 }
[[rule]]
id = "zscore"
tags = ["*"]
detect.zscore = { window = 120, suspect = 6.0, freeze = "trusted" }
[[group]]
id = "p"
members = ["p.a", "p.b", "p.c"]
tick = { period = "1s" }
max_skew = "2s"
vote.mid_value = { tolerance = { abs = 0.5 } }
fallback = [{ ar = { min_training = 100 } }, { hold = { max_horizon = "10m" } }]
confirm = 5
alert = { on = "fail" }
"#;

fn files(quality: bool, more: &str) -> String {
    let quality = if quality { "quality = \"quality\"" } else { "" };
    format!("[source.files]\n{quality}\nts_unit = \"ns\"\n{more}\n{CONFIG}")
}

fn write_csv(path: &Path, rows: &[(i64, String, f64, u32)]) {
    let mut csv = String::from("ts,tag,value,quality\n");
    for (ts, tag, value, quality) in rows {
        let value = if value.is_nan() { String::new() } else { value.to_string() };
        writeln!(csv, "{ts},{tag},{value},{quality}").expect("text");
    }
    std::fs::write(path, csv).expect("written");
}

fn write_jsonl(path: &Path, rows: &[(i64, String, f64, u32)]) {
    let mut lines = String::new();
    for (ts, tag, value, quality) in rows {
        let value = if value.is_nan() { "null".into() } else { value.to_string() };
        writeln!(lines, r#"{{"ts":{ts},"tag":"{tag}","value":{value},"quality":{quality}}}"#).expect("text");
    }
    std::fs::write(path, lines).expect("written");
}

fn write_parquet(path: &Path, rows: &[(i64, String, f64, u32)]) {
    let mut ts = TimestampNanosecondBuilder::new().with_timezone("UTC");
    let mut tag = StringDictionaryBuilder::<Int32Type>::new();
    let (mut value, mut quality) = (Float64Builder::new(), UInt32Builder::new());
    for row in rows {
        ts.append_value(row.0);
        tag.append_value(&row.1);
        value.append_value(row.2);
        quality.append_value(row.3);
    }
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("ts", Arc::new(ts.finish())),
        ("tag", Arc::new(tag.finish())),
        ("value", Arc::new(value.finish())),
        ("quality", Arc::new(quality.finish())),
    ];
    let batch = RecordBatch::try_from_iter(columns).expect("one length");
    let mut table = ParquetTable::create(path, batch.schema()).expect("made");
    table.write(&batch).expect("written");
    table.finish().expect("written");
}

fn replay(data: &[&Path], config: &Path, out: &Path, more: &[&str]) {
    let mut arguments = vec!["replay"];
    arguments.extend(data.iter().map(|p| text(p)));
    arguments.extend(["-c", text(config), "--out", text(out)]);
    arguments.extend(more);
    truegauge(&arguments).expect("it runs");
}

/// Given a plant with every kind of trouble, then formats, batches and threads change nothing, and each trouble is told.
#[test]
fn formats_batches_and_threads_change_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    let rows = plant();
    write_csv(&at("data.csv"), &rows);
    write_jsonl(&at("data.jsonl"), &rows);
    write_parquet(&at("data.parquet"), &rows);
    std::fs::write(at("c.toml"), files(true, "")).expect("written");
    replay(&[&at("data.csv")], &at("c.toml"), &at("base"), &["--emit", "all"]);
    let base = outputs(&at("base"));
    let runs: [(&str, &[&str]); 4] = [
        ("data.csv", &["--batch-rows", "1", "--threads", "1"]),
        ("data.csv", &["--batch-rows", "7"]),
        ("data.jsonl", &["--threads", "1"]),
        ("data.parquet", &["--batch-rows", "500"]),
    ];
    for (i, (data, more)) in runs.iter().enumerate() {
        let out = at(&format!("run{i}"));
        let more: Vec<&str> = more.iter().copied().chain(["--emit", "all"]).collect();
        replay(&[&at(data)], &at("c.toml"), &out, &more);
        for (base, other) in base.iter().zip(outputs(&out)) {
            let same = base.0 == "dlq.jsonl" || base.1 == other.1;
            assert!(same, "{} of {data} {more:?} differs", base.0);
        }
    }
    let alerts = std::fs::read_to_string(at("base/alerts.jsonl")).expect("written");
    for wanted in [
        r#""rule":"range","target":"q","transition":"firing""#,
        r#""rule":"rate","target":"q","transition":"firing""#,
        r#""rule":"gap","target":"q","transition":"firing""#,
        r#""event":"member","group":"p","member":"p.b","from":"suspect","to":"excluded""#,
        r#""to":"degraded","reason":"no quorum""#,
        r#""rule":"p","target":"p","transition":"firing""#,
    ] {
        assert!(alerts.contains(wanted), "no {wanted} in\n{alerts}");
    }
    let summary = json(&at("base/summary.json"));
    assert_eq!(summary["switches_to_fallback"], 1);
    assert_eq!(summary["recoveries"], 1);
    assert_eq!(summary["duplicates"], 4);
    assert_eq!(summary["dead_letters"], 4);
    assert_eq!(summary["rows_in"], rows.len());
    let sum: u64 = ["processed", "late", "dead_letters", "duplicates", "shed", "held"]
        .iter()
        .map(|k| summary[k].as_u64().expect("a count"))
        .sum();
    assert_eq!(sum, rows.len() as u64);
}

/// Given the same rows in a wide table with quality columns beside the tags, then outputs are those of the long file.
#[test]
fn qualities_beside_the_tags_equal_a_quality_column() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    let mut rows = plant();
    // Bad and uncertain ones among the good, with values that would be judged otherwise.
    for (i, row) in rows.iter_mut().enumerate().filter(|(_, row)| row.3 == 0) {
        row.3 = if i % 11 == 0 { 0x8000_0000 } else { u32::from(i % 7 == 0) << 30 };
    }
    write_csv(&at("long.csv"), &rows);
    let tags = ["p.a", "p.b", "p.c", "q"];
    let (mut csv, mut json) = ("ts,p.a,p.a_q,p.b,p.b_q,p.c,p.c_q,q,q_q\n".to_string(), String::new());
    for (ts, tag, value, quality) in &rows {
        let cell = |t: &&str| if t == tag { format!(",{value},{quality}") } else { ",,".into() };
        writeln!(csv, "{ts}{}", tags.iter().map(cell).collect::<String>()).expect("text");
        let value = if value.is_nan() { "null".into() } else { value.to_string() };
        writeln!(json, r#"{{"ts":{ts},"{tag}":{value},"{tag}_q":{quality}}}"#).expect("text");
    }
    std::fs::write(at("wide.csv"), csv).expect("written");
    std::fs::write(at("wide.jsonl"), json).expect("written");
    std::fs::write(at("long.toml"), files(true, "")).expect("written");
    std::fs::write(at("wide.toml"), files(false, "quality_suffix = \"_q\"")).expect("written");
    replay(&[&at("long.csv")], &at("long.toml"), &at("long"), &["--emit", "all"]);
    replay(&[&at("wide.csv")], &at("wide.toml"), &at("wide"), &["--emit", "all"]);
    assert_eq!(outputs(&at("long")), outputs(&at("wide")));
    std::fs::write(at("no-scheme.toml"), "[source.files]\nts_unit = \"ns\"\nquality_suffix = \"_q\"\n")
        .expect("written");
    let (data, config, out) = (at("wide.jsonl"), at("no-scheme.toml"), at("out"));
    let (_, message) =
        truegauge(&["replay", text(&data), "-c", text(&config), "--out", text(&out)]).expect_err("no scheme");
    assert!(message.contains("scheme"), "{message}");
}

/// Given one file per tag, then together they are the same log as one file in time order.
#[test]
fn one_file_per_tag_is_one_log() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    let mut rows = plant();
    rows.retain(|r| !r.2.is_nan());
    rows.sort_by_key(|r| r.0);
    rows.dedup_by(|a, b| a.0 == b.0 && a.1 == b.1);
    write_csv(&at("whole.csv"), &rows);
    let tags = ["p.a", "p.b", "p.c", "q"];
    let parts: Vec<PathBuf> = tags.iter().map(|t| at(&format!("part-{t}.csv"))).collect();
    for (tag, part) in tags.iter().zip(&parts) {
        let own: Vec<_> = rows.iter().filter(|r| r.1 == *tag).cloned().collect();
        write_csv(part, &own);
    }
    std::fs::write(at("c.toml"), files(true, "")).expect("written");
    replay(&[&at("whole.csv")], &at("c.toml"), &at("a"), &[]);
    replay(&parts.iter().map(PathBuf::as_path).collect::<Vec<_>>(), &at("c.toml"), &at("b"), &[]);
    assert_eq!(outputs(&at("a")), outputs(&at("b")));
}

/// Every mistake in a configuration stops the start, with exit code 2, the place and a way out.
#[test]
fn mistakes_in_a_configuration_are_explained() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("c.toml");
    std::fs::write(dir.path().join("tags.csv"), "tag,lo\na.x,1\na.y,2\n").expect("written");
    let rule = |detect: &str| format!("[[rule]]\nid = \"r\"\ntags = [\"*\"]\n{detect}\n");
    let group = |members: &str| {
        format!(
            "tags = \"tags.csv\"\n[[group]]\nid = \"g\"\nmembers = {members}\ntick = {{ period = \"1s\" }}\nmax_skew = \"1s\"\nvote.mid_value = {{ tolerance = {{ abs = 1.0 }} }}\n"
        )
    };
    let cases: Vec<(String, Vec<&str>)> = vec![
        ("rul = 1\n".into(), vec!["line 1", "rul", "did you mean `rule`?"]),
        (rule("detect.rang = { fail = [0, 1] }"), vec!["line 4", "rang", "did you mean `range`?"]),
        (rule("detect.range = { fial = [0, 1] }"), vec!["line 4", "fial", "did you mean `fail`?"]),
        (rule("detect.range = { fail = [2.0, 1.0] }"), vec!["line 4", "must not exceed"]),
        (rule("detect.range = { fail = [nan, 1.0] }"), vec!["line 4", "limits must be two numbers"]),
        (rule("detect.gap = { max = \"5 parsecs\" }"), vec!["line 4", "expected a duration", "5 parsecs"]),
        (rule("detect.range = { from_tags = { fail = [\"lo\", \"hi\"] } }"), vec!["names none"]),
        (group("[\"a.x\", \"a.z\"]"), vec!["line 4", "a.z", "did you mean `a.x`?"]),
        (group("[\"a.x\"]"), vec!["two members"]),
        (group("[\"a.x\", \"a.x\"]"), vec!["twice"]),
        ("[time]\nmax_delay = \"5s\"\ngrace = \"1s\"\n".into(), vec!["time.max_delay", "time.grace"]),
        ("tags = \"none.csv\"\n".into(), vec!["none.csv"]),
    ];
    for (config, wanted) in cases {
        std::fs::write(&path, &config).expect("written");
        let (code, message) = truegauge(&["check", "-c", text(&path)]).expect_err(&config);
        assert_eq!(code, 2, "{config}{message}");
        for word in wanted {
            assert!(message.contains(word), "no `{word}` in: {message}\nfor\n{config}");
        }
    }
}

/// Data that can't be read fails with exit code 1 and the file's name; nothing panics.
#[test]
fn unreadable_data_is_an_error_with_a_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    write_parquet(&at("data.parquet"), &plant());
    let whole = std::fs::read(at("data.parquet")).expect("read");
    std::fs::write(at("cut.parquet"), &whole[..whole.len() / 2]).expect("written");
    std::fs::write(at("empty.csv"), "").expect("written");
    std::fs::write(at("noise.xyz"), "1,2,3").expect("written");
    std::fs::write(at("c.toml"), files(true, "")).expect("written");
    std::fs::write(at("no-quality.toml"), "[source.files]\nquality = \"quality\"\nts_unit = \"ns\"\n")
        .expect("written");
    for data in ["cut.parquet", "missing.csv", "noise.xyz"] {
        let out = at("out");
        let error = truegauge(&["replay", text(&at(data)), "-c", text(&at("c.toml")), "--out", text(&out)]);
        let (code, message) = error.expect_err(data);
        assert_eq!(code, 1, "{message}");
        assert!(message.contains(data), "{message}");
    }
    let (data, config, out) = (at("data.parquet"), at("no-quality.toml"), at("out"));
    let arguments = ["replay", text(&data), "-c", text(&config), "--out", text(&out)];
    let (_, message) = truegauge(&arguments).expect_err("no scheme");
    assert!(message.contains("scheme"), "{message}");
}

/// Bad rows are dead letters with a reason, and their siblings flow.
#[test]
fn bad_rows_are_dead_letters() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    let csv =
        "ts,tag,value,quality\n1,a,1.0,0\nnever,a,2.0,0\n3,a,many,0\n4,a\n5,a,inf,0\n6,,1.0,0\n7,a,7.0,0\n";
    std::fs::write(at("data.csv"), csv).expect("written");
    std::fs::write(at("c.toml"), files(true, "")).expect("written");
    replay(&[&at("data.csv")], &at("c.toml"), &at("out"), &[]);
    let summary = json(&at("out/summary.json"));
    let dead = std::fs::read_to_string(at("out/dlq.jsonl")).expect("written");
    assert_eq!(summary["rows_in"], 7, "{dead}");
    assert_eq!(summary["dead_letters"].as_u64(), Some(dead.lines().count() as u64), "{dead}");
    for code in ["bad_timestamp", "wrong_type", "wrong_fields"] {
        assert!(dead.contains(code), "no {code} in {dead}");
    }
}

/// The committed examples run on the public data they were written for, where it is.
#[test]
fn examples_run_on_public_data() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let datasets = std::env::var("TRUEGAUGE_DATASETS").map_or(root.join("../shared/datasets"), PathBuf::from);
    let cases = [
        (
            "examples/nab-machine-temperature.toml",
            "nab/data/realKnownCause/machine_temperature_system_failure.csv",
            22_695,
        ),
        ("examples/skab.toml", "skab/valve1/1.csv", 9_160),
    ];
    for (config, data, rows) in cases {
        let data = datasets.join(data);
        if !data.exists() {
            use std::io::Write;
            writeln!(std::io::stderr(), "SKIPPED: examples_run_on_public_data: no {}", data.display())
                .expect("written");
            continue;
        }
        let dir = tempfile::tempdir().expect("a directory");
        replay(&[&data], &root.join(config), dir.path(), &[]);
        assert_eq!(json(&dir.path().join("summary.json"))["rows_in"], rows);
    }
}

/// Given one row, one tag and one rule, then what is told of them is singular; two are plural.
#[test]
fn one_of_a_kind_is_told_in_the_singular() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    let rule = "[source.files]\nts_unit = \"s\"\n[[rule]]\nid = \"r\"\ntags = [\"*\"]\ndetect.range = { fail = [0.0, 1.0] }\n";
    std::fs::write(at("c.toml"), rule).expect("written");
    let run = |command: &str, rows: &str, more: &[&str]| {
        std::fs::write(at("d.csv"), format!("ts,tag,value\n{rows}")).expect("written");
        let data = text(&at("d.csv")).to_owned();
        let line: Vec<&str> = match command {
            "check" => vec!["check", "--data", &data],
            _ => vec!["replay", &data],
        };
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_truegauge"))
            .args(line)
            .args(["-c", text(&at("c.toml"))])
            .args(more)
            .output()
            .expect("starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let out = at("out");
    let one = run("replay", "1,a,0.5\n", &["--out", text(&out)]);
    assert!(
        one.contains("1 row of 1 tag in ") && one.contains("0 switches to a fallback, 0 recoveries"),
        "{one}"
    );
    let two = run("replay", "1,a,0.5\n1,b,0.5\n", &["--out", text(&out)]);
    assert!(two.contains("2 rows of 2 tags in "), "{two}");
    let one = run("check", "1,a,0.5\n", &[]);
    for wanted in ["1 rule, 0 groups", "1 row, 1 tag, 0 dead letters", "1 tag, 1 sample judged"] {
        assert!(one.contains(wanted), "no `{wanted}` in\n{one}");
    }
}

/// Given a directory with an earlier run, then the next one replaces all of it and says so, and what else lies beside it stays;
/// given one with anything else, or with the input itself, then it is refused with exit code 2 and untouched.
#[test]
fn a_run_replaces_a_run_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("c.toml"), "[source.files]\nts_unit = \"s\"\n").expect("written");
    std::fs::write(at("d.csv"), "ts,tag,value\n1,a,1\n").expect("written");
    let run = |data: &Path, out: &Path| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_truegauge"))
            .args(["replay", text(data), "-c", text(&at("c.toml")), "--out", text(out)])
            .output()
            .expect("starts");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let out = at("out");
    assert_eq!(run(&at("d.csv"), &out), (Some(0), String::new()));
    std::fs::write(out.join("late.jsonl.partial"), "{}").expect("written");
    std::fs::write(out.join("notes.txt"), "mine").expect("written");
    let first = json(&out.join("summary.json"));
    std::fs::write(at("d.csv"), "ts,tag,value\n1,a,1\n2,a,2\n").expect("written");
    let (code, said) = run(&at("d.csv"), &out);
    assert!(code == Some(0) && said.contains("out held an earlier run, which this one replaces"), "{said}");
    assert_ne!(first["rows_in"], json(&out.join("summary.json"))["rows_in"]);
    assert!(out.join("notes.txt").exists() && !out.join("late.jsonl.partial").exists());

    std::fs::write(at("late.jsonl"), "{\"ts\":1,\"tag\":\"a\",\"value\":1}\n").expect("written");
    std::fs::copy(at("late.jsonl"), out.join("late.jsonl")).expect("written");
    let (code, said) = run(&out.join("late.jsonl"), &out);
    assert!(code == Some(2) && said.contains("would be replaced"), "{said}");
    assert_eq!(
        std::fs::read(out.join("late.jsonl")).expect("there"),
        std::fs::read(at("late.jsonl")).expect("there")
    );
    // Input that can't be read leaves the earlier run alone.
    let (code, said) = run(&at("missing.csv"), &out);
    assert!(code == Some(1) && out.join("summary.json").exists(), "{said}");

    // A run that fails on its way leaves nothing of the earlier one that could be taken for its own.
    #[cfg(unix)]
    {
        let line = "trap '' XFSZ; ulimit -f 0; exec \"$0\" replay \"$1\" -c \"$2\" --out \"$3\"";
        let output = std::process::Command::new("bash")
            .args(["-c", line, env!("CARGO_BIN_EXE_truegauge")])
            .args([at("d.csv"), at("c.toml"), out.clone()])
            .output()
            .expect("starts");
        assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(!out.join("summary.json").exists() && out.join("notes.txt").exists());
    }

    let home = at("home");
    std::fs::create_dir(&home).expect("made");
    std::fs::write(home.join("summary.json"), "{\"rows_in\":\"mine\"}").expect("written");
    std::fs::write(home.join("thesis.tex"), "mine").expect("written");
    let (code, said) = run(&at("d.csv"), &home);
    assert!(code == Some(2) && said.contains("`thesis.tex` is in it"), "{said}");
    assert_eq!(std::fs::read_dir(&home).expect("listed").count(), 2);
    // A run that did not come to its end left no summary.
    let torn = at("torn");
    std::fs::create_dir(&torn).expect("made");
    for left in ["dlq.jsonl.partial", "verdicts.parquet.sorting-0", "alerts.jsonl.sorting-1"] {
        std::fs::write(torn.join(left), "").expect("written");
    }
    let (code, said) = run(&at("d.csv"), &torn);
    assert!(code == Some(0) && torn.join("summary.json").exists(), "{said}");
    assert_eq!(std::fs::read_dir(&torn).expect("listed").count(), 7);
}

/// Given the folder that `simulate` wrote, then its replay is that of its data file, labels and catalogue left aside; given a
/// file there that no one announced, then the error names it and the way to leave it out.
#[test]
fn a_simulated_folder_is_replayed_as_it_stands() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    truegauge(&["simulate", "--rounds", "1", "--out", text(&at("plant"))]).expect("written");
    replay(&[&at("plant")], &at("plant/plant.toml"), &at("folder"), &[]);
    replay(&[&at("plant/data.csv")], &at("plant/plant.toml"), &at("file"), &[]);
    assert_eq!(outputs(&at("folder")), outputs(&at("file")));
    std::fs::write(at("plant/shifts.csv"), "start,end,who\n1,2,b\n").expect("written");
    let (plant, config, out) = (at("plant"), at("plant/plant.toml"), at("out"));
    let line = ["replay", text(&plant), "-c", text(&config), "--out", text(&out)];
    let (code, message) = truegauge(&line).expect_err("no data");
    assert_eq!(code, 1, "{message}");
    assert!(
        message.contains("shifts.csv: no column") && message.contains("`skip = [\"shifts.csv\"]`"),
        "{message}"
    );
}

/// Given bad rows of several kinds, then the summary counts them by code, a reader is shown the first of each, and so does `check`.
#[test]
fn dead_letters_are_told_by_code_with_the_first_of_each() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    let csv = "ts,tag,value\n1,a,1\n2,a,much\n3,a,more\nnever,a,1\n4,a,1\n4,a,2\n";
    std::fs::write(at("d.csv"), csv).expect("written");
    std::fs::write(at("c.toml"), "[source.files]\nts_unit = \"s\"\n").expect("written");
    let run = |line: &[&str]| {
        let output =
            std::process::Command::new(env!("CARGO_BIN_EXE_truegauge")).args(line).output().expect("starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let (data, config, out) = (at("d.csv"), at("c.toml"), at("out"));
    let shown = run(&["replay", text(&data), "-c", text(&config), "--out", text(&out)]);
    let checked = run(&["check", "-c", text(&config), "--data", text(&data)]);
    for told in [&shown, &checked] {
        for wanted in [
            "dead letters, wrong_type: 2, the first offset 1 of ",
            "bad_timestamp: 1",
            "conflict: 1, the first a at 4000000000: ",
        ] {
            assert!(told.contains(wanted), "no `{wanted}` in\n{told}");
        }
    }
    let json_line = run(&["replay", text(&data), "-c", text(&config), "--out", text(&out), "--json"]);
    let codes = serde_json::json!({ "bad_timestamp": 1, "conflict": 1, "wrong_type": 2 });
    let summary: serde_json::Value = serde_json::from_str(&json_line).expect("JSON");
    assert_eq!(summary["dead_letter_codes"], codes);
    assert_eq!(json(&out.join("summary.json"))["dead_letter_codes"], codes);
}

/// Given good, bad, missing and absent samples, then every verdict has the value it judged beside it, a missing one and a
/// deadline have none, and a group's verdict has its member's.
#[test]
fn verdicts_carry_the_value_that_was_judged() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    let config = r#"
[source.files]
ts_unit = "s"
[[rule]]
id = "gap"
tags = ["a"]
detect.gap = { max = "5s" }
[[rule]]
id = "range"
tags = ["a"]
detect.range = { fail = [0.0, 10.0] }
[[group]]
id = "g"
members = ["x", "y", "z"]
tick = { period = "1s" }
max_skew = "1s"
vote.mid_value = { tolerance = { abs = 1.0 } }
"#;
    let csv = "ts,tag,value\n1,a,1.5\n2,a,99.25\n3,a,\n4,a,inf\n20,a,2\n20,x,5\n20,y,5.5\n20,z,8\n22,x,5\n22,y,5\n22,z,5\n";
    std::fs::write(at("c.toml"), config).expect("written");
    std::fs::write(at("d.csv"), csv).expect("written");
    replay(&[&at("d.csv")], &at("c.toml"), &at("out"), &["--emit", "all"]);
    let told = rows(&at("out/verdicts.parquet"));
    let has = |ts: i64, rest: &str| {
        told.lines().any(|l| l.trim_end() == format!("{ts}000000000 {rest}").trim_end())
    };
    for (ts, rest) in [
        (1, "a range 1 0.0 1.5"),
        (2, "a range 4 1.0 99.25"),
        (3, "a range 9 0.0"),
        (9, "a gap 4 1.0"),
        (20, "z g 3 1.0 8.0"),
    ] {
        assert!(has(ts, rest), "no `{ts} {rest}` in\n{told}");
    }
}

/// Given more verdicts than are kept in memory, and a system that lets no file grow far, then the replay ends with exit code 1 and
/// the name of the file, and nothing unfinished is left; given room, then all verdicts are there in their order.
#[cfg(unix)]
#[test]
fn verdicts_that_do_not_fit_in_memory_are_sorted_in_a_file() {
    const TAGS: usize = 4;
    const SECONDS: usize = 60_000;
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    let mut csv = String::from("ts,tag,value\n");
    for s in 0..SECONDS {
        for tag in 0..TAGS {
            writeln!(csv, "{s},t{tag},{}", s % 7).expect("text");
        }
    }
    std::fs::write(at("d.csv"), csv).expect("written");
    let mut config = String::from("[source.files]\nts_unit = \"s\"\n");
    for rule in ["c", "b", "a"] {
        write!(config, "[[rule]]\nid = \"{rule}\"\ntags = [\"*\"]\ndetect.range = {{ fail = [0.0, 5.5] }}\n")
            .expect("text");
    }
    std::fs::write(at("c.toml"), config).expect("written");
    let output = std::process::Command::new("bash")
        .args(["-c", "trap '' XFSZ; ulimit -f 8192; exec \"$@\"", "bash", env!("CARGO_BIN_EXE_truegauge")])
        .args(["replay", text(&at("d.csv")), "-c", text(&at("c.toml")), "--out", text(&at("full"))])
        .args(["--emit", "all"])
        .output()
        .expect("starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("verdicts.parquet.sorting-0: ") && said.contains("os error"), "{said}");
    assert_eq!(std::fs::read_dir(at("full")).expect("listed").count(), 0);

    replay(&[&at("d.csv")], &at("c.toml"), &at("out"), &["--emit", "all"]);
    assert_eq!(std::fs::read_dir(at("out")).expect("listed").count(), 7);
    let verdicts = rows(&at("out/verdicts.parquet"));
    let mut lines = verdicts.lines();
    for s in 0..SECONDS {
        for tag in 0..TAGS {
            for rule in ["a", "b", "c"] {
                let line = lines.next().expect("a verdict");
                assert!(line.starts_with(&format!("{} t{tag} {rule} ", s * 1_000_000_000)), "{line}");
            }
        }
    }
    assert_eq!(lines.next(), None);
}
