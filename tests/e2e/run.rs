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

pub(crate) const RULES: &str = r#"
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
pub(crate) fn messages() -> Vec<(i32, String)> {
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

/// Given a member of a group, when it is to read until the end or to record, then it is refused: both need all partitions.
#[test]
fn a_member_of_a_group_has_neither_an_end_nor_a_recording() {
    let dir = tempfile::tempdir().expect("directory");
    let config = dir.path().join("c.toml");
    let kafka = "[source.kafka]\nbrokers = [\"localhost:1\"]\ntopics = [\"plant\"]\nassign = \"group\"\n";
    std::fs::write(&config, format!("{RULES}{kafka}")).expect("written");
    let (code, message) = live(&config, &[]).expect_err("refused");
    assert_eq!(code, 2);
    assert!(message.contains("--until-end needs assign"), "{message}");
    let recording = text(&dir.path().join("recording"));
    let line = ["run", "-c", &text(&config), "--record", &recording];
    let cli = Cli::try_parse_from(line).expect("arguments");
    let refused = stream(&cli.args).map(drop).expect_err("refused").to_string();
    assert!(refused.contains("--record needs assign"), "{refused}");
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

pub(crate) fn text(path: &Path) -> String {
    path.to_str().expect("temporary paths are text").to_owned()
}

/// Topics, broker, and a configuration that reads and writes them; `more` is added to it.
fn plant(dir: &Path, more: &str) -> (MockBroker, std::path::PathBuf) {
    let topics = [("plant", 2), ("alerts", 1), ("signals", 1), ("dlq", 1), ("late", 1)];
    let broker = MockBroker::start(&topics).expect("broker");
    let config = dir.join("c.toml");
    let kafka = format!(
        "[source.kafka]\nbrokers = {:?}\ntopics = [\"plant\"]\ndecode.json = {{ ts_unit = \"ns\" }}\n\
         [sink.kafka]\nalerts = \"alerts\"\nsignals = \"signals\"\ndead_letters = \"dlq\"\nlate = \"late\"\n",
        broker.brokers()
    );
    std::fs::write(&config, format!("{RULES}{kafka}{more}")).expect("written");
    (broker, config)
}

fn send(broker: &MockBroker, messages: &[(i32, String)]) {
    for (partition, message) in messages {
        broker.send("plant", *partition, b"key", message.as_bytes()).expect("sent");
    }
    broker.flush().expect("sent");
}

/// Payloads of a topic, sorted, each once.
pub(crate) fn payloads(brokers: &[String], topic: &str) -> BTreeSet<String> {
    raw(brokers, topic).iter().map(|m| String::from_utf8_lossy(&m.raw).into_owned()).collect()
}

/// Given a stream that is recorded, when the recording is replayed with its journal, then alerts are the same bytes, and the
/// counts of everything are equal.
#[test]
fn a_recording_replays_to_the_byte() {
    let dir = tempfile::tempdir().expect("directory");
    let (broker, config) = plant(dir.path(), "[run]\nstate_dir = \"state\"\nclock = \"rows\"\n");
    send(&broker, &messages());
    let recording = dir.path().join("rec");
    let live = live(&config, &["--record", &text(&recording)]).expect("runs");
    let out = dir.path().join("out");
    let journal = recording.join("journal.jsonl");
    for rows in ["1", "7", "65536"] {
        truegauge(&[
            "replay",
            &text(&recording),
            "-c",
            &text(&config),
            "-o",
            &text(&out),
            "--journal",
            &text(&journal),
            "--batch-rows",
            rows,
        ])
        .expect("replays");
        let lines = std::fs::read_to_string(out.join("alerts.jsonl")).expect("written");
        let lines: BTreeSet<String> = lines.lines().map(str::to_owned).collect();
        assert_eq!(payloads(&broker.brokers(), "alerts"), lines);
        let late = std::fs::read_to_string(out.join("late.jsonl")).expect("written");
        assert_eq!(payloads(&broker.brokers(), "late"), late.lines().map(str::to_owned).collect());
        let summary: serde_json::Value =
            serde_json::from_slice(&std::fs::read(out.join("summary.json")).expect("written")).expect("JSON");
        let same = serde_json::to_value(&live).expect("JSON");
        for key in [
            "rows_in",
            "processed",
            "late",
            "dead_letters",
            "dead_letter_codes",
            "duplicates",
            "partitions",
            "tags",
            "flags",
        ] {
            assert_eq!(summary[key], same[key], "{key}");
        }
        let dead = std::fs::read_to_string(out.join("dlq.jsonl")).expect("written");
        assert!(dead.contains("{\\\"ts\\\": 17") && dead.contains("\"offset\":90"), "{dead}");
    }
    assert_eq!(
        std::fs::read(&journal).expect("written"),
        std::fs::read(out.join("journal.jsonl")).expect("written")
    );
    let again =
        truegauge(&["replay", &text(&config), "-c", &text(&config), "-o", &text(&out), "--journal", "x"]);
    assert_eq!(again.expect_err("no such file").0, 1);
}

/// Given a stream that is interrupted, when it is started again with more rows, then it goes on where it stopped: no row twice, and
/// all events are those of one replay over everything.
#[cfg(unix)]
#[test]
fn a_restart_goes_on_where_it_stopped() {
    use std::process::{Command, Stdio};
    let dir = tempfile::tempdir().expect("directory");
    let (broker, config) = plant(dir.path(), "[run]\nstate_dir = \"state\"\nclock = \"rows\"\n");
    let all = messages();
    let (first, second) = all.split_at(all.len() / 2);
    send(&broker, first);
    let run = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_truegauge"));
        command.args(["run", "--json", "-c"]).arg(&config).args(more);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts")
    };
    let child = run(&[]);
    // The first checkpoint comes with the interrupt; wait for the first rows to be judged.
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while payloads(&broker.brokers(), "alerts").len() < 2 {
        assert!(std::time::Instant::now() < until, "nothing was judged");
    }
    let other = live(&config, &[]).expect_err("the state is in use");
    assert!(other.1.contains("another process"), "{}", other.1);
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupt.expect("sent").success());
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let before: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(before["interrupted"], true);
    assert!(dir.path().join("state/plant-0/checkpoint").is_file());

    send(&broker, second);
    let output = run(&["--until-end"]).wait_with_output().expect("ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("plant-0 goes on at offset"), "{said}");
    let after: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&after["rows_in"], &after["held"]), (&serde_json::json!(123), &serde_json::json!(0)));

    let (data, out) = (dir.path().join("data.jsonl"), dir.path().join("out"));
    let rows: Vec<&str> = all.iter().map(|(_, m)| m.as_str()).collect();
    std::fs::write(&data, rows.join("\n")).expect("written");
    truegauge(&["replay", &text(&data), "-c", &text(&config), "-o", &text(&out)]).expect("replays");
    let replayed = std::fs::read_to_string(out.join("alerts.jsonl")).expect("written");
    assert_eq!(payloads(&broker.brokers(), "alerts"), replayed.lines().map(str::to_owned).collect());
}

