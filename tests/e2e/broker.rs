//! `truegauge run` against a real Apache Kafka broker, with crashes of both.

use crate::replay::truegauge;
use crate::run::{RULES, messages, payloads, text};
use connectors::sink::kafka::{KafkaSink, KafkaSinkConfig, Offer, TopicKind};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A broker of `scripts/kafka`.
struct Broker {
    dir: PathBuf,
    address: String,
}

fn kafka(arguments: &[&str]) -> Result<String, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/kafka");
    let output = Command::new(script).args(arguments).output().expect("the script runs");
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    match output.status.code() {
        Some(0) => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        Some(77) => Err(said),
        _ => panic!("scripts/kafka {arguments:?}: {said}"),
    }
}

impl Broker {
    fn start(dir: &Path) -> Result<Self, String> {
        let dir = dir.join("broker");
        let address = kafka(&["start", &text(&dir)])?;
        Ok(Broker { dir, address })
    }

    fn brokers(&self) -> Vec<String> {
        vec![self.address.clone()]
    }

    fn crash_and_come_back(&self) {
        kafka(&["kill", &text(&self.dir)]).expect("killed");
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(kafka(&["start", &text(&self.dir)]).expect("starts"), self.address);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = kafka(&["stop", &text(&self.dir)]);
    }
}

fn send(sink: &KafkaSink, messages: &[(i32, String)]) {
    for (partition, message) in messages {
        // A key a component: the broker's partitions are told by keys.
        let key = if *partition == 0 { "p" } else { "t" };
        let offer = sink.offer(0, TopicKind::Alerts, key.as_bytes(), message.as_bytes(), &[]);
        assert_eq!(offer.expect("sent"), Offer::Queued);
    }
    let until = Instant::now() + Duration::from_secs(60);
    while sink.pending() > 0 {
        assert!(Instant::now() < until, "the broker does not take the rows");
        sink.deliveries(Duration::from_millis(100));
    }
}

fn run(config: &Path, more: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_truegauge"));
    command.args(["run", "--json", "-c"]).arg(config).args(more);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts")
}

/// Given a real broker, when the stream is killed, the broker is killed, and both come back, then what arrived is what one
/// replay of all rows says: nothing is lost, and nothing is different.
#[test]
fn crashes_of_stream_and_broker_lose_nothing() {
    let dir = tempfile::tempdir().expect("directory");
    let broker = match Broker::start(dir.path()) {
        Ok(broker) => broker,
        Err(why) => {
            let name = "crashes_of_stream_and_broker_lose_nothing";
            writeln!(std::io::stderr(), "SKIPPED: {name}: {why}").expect("written");
            return;
        }
    };
    let folder = text(&broker.dir);
    kafka(&["topics", &folder, "plant:2", "alerts:1", "signals:1", "dlq:1", "late:1"]).expect("made");
    let config = dir.path().join("c.toml");
    let sections = format!(
        "[source.kafka]\nbrokers = {:?}\ntopics = [\"plant\"]\ndecode.json = {{ ts_unit = \"ns\" }}\n\
         [sink.kafka]\nalerts = \"alerts\"\nsignals = \"signals\"\ndead_letters = \"dlq\"\nlate = \"late\"\n\
         [run]\nstate_dir = \"state\"\ncheckpoint_every = \"300ms\"\nclock = \"rows\"\n",
        broker.brokers()
    );
    std::fs::write(&config, format!("{RULES}{sections}")).expect("written");
    let settings = KafkaSinkConfig { alerts: Some("plant".into()), ..KafkaSinkConfig::default() };
    let sink = KafkaSink::open(&settings, &broker.brokers()).expect("settings");
    let all = messages();

    // Killed in the middle, at whatever it was doing.
    let mut child = run(&config, &[]);
    for part in all[..60].chunks(20) {
        send(&sink, part);
        std::thread::sleep(Duration::from_millis(400));
    }
    child.kill().expect("killed");
    child.wait().expect("gone");

    // The broker goes away under it and comes back.
    let child = run(&config, &[]);
    send(&sink, &all[60..80]);
    broker.crash_and_come_back();
    send(&sink, &all[80..100]);
    let until = Instant::now() + Duration::from_secs(60);
    while payloads(&broker.brokers(), "alerts").len() < 2 {
        assert!(Instant::now() < until, "nothing comes out any more");
        std::thread::sleep(Duration::from_millis(200));
    }
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupt.expect("sent").success());
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    send(&sink, &all[100..]);
    let output = run(&config, &["--until-end"]).wait_with_output().expect("ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&summary["rows_in"], &summary["dead_letters"]), (&123.into(), &1.into()));

    let (data, out) = (dir.path().join("data.jsonl"), dir.path().join("out"));
    let rows: Vec<&str> = all.iter().map(|(_, m)| m.as_str()).collect();
    std::fs::write(&data, rows.join("\n")).expect("written");
    truegauge(&["replay", &text(&data), "-c", &text(&config), "-o", &text(&out)]).expect("replays");
    let replayed = std::fs::read_to_string(out.join("alerts.jsonl")).expect("written");
    assert_eq!(payloads(&broker.brokers(), "alerts"), replayed.lines().map(str::to_owned).collect());
    assert_eq!(payloads(&broker.brokers(), "dlq").len(), 1);
    assert_eq!(payloads(&broker.brokers(), "late").len(), 1);
}
