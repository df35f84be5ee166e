//! `truegauge run` against a broker inside the process, and the same rows replayed.

use crate::replay::truegauge;
use clap::Parser;
use connectors::source::kafka::mock::MockBroker;
use connectors::source::kafka::{KafkaConfig, KafkaSource, Offsets};
use connectors::{BadRecord, Source};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;
use truegauge::cmd::run::{Args, stream};
use truegauge::run_dir::Summary;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

const RULES: &str = r#"
[source.files]
ts_unit = "ns"

[[rule]]
id = "range"
tags = ["*"]
detect.range = { fail = [0.0, 10.0] }
alert = { on = "fail" }

[[group]]
id = "p"
members = ["p.a", "p.b", "p.c"]
tick = { period = "1s" }
max_skew = "3s"
vote.mid_value = { tolerance = { abs = 0.2 } }
fallback = [{ hold = { max_horizon = "10m" } }]
confirm = 3
"#;

const BROKEN: &str = "{\"ts\": 17";

/// (partition, message): three redundant tags on partition 0, a single one with a fault on partition 1.
fn messages() -> Vec<(i32, String)> {
    let row = |s: i64, tag: &str, value: f64| {
        format!("{{\"ts\":{},\"tag\":\"{tag}\",\"value\":{value:?}}}", (1_700_000_000 + s) * 1_000_000_000)
    };
    let mut all = Vec::new();
    for s in 0..30 {
        for tag in ["p.a", "p.b", "p.c"] {
            let off = if tag == "p.c" && s >= 15 { 2.0 } else { 0.0 };
            all.push((0, row(s, tag, 5.0 + off)));
        }
        let fault = (10..13).contains(&s);
        all.push((1, row(s, "t", if fault { 99.0 } else { 4.0 })));
    }
    all.push((0, BROKEN.into()));
    all.push((1, row(3, "t", 4.5)));
    all.push((1, row(29, "t", 4.0)));
    all
}

fn live(config: &Path, extra: &[&str]) -> Result<Summary, (u8, String)> {
    let config = config.to_str().expect("temporary paths are text");
    let line = ["run", "-c", config, "--until-end", "--json"];
    let cli = Cli::try_parse_from(line.iter().chain(extra)).expect("arguments");
    stream(&cli.args).map_err(|e| (e.code(), e.to_string()))
}

/// All messages of a topic: a mapping that fits nothing hands them back as they came, with their headers.
fn raw(brokers: &[String], topic: &str) -> Vec<BadRecord> {
    let text = format!("brokers = {brokers:?}\ntopics = [{topic:?}]\ndecode.json = {{ ts = \"nothing\" }}");
    let config: KafkaConfig = toml::from_str(&text).expect("configuration");
    let mut source = KafkaSource::open(&config, &Offsets::new(), true).expect("topic");
    let mut all = Vec::new();
    while let Some(polled) = source.poll(Duration::from_secs(1)).expect("readable") {
        all.extend(polled.bad);
    }
    all
}

fn ids<'a>(lines: impl Iterator<Item = &'a [u8]>) -> BTreeSet<String> {
    let id = |line| {
        let event: serde_json::Value = serde_json::from_slice(line).expect("JSON");
        event["id"].as_str().expect("an id").to_owned()
    };
    lines.map(id).collect()
}