/// Given a live stream whose sensor falls silent, then the clock finds it without another row; the journal has the tick, and a
/// replay of the recording with it says the same.
#[cfg(unix)]
#[test]
fn silence_is_found_by_the_clock() {
    use std::process::{Command, Stdio};
    let dir = tempfile::tempdir().expect("directory");
    let gap = "[time]\nskew = \"500ms\"\n[[rule]]\nid = \"gap\"\ntags = [\"*\"]\ndetect.gap = { max = \"1s\" }\nalert = {}\n";
    let (broker, config) = plant(dir.path(), gap);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    send(&broker, &[(1, format!("{{\"ts\":{},\"tag\":\"t\",\"value\":1}}", now.as_nanos()))]);
    let recording = dir.path().join("rec");
    let child = Command::new(env!("CARGO_BIN_EXE_truegauge"))
        .args(["run", "--json", "-c", &text(&config), "--record", &text(&recording)])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let until = std::time::Instant::now() + Duration::from_secs(20);
    // Operational events are outside what a replay repeats: tags that are never seen are told when the machine is slow.
    let told = || -> BTreeSet<String> {
        let all = payloads(&broker.brokers(), "alerts");
        all.into_iter().filter(|event| !event.contains("\"event\":\"operational\"")).collect()
    };
    while told().is_empty() {
        assert!(std::time::Instant::now() < until, "the silence was not found");
    }
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupt.expect("sent").success());
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let out = dir.path().join("out");
    let journal = text(&recording.join("journal.jsonl"));
    assert!(std::fs::read_to_string(&journal).expect("written").contains("clock_tick"));
    let replay = ["replay", &text(&recording), "-c", &text(&config), "-o", &text(&out)];
    truegauge(&[&replay[..], &["--journal", &journal]].concat()).expect("replays");
    let replayed = std::fs::read_to_string(out.join("alerts.jsonl")).expect("written");
    assert_eq!(told(), replayed.lines().map(str::to_owned).collect());
    truegauge(&replay).expect("replays");
    let without = std::fs::read_to_string(out.join("alerts.jsonl")).expect("written");
    assert_eq!(without, "", "without the journal there is no silence to find");
}

