//! Input that no one would send on purpose: what is bad is named and counted, and the rest is judged.

use crate::replay::truegauge;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const RULE: &str = r#"
[source.files]
ts_unit = "s"
[[rule]]
id = "range"
tags = ["known*"]
detect.range = { fail = [0.0, 10.0] }
alert = { on = "fail" }
"#;

struct Place(tempfile::TempDir);

impl Place {
    fn new(config: &str, data: &str) -> Self {
        let place = Place(tempfile::tempdir().expect("a directory"));
        std::fs::write(place.at("c.toml"), config).expect("written");
        std::fs::write(place.at("data.csv"), data).expect("written");
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn replay(&self, data: &str) -> Result<serde_json::Value, (u8, String)> {
        let (data, config, out) = (self.at(data), self.at("c.toml"), self.at("out"));
        truegauge(&["replay", text(&data), "-c", text(&config), "--out", text(&out)])?;
        let summary = std::fs::read_to_string(out.join("summary.json")).expect("written");
        Ok(serde_json::from_str(&summary).expect("JSON"))
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.at("out").join(name)).expect("written")
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}

/// Given a tag's name of 10 kB, then its rows are refused by name, shortened, and the others are judged.
#[test]
fn a_name_of_ten_kilobytes_is_refused() {
    let long = "n".repeat(10_240);
    let place = Place::new(RULE, &format!("ts,tag,value\n1,known,99\n1,{long},1\n2,known,1\n"));
    let s = place.replay("data.csv").expect("runs");
    assert_eq!((&s["processed"], &s["dead_letters"], &s["tags"]), (&2.into(), &1.into(), &1.into()));
    assert_eq!((&s["alerts_fired"], &s["alerts_resolved"]), (&1.into(), &1.into()));
    let dead = place.read("dlq.jsonl");
    assert!(dead.contains("\"tag_name\"") && dead.contains("10240 bytes") && dead.len() < 2_000, "{dead}");
}

/// Given more tags than the limit, then the known ones are unharmed, the others' rows are dead letters, and the limit is
/// told once.
#[test]
fn known_tags_outlive_a_flood_of_new_ones() {
    let mut csv = String::from("ts,tag,value\n0,known.a,1\n0,known.b,1\n");
    for i in 0..1_000 {
        writeln!(csv, "{i},flood-{i},1").expect("text");
    }
    csv.push_str("2000,known.a,99\n2001,known.a,1\n2000,known.b,1\n");
    let place = Place::new(&format!("{RULE}[limits]\ntags = 10\n"), &csv);
    let s = place.replay("data.csv").expect("runs");
    assert_eq!((&s["tags"], &s["dead_letters"], &s["alerts_fired"]), (&10.into(), &992.into(), &1.into()));
    assert_eq!(place.read("alerts.jsonl").matches("limit_tags").count(), 1);
    assert_eq!(place.read("dlq.jsonl").matches("\"tag_limit\"").count(), 992);
}

/// Given single rows from 1970 and from the far future in a log of today, when `max_jump` is set, then the future ones
/// are set aside, the old one is late, and the tag is judged on.
#[test]
fn times_of_another_age_move_nothing() {
    let now = 1_700_000_000;
    let mut csv = String::from("ts,tag,value\n");
    for i in 0..10 {
        writeln!(csv, "{},known,1", now + i).expect("text");
    }
    writeln!(csv, "0,known,99\n9000000000,known,99\n{},known,99\n{},known,1", now + 10, now + 11)
        .expect("text");
    let place = Place::new(&format!("{RULE}[time]\nmax_jump = \"1h\"\n"), &csv);
    let s = place.replay("data.csv").expect("runs");
    assert_eq!((&s["late"], &s["future"], &s["processed"]), (&1.into(), &1.into(), &13.into()));
    assert_eq!((&s["alerts_fired"], &s["alerts_resolved"], &s["held"]), (&1.into(), &1.into(), &0.into()));
    assert!(
        place
            .read("alerts.jsonl")
            .contains("\"event\":\"future\",\"tag\":\"known\",\"ts\":9000000000000000000")
    );
}

/// Given what is no readable file, then the exit code is 1, the message names it, and nothing panics; a file of nothing
/// but a header is no rows, and rules that ran 0 times are told.
#[test]
fn files_that_cannot_be_read_are_named() {
    let place = Place::new(RULE, "ts,tag,value\n");
    std::fs::create_dir(place.at("directory.csv")).expect("made");
    std::fs::write(place.at("empty.csv"), "").expect("written");
    std::fs::write(place.at("cut.parquet"), b"PAR1\x15\x04\x15").expect("written");
    std::fs::write(place.at("noise.arrow"), [7; 100]).expect("written");
    for data in ["directory.csv", "empty.csv", "cut.parquet", "noise.arrow", "nowhere.csv"] {
        let (code, message) = place.replay(data).expect_err(data);
        assert!(code == 1 && message.contains(data), "{data}: {code} {message}");
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(place.at("nowhere.csv"), place.at("dangling.csv")).expect("made");
        let (code, message) = place.replay("dangling.csv").expect_err("dangling");
        assert!(code == 1 && message.contains("dangling.csv"), "{message}");
    }
    let s = place.replay("data.csv").expect("runs");
    assert_eq!((&s["rows_in"], &s["rules_ran_0_times"]), (&0.into(), &serde_json::json!(["range"])));
    assert!(place.read("alerts.jsonl").contains("\"code\":\"rule_ran_0_times\",\"subject\":\"range\""));
}

/// Given a disk that takes no more, then the run fails with exit code 1 and names the file; no output has its final name
/// with half its content.
#[cfg(unix)]
#[test]
fn a_full_disk_is_an_error_with_a_name() {
    let mut csv = String::from("ts,tag,value\n");
    for i in 0..20_000 {
        writeln!(csv, "{i},known.{},{}", i % 50, if i % 3 == 0 { 99 } else { 1 }).expect("text");
    }
    let place = Place::new(RULE, &csv);
    // A file may grow to 32 KiB at most; the signal for it is ignored, so that writing fails as on a full disk.
    let line = "trap '' XFSZ; ulimit -f 32; exec \"$0\" replay \"$1\" -c \"$2\" --out \"$3\"";
    let out = std::process::Command::new("bash")
        .args(["-c", line, env!("CARGO_BIN_EXE_truegauge")])
        .args([place.at("data.csv"), place.at("c.toml"), place.at("out")])
        .output()
        .expect("starts");
    let message = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{message}");
    assert!(message.contains(text(&place.at("out"))) && !message.contains("panicked"), "{message}");
    for file in std::fs::read_dir(place.at("out")).expect("made") {
        let path = file.expect("listed").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if let Some("jsonl") = path.extension().and_then(|e| e.to_str()) {
            let content = std::fs::read_to_string(&path).expect("read");
            assert!(content.is_empty() || content.ends_with('\n'), "{name} is cut");
        }
        assert_ne!(name, "summary.json", "a failed run has no summary");
    }
}

/// Given a replay that is interrupted, then it stops reading, leaves a run directory that says so and balances, and exits with 0.
#[cfg(unix)]
#[test]
fn an_interrupted_replay_leaves_what_it_read() {
    use std::process::{Command, Stdio};
    let dir = tempfile::tempdir().expect("directory");
    let (data, config, out) = (dir.path().join("d.csv"), dir.path().join("c.toml"), dir.path().join("out"));
    let mut text = String::from("ts,tag,value\n");
    for i in 0..600_000u32 {
        text.push_str(&format!("{},a,{}\n", 1_700_000_000 + i, i % 7));
    }
    std::fs::write(&data, text).expect("written");
    let rule = "[source.files]\nts_unit = \"s\"\n[[rule]]\nid = \"range\"\ntags = [\"*\"]\ndetect.range = { fail = [0.0, 5.0] }\n";
    std::fs::write(&config, rule).expect("written");
    let child = Command::new(env!("CARGO_BIN_EXE_truegauge"))
        .arg("replay")
        .arg(&data)
        .arg("-c")
        .arg(&config)
        .arg("-o")
        .arg(&out)
        .args(["--batch-rows", "1", "--threads", "1", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !out.join("late.jsonl.partial").exists() {
        assert!(std::time::Instant::now() < until, "it does not begin");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("sent").success());
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(summary["interrupted"], true);
    assert!(summary["rows_in"].as_u64().is_some_and(|n| n < 600_000), "{summary}");
    for file in
        ["summary.json", "verdicts.parquet", "alerts.jsonl", "late.jsonl", "dlq.jsonl", "signals.parquet"]
    {
        assert!(out.join(file).is_file(), "{file}");
    }
}

/// Given a million and a hundred distinct tags, then those beyond the limit are dead letters, told once, and the tags that were known
/// before are judged as ever.
#[test]
fn a_million_tags_leave_the_known_ones_unharmed() {
    let dir = tempfile::tempdir().expect("directory");
    let (data, config, out) = (dir.path().join("d.csv"), dir.path().join("c.toml"), dir.path().join("out"));
    let mut rows = String::from("ts,tag,value\n");
    let known = |rows: &mut String, from: u32| {
        for i in 0..100 {
            rows.push_str(&format!("{},known,{}\n", from + i, if i == 50 { 99 } else { 5 }));
        }
    };
    known(&mut rows, 1_700_000_000);
    for i in 0..1_000_100 {
        rows.push_str(&format!("1700000200,tag{i},1\n"));
    }
    known(&mut rows, 1_700_000_300);
    std::fs::write(&data, rows).expect("written");
    let rule = "[source.files]\nts_unit = \"s\"\n[[rule]]\nid = \"range\"\ntags = [\"*\"]\ndetect.range = { fail = [0.0, 10.0] }\nalert = {}\n";
    std::fs::write(&config, rule).expect("written");
    let text = |p: &std::path::Path| p.to_str().expect("temporary paths are text").to_owned();
    let (data, config) = (text(&data), text(&config));
    let line = ["replay", &data, "-c", &config, "--emit", "events", "-o", &text(&out)];
    crate::replay::truegauge(&line).expect("replays");
    let summary: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out.join("summary.json")).expect("written")).expect("JSON");
    assert_eq!((&summary["tags"], &summary["dead_letters"]), (&1_000_000.into(), &101.into()));
    assert_eq!((&summary["alerts_fired"], &summary["alerts_resolved"]), (&2.into(), &2.into()));
    let events = std::fs::read_to_string(out.join("alerts.jsonl")).expect("written");
    assert_eq!(events.matches("limit_tags").count(), 1);
}

/// How to start the program without the rights of root: words before its path, and the path. None: it can't be done here.
#[cfg(unix)]
fn without_rights(dir: &Path) -> Option<Vec<String>> {
    use std::process::Command;
    let program = PathBuf::from(env!("CARGO_BIN_EXE_truegauge"));
    let id = Command::new("id").arg("-u").output().ok()?;
    if String::from_utf8_lossy(&id.stdout).trim() != "0" {
        return Some(vec![text(&program).into()]);
    }
    // The folder of the build may be closed to others.
    let copy = dir.join("truegauge");
    std::fs::copy(&program, &copy).ok()?;
    let words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", text(&copy)];
    let probe = Command::new(words[0]).args(&words[1..]).arg("--version").output().ok()?;
    probe.status.success().then(|| words.map(Into::into).to_vec())
}

/// Given a folder that may not be written to, as the run directory or the state directory, or data that may not be read, then the
/// command fails with exit code 1 and names the path and the reason.
#[cfg(unix)]
#[test]
fn what_is_not_permitted_is_an_error_with_a_name() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new(RULE, "ts,tag,value\n1,known,1\n");
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("changed");
    };
    mode(place.0.path(), 0o755);
    let Some(program) = without_rights(place.0.path()) else {
        use std::io::Write;
        writeln!(
            std::io::stderr(),
            "SKIPPED: what_is_not_permitted_is_an_error_with_a_name: runs as root, and setpriv can't drop its rights"
        )
        .expect("written");
        return;
    };
    std::fs::write(place.at("secret.csv"), "ts,tag,value\n1,known,1\n").expect("written");
    mode(&place.at("secret.csv"), 0o000);
    std::fs::create_dir(place.at("locked")).expect("made");
    mode(&place.at("locked"), 0o555);
    let kafka = "[source.kafka]\nbrokers = [\"127.0.0.1:9\"]\ntopics = [\"t\"]\n[run]\nstate_dir = \"locked/state\"\n";
    std::fs::write(place.at("run.toml"), format!("{RULE}{kafka}")).expect("written");
    let (data, secret, config, stream) =
        (place.at("data.csv"), place.at("secret.csv"), place.at("c.toml"), place.at("run.toml"));
    let (inside, free) = (place.at("locked/out"), place.at("out"));
    let cases: [(&[&str], &str); 3] = [
        (&["replay", text(&data), "-c", text(&config), "--out", text(&inside)], "locked/out"),
        (&["replay", text(&secret), "-c", text(&config), "--out", text(&free)], "secret.csv"),
        (&["run", "-c", text(&stream), "--until-end"], "locked/state"),
    ];
    for (line, name) in cases {
        let output =
            std::process::Command::new(&program[0]).args(&program[1..]).args(line).output().expect("starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{line:?}: {said}");
        assert!(said.contains(name) && said.contains("ermission denied"), "{line:?}: {said}");
    }
    // An earlier run that may not be touched is left as it is.
    mode(&place.at("locked"), 0o755);
    std::fs::write(place.at("locked/late.jsonl"), "").expect("written");
    mode(&place.at("locked"), 0o555);
    let locked = place.at("locked");
    let line = ["replay", text(&data), "-c", text(&config), "--out", text(&locked)];
    let output =
        std::process::Command::new(&program[0]).args(&program[1..]).args(line).output().expect("starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("ermission denied"), "{said}");
    assert!(locked.join("late.jsonl").is_file(), "{said}");
}