#[test]
fn stream_is_judged_and_equals_its_replay() {
    let topics = [("plant", 2), ("alerts", 1), ("signals", 1), ("dlq", 1), ("late", 1)];
    let broker = MockBroker::start(&topics).expect("broker");
    let mut jsonl = String::new();
    for (partition, message) in messages() {
        broker.send("plant", partition, b"key", message.as_bytes()).expect("sent");
        writeln!(jsonl, "{message}").expect("a string");
    }
    broker.flush().expect("sent");
    let dir = tempfile::tempdir().expect("directory");
    let (config, data, out) =
        (dir.path().join("c.toml"), dir.path().join("data.jsonl"), dir.path().join("out"));
    let kafka = format!(
        "[source.kafka]\nbrokers = {:?}\ntopics = [\"plant\"]\ndecode.json = {{ ts_unit = \"ns\" }}\n\
         [sink.kafka]\nalerts = \"alerts\"\nsignals = \"signals\"\ndead_letters = \"dlq\"\nlate = \"late\"\n",
        broker.brokers()
    );
    std::fs::write(&config, format!("{RULES}{kafka}")).expect("written");
    std::fs::write(&data, jsonl).expect("written");

    let s = live(&config, &[]).expect("runs");
    assert_eq!((s.rows_in, s.late, s.dead_letters, s.duplicates, s.held), (123, 1, 1, 1, 0));
    assert_eq!(s.processed, 120);
    assert_eq!((s.partitions, s.tags, s.alerts_fired), (2, 4, 1));

    let alerts = raw(&broker.brokers(), "alerts");
    let firing = |e: &&BadRecord| {
        let event: serde_json::Value = serde_json::from_slice(&e.raw).expect("JSON");
        event["transition"] == "firing" && event["target"] == "t"
    };
    assert_eq!(alerts.iter().filter(firing).count(), 1);
    let dlq = raw(&broker.brokers(), "dlq");
    assert_eq!(dlq.len(), 1);
    assert_eq!(dlq[0].raw, BROKEN.as_bytes());
    let header = |name: &str| dlq[0].headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_slice());
    assert!(header("code").is_some_and(|code| !code.is_empty()));
    assert_eq!((header("topic"), header("partition")), (Some(&b"plant"[..]), Some(&b"0"[..])));
    assert_eq!(header("offset"), Some(&b"90"[..]));
    assert_eq!(raw(&broker.brokers(), "late").len(), 1);
    let signals = raw(&broker.brokers(), "signals");
    let text = |p: &Path| p.to_str().expect("temporary paths are text").to_owned();
    truegauge(&["replay", &text(&data), "-c", &text(&config), "-o", &text(&out)]).expect("replays");
    let table = std::fs::File::open(out.join("signals.parquet")).expect("written");
    let table =
        parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(table).expect("Parquet");
    let shown: Vec<_> = signals.iter().map(|v| String::from_utf8_lossy(&v.raw)).collect();
    assert_eq!(signals.len() as i64, table.metadata().file_metadata().num_rows(), "{shown:#?}");
    let replayed = std::fs::read_to_string(out.join("alerts.jsonl")).expect("written");
    let replayed = ids(replayed.lines().map(str::as_bytes));
    assert!(replayed.len() >= 2);
    assert_eq!(ids(alerts.iter().map(|e| e.raw.as_slice())), replayed);
}

/// Given a topic that holds nothing but records that can't be decoded, then each is counted and handed on.
#[test]
fn only_bad_records_are_counted_and_handed_on() {
    let broker = MockBroker::start(&[("plant", 1), ("dlq", 1)]).expect("broker");
    for _ in 0..3 {
        broker.send("plant", 0, b"key", BROKEN.as_bytes()).expect("sent");
    }
    broker.flush().expect("sent");
    let dir = tempfile::tempdir().expect("directory");
    let config = dir.path().join("c.toml");
    let kafka = format!(
        "[source.kafka]\nbrokers = {:?}\ntopics = [\"plant\"]\n[sink.kafka]\ndead_letters = \"dlq\"\n",
        broker.brokers()
    );
    std::fs::write(&config, format!("{RULES}{kafka}")).expect("written");
    let s = live(&config, &[]).expect("runs");
    assert_eq!((s.rows_in, s.dead_letters, s.processed), (3, 3, 0));
    let dead = raw(&broker.brokers(), "dlq");
    assert_eq!(dead.iter().filter(|b| b.raw == BROKEN.as_bytes()).count(), 3);
}

#[test]
fn group_assignment_has_no_end() {
    let dir = tempfile::tempdir().expect("directory");
    let config = dir.path().join("c.toml");
    let kafka = "[source.kafka]\nbrokers = [\"localhost:1\"]\ntopics = [\"plant\"]\nassign = \"group\"\n";
    std::fs::write(&config, format!("{RULES}{kafka}")).expect("written");
    let (code, message) = live(&config, &[]).expect_err("refused");
    assert_eq!(code, 2);
    assert!(message.contains("--until-end needs assign"), "{message}");
}

#[cfg(unix)]
#[test]
fn lines_without_a_sink_until_interrupted() {
    use std::io::{BufRead, BufReader, Read};
    use std::process::{Command, Stdio};
    let broker = MockBroker::start(&[("plant", 2)]).expect("broker");
    for (partition, message) in messages() {
        broker.send("plant", partition, b"key", message.as_bytes()).expect("sent");
    }
    broker.flush().expect("sent");
    let dir = tempfile::tempdir().expect("directory");
    let config = dir.path().join("c.toml");
    let kafka = "[source.kafka]\nbrokers = [\"localhost:1\"]\ntopics = [\"other\"]\ndecode.json = { ts_unit = \"ns\" }\n";
    std::fs::write(&config, format!("{RULES}{kafka}")).expect("written");
    let mut child = Command::new(env!("CARGO_BIN_EXE_truegauge"))
        .args(["run", "--topic", "plant", "--brokers", &broker.brokers().join(","), "-c"])
        .arg(&config)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut kinds = BTreeSet::new();
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    while kinds.len() < 4 {
        let line = lines.next().expect("more lines").expect("text");
        let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        kinds.insert(line["kind"].as_str().expect("a kind").to_owned());
    }
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupt.expect("sent").success());
    lines.for_each(drop);
    assert!(child.wait().expect("ends").success());
    let mut summary = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut summary).expect("text");
    assert!(summary.contains(" rows of 4 tags"), "{summary}");
}