/// Given a running stream with listeners, when a signal is held through its socket, then it is out of service, the metrics and
/// the journal say so, and a replay with the journal says the same; released, it comes back.
#[cfg(unix)]
#[test]
fn a_signal_is_held_and_released() {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::process::{Command, Stdio};
    let dir = tempfile::tempdir().expect("directory");
    let more = "[run]\nstate_dir = \"s\"\nclock = \"rows\"\n[server]\nmetrics = \"127.0.0.1:0\"\n";
    let (broker, config) = plant(dir.path(), more);
    let rows: Vec<_> = messages().into_iter().filter(|(p, m)| *p == 0 && m != BROKEN).collect();
    send(&broker, &rows[..30]);
    let recording = dir.path().join("rec");
    let mut child = Command::new(env!("CARGO_BIN_EXE_truegauge"))
        .args(["run", "--json", "-c", &text(&config), "--record", &text(&recording)])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let mut started = String::new();
    let address = loop {
        let line = lines.next().expect("more lines").expect("text");
        if line.contains("reading ") {
            started.clone_from(&line);
        }
        if let Some((_, rest)) = line.split_once("metrics on http://") {
            break rest.trim_end_matches("/metrics").to_owned();
        }
    };
    // What a person sees first: what is read, where outputs go, what is kept, where commands are taken.
    let broker_name = broker.brokers().join(", ");
    for wanted in [
        format!(
            "reading plant (2 partitions) from {broker_name}; writing alerts to alerts, signals to signals"
        ),
        format!("; state in {}", text(&dir.path().join("s"))),
        format!("; recording in {}", text(&recording)),
        "; commands in ".into(),
    ] {
        assert!(started.contains(&wanted), "no `{wanted}` in {started}");
    }
    let metrics = || {
        let mut stream = std::net::TcpStream::connect(&address).expect("listens");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("answered");
        text
    };
    let wait_for = |what: &str| {
        let until = std::time::Instant::now() + Duration::from_secs(20);
        loop {
            let text = metrics();
            if text.contains(what) {
                return text;
            }
            assert!(std::time::Instant::now() < until, "{what} is not in\n{text}");
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    wait_for("truegauge_signal_state{partition=\"plant-0\",signal=\"p\",state=\"normal\"} 1");
    let text_now = metrics();
    let version = format!("truegauge_build_info{{version=\"{}\"}} 1\n", env!("CARGO_PKG_VERSION"));
    assert!(text_now.contains(&version), "{text_now}");
    assert!(
        text_now.contains("truegauge_alerts_firing{partition=\"plant-0\",rule=\"range\",severity="),
        "{text_now}"
    );
    let (code, unknown) = truegauge(&["hold", "q", "-c", &text(&config)]).expect_err("no such signal");
    assert!(code == 1 && unknown.contains("no signal `q`"), "{unknown}");
    truegauge(&["hold", "p", "-c", &text(&config)]).expect("held");
    send(&broker, &rows[30..60]);
    let text_now = wait_for("state=\"held\"} 1");
    assert!(text_now.contains("truegauge_rows_total{partition=\"plant-0\",fate=\"in\"}"), "{text_now}");
    truegauge(&["release", "p", "-c", &text(&config)]).expect("released");
    truegauge(&["rebaseline", "range", "p.a", "-c", &text(&config)]).expect("learns anew");
    send(&broker, &rows[60..]);
    wait_for("truegauge_next_offset{partition=\"plant-0\"} 90");
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupt.expect("sent").success());
    assert!(child.wait().expect("ends").success());
    let journal = recording.join("journal.jsonl");
    let written = std::fs::read_to_string(&journal).expect("written");
    assert_eq!(written.lines().count(), 3, "{written}");
    let out = dir.path().join("out");
    let replay =
        ["replay", &text(&recording), "-c", &text(&config), "-o", &text(&out), "--journal", &text(&journal)];
    truegauge(&replay).expect("replays");
    let replayed = std::fs::read_to_string(out.join("alerts.jsonl")).expect("written");
    let replayed: BTreeSet<String> = replayed.lines().map(str::to_owned).collect();
    let live = payloads(&broker.brokers(), "alerts");
    assert!(live.is_subset(&replayed), "{live:#?}");
    assert!(live.iter().any(|e| e.contains("held by command") && e.contains("\"command\":1")), "{live:#?}");
    let (_, gone) = truegauge(&["hold", "p", "-c", &text(&config)]).expect_err("it has ended");
    assert!(gone.contains("control.sock"), "{gone}");
}

/// Given records of which only some have a quality, then each means the same whether it comes in a batch with the others
/// or alone.
#[test]
fn a_quality_beside_rows_without_one_changes_nothing() {
    let dir = tempfile::tempdir().expect("directory");
    let (broker, config) = plant(dir.path(), "[quality]\nscheme = \"opcua\"\n[run]\nclock = \"rows\"\n");
    let rows: Vec<_> = messages().into_iter().filter(|(_, m)| m != BROKEN).collect();
    let mixed: Vec<_> = rows
        .iter()
        .enumerate()
        .map(|(i, (p, m))| (*p, if i % 3 == 0 { m.replace('}', ",\"quality\":0}") } else { m.clone() }))
        .collect();
    send(&broker, &mixed);
    let together = live(&config, &[]).expect("runs");
    let text = std::fs::read_to_string(&config).expect("written");
    std::fs::write(&config, text.replace("[sink.kafka]", "batch_rows = 1\n[sink.kafka]")).expect("written");
    let alone = live(&config, &[]).expect("runs");
    let flags = |s: &Summary| serde_json::to_value(&s.flags).expect("JSON");
    assert_eq!(flags(&together), flags(&alone));
    assert_eq!(together.flags["range"].missing, 0);
    assert_eq!((together.processed, together.alerts_fired), (120, 1));
}

/// Given an output whose topic is not there, then the start says its key and its name, and of no other.
#[test]
fn an_output_without_its_topic_is_told_at_start() {
    let broker = MockBroker::start(&[("plant", 1), ("alerts", 1)]).expect("broker");
    let dir = tempfile::tempdir().expect("directory");
    let config = dir.path().join("c.toml");
    let kafka = format!(
        "[source.kafka]\nbrokers = {:?}\ntopics = [\"plant\"]\n[sink.kafka]\nalerts = \"alerts\"\nlate = \"elsewhere\"\n",
        broker.brokers()
    );
    std::fs::write(&config, format!("{RULES}{kafka}")).expect("written");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_truegauge"))
        .args(["run", "--until-end", "-c"])
        .arg(&config)
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("[sink.kafka] late: the brokers have no topic `elsewhere`"), "{said}");
    assert_eq!(said.matches("no topic").count(), 1, "{said}");
}

