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

    for strategy in ["range", "cooperative-sticky"] {
        state_follows_its_partition(&broker, dir.path(), strategy);
    }
}

/// Given two members of a consumer group that share a state directory, when the second joins, and the first is killed, then what
/// arrived is what one replay of all rows says: a partition's state follows it, whichever protocol the group speaks.
fn state_follows_its_partition(broker: &Broker, dir: &Path, strategy: &str) {
    let topic = |name: &str| format!("{strategy}-{name}");
    let topics = [topic("plant") + ":2", topic("alerts") + ":1"];
    kafka(&["topics", &text(&broker.dir), &topics[0], &topics[1]]).expect("made");
    let write = |name: &str, assign: &str| {
        let config = dir.join(format!("{strategy}-{name}.toml"));
        let sections = format!(
            "[source.kafka]\nbrokers = {:?}\ntopics = [{:?}]\nassign = {assign:?}\ngroup = {strategy:?}\n\
             decode.json = {{ ts_unit = \"ns\" }}\n\
             properties = {{ \"partition.assignment.strategy\" = {strategy:?}, \"session.timeout.ms\" = \"6000\", \
             \"heartbeat.interval.ms\" = \"500\" }}\n\
             [sink.kafka]\nalerts = {:?}\n\
             [run]\nstate_dir = \"{strategy}-state\"\ncheckpoint_every = \"300ms\"\nclock = \"rows\"\n\
             [server]\ncontrol = \"{strategy}-{name}.sock\"\n",
            broker.brokers(),
            topic("plant"),
            topic("alerts"),
        );
        std::fs::write(&config, format!("{RULES}{sections}")).expect("written");
        config
    };
    let settings = KafkaSinkConfig { alerts: Some(topic("plant")), ..KafkaSinkConfig::default() };
    let sink = KafkaSink::open(&settings, &broker.brokers()).expect("settings");
    let all = messages();
    let start = |name: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_truegauge"));
        let log = std::fs::File::create(dir.join(format!("{strategy}-{name}.log"))).expect("made");
        command.args(["run", "--json", "-c"]).arg(write(name, "group")).stderr(log);
        command.stdout(Stdio::null()).spawn().expect("starts")
    };
    let said = |name: &str, what: &str, times: usize| {
        let until = Instant::now() + Duration::from_secs(60);
        let log = dir.join(format!("{strategy}-{name}.log"));
        loop {
            let text = std::fs::read_to_string(&log).expect("log");
            if text.matches(what).count() >= times {
                return;
            }
            assert!(
                Instant::now() < until,
                "{strategy}: `{name}` never said {what:?} {times} times:\n{text}"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    send(&sink, &all[..1]);
    let mut first = start("first");
    said("first", "begins at offset", 2);
    send(&sink, &all[1..50]);
    std::thread::sleep(Duration::from_millis(500));
    let second = start("second");
    said("first", "was given back to its group at offset", 1);
    said("second", "goes on at offset", 1);
    send(&sink, &all[50..80]);
    std::thread::sleep(Duration::from_secs(1));
    first.kill().expect("killed");
    first.wait().expect("gone");
    send(&sink, &all[80..100]);
    said("second", "goes on at offset", 2);
    std::thread::sleep(Duration::from_secs(1));
    let interrupt = Command::new("kill").args(["-INT", &second.id().to_string()]).status();
    assert!(interrupt.expect("sent").success());
    let output = second.wait_with_output().expect("ends");
    assert!(
        output.status.success(),
        "{}",
        std::fs::read_to_string(dir.join("second.log")).unwrap_or_default()
    );
    // Alone, without a group, on the same state.
    send(&sink, &all[100..]);
    let output = run(&write("last", "all"), &["--until-end"]).wait_with_output().expect("ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&summary["rows_in"], &summary["dead_letters"]), (&123.into(), &1.into()), "{strategy}");
    let replayed = std::fs::read_to_string(dir.join("out").join("alerts.jsonl")).expect("written");
    let replayed: std::collections::BTreeSet<String> = replayed.lines().map(str::to_owned).collect();
    assert_eq!(payloads(&broker.brokers(), &topic("alerts")), replayed, "{strategy}");
}