/// Given an output that goes to a topic that is read, by the file or by `--topic`, then it is refused with exit code 2, file and line;
/// other brokers may have a topic of that name.
#[test]
fn a_stream_that_would_read_its_own_outputs_is_refused() {
    let dir = tempfile::tempdir().expect("directory");
    let config = dir.path().join("c.toml");
    let check = |topics: &str, own: &str| {
        let kafka = format!(
            "[source.kafka]\nbrokers = [\"one:1\"]\ntopics = [{topics}]\n[sink.kafka]\n{own}alerts = \"alerts\"\nlate = 'late'\n"
        );
        std::fs::write(&config, format!("{RULES}{kafka}")).expect("written");
        truegauge(&["check", "-c", &text(&config)])
    };
    let (code, said) = check("\"plant\", \"late\"", "").expect_err("refused");
    let line = RULES.lines().count() + 6;
    let wanted = format!("c.toml: line {line}: [sink.kafka] late goes to `late`, which [source.kafka] reads");
    assert!(code == 2 && said.contains(&wanted), "{said}");
    check("\"plant\", \"late\"", "brokers = [\"two:1\"]\n").expect("two clusters");
    check("\"plant\"", "").expect("other topics");
    let (code, said) = live(&config, &["--topic", "plant,alerts"]).expect_err("refused");
    assert!(code == 2 && said.contains("c.toml: [sink.kafka] alerts goes to `alerts`"), "{said}");
}
