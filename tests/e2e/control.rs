//! `truegauge hold`, `release` and `rebaseline` against the real server in front of a stream that is played here.

use crate::replay::truegauge;
use engine::control::{Accepted, Command, EntryRef, Refusal, Tray, desk};
use server::{Server, ServerConfig};
use std::path::Path;
use std::process;

/// Runs commands while a stream takes `count` of them: accepts what names `known`, refuses the rest. What was asked.
fn steered(socket: &Path, count: usize, commands: impl FnOnce()) -> Vec<Command> {
    let (desk, tray) = desk();
    let config = ServerConfig { metrics: None, control: Some(socket.into()) };
    let server = Server::start(&config, std::sync::Arc::default(), desk).expect("it starts");
    let stream = std::thread::spawn(move || (0..count).map(|_| answer(&tray)).collect());
    commands();
    server.stop();
    stream.join().expect("the stream ends")
}

fn answer(tray: &Tray) -> Command {
    let request = loop {
        match tray.take() {
            Some(request) => break request,
            None => std::thread::yield_now(),
        }
    };
    let command = request.command.clone();
    request.answer(match &command {
        Command::Hold { signal } if signal != "known" => {
            Err(Refusal::Unknown { what: "signal", name: signal.clone(), nearest: Some("known".into()) })
        }
        _ => Ok(Accepted { entries: vec![EntryRef { partition: 0, number: 3 }] }),
    });
    command
}

/// Given a configuration that names the socket beside it, then each command reaches the stream, by either argument.
#[test]
fn commands_reach_the_stream_by_socket_and_by_configuration() {
    let dir = tempfile::tempdir().expect("directory");
    let (socket, config) = (dir.path().join("control.sock"), dir.path().join("c.toml"));
    std::fs::write(&config, "[server]\ncontrol = \"control.sock\"\n").expect("written");
    let text = |path: &Path| path.to_str().expect("temporary paths are text").to_string();
    let (at, by) = (text(&socket), text(&config));
    let asked = steered(&socket, 4, || {
        truegauge(&["hold", "known", "--socket", &at]).expect("held");
        truegauge(&["release", "known", "-c", &by, "--json"]).expect("released");
        truegauge(&["rebaseline", "drift", "pump1.flow", "-c", &by]).expect("rebaselined");
        let refused = truegauge(&["hold", "knwon", "-c", &by]).expect_err("refused");
        assert_eq!(refused, (1, "no signal `knwon`; did you mean `known`?".into()));
    });
    let signal = |name: &str| name.to_string();
    let wanted = [
        Command::Hold { signal: signal("known") },
        Command::Release { signal: signal("known") },
        Command::Rebaseline { rule: "drift".into(), tag: "pump1.flow".into() },
        Command::Hold { signal: signal("knwon") },
    ];
    assert_eq!(asked, wanted);
}

/// Given `--json`, then standard output is one object and nothing else.
#[test]
fn json_is_one_object_on_standard_output() {
    let dir = tempfile::tempdir().expect("directory");
    let socket = dir.path().join("control.sock");
    steered(&socket, 2, || {
        let print = |extra: &[&str]| {
            let mut command = process::Command::new(env!("CARGO_BIN_EXE_truegauge"));
            let output = command.args(["hold", "known", "--socket"]).arg(&socket).args(extra).output();
            let output = output.expect("it runs");
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).expect("text")
        };
        assert_eq!(print(&[]), "known held (entry 3 of partition 0)\n");
        let json = r#"{"command":"hold","signal":"known","entries":[{"partition":0,"number":3}]}"#;
        assert_eq!(print(&["--json"]), format!("{json}\n"));
    });
}

/// Given nobody at the socket, no socket in the configuration, or an open address: the reason, and the code for it.
#[test]
fn what_cannot_be_asked_is_explained() {
    let dir = tempfile::tempdir().expect("directory");
    let path = |name: &str| dir.path().join(name).to_str().expect("temporary paths are text").to_string();
    let refused = |arguments: &[&str]| truegauge(arguments).expect_err("refused");
    let (code, message) = refused(&["release", "x", "--socket", &path("no.sock")]);
    assert_eq!((code, message.contains("is `truegauge run` running there?")), (1, true), "{message}");

    std::fs::write(path("c.toml"), "").expect("written");
    let (code, message) = refused(&["hold", "x", "-c", &path("c.toml")]);
    assert_eq!((code, message.contains("names no socket")), (2, true), "{message}");
    std::fs::write(path("c.toml"), "[server]\nmetrics = \"0.0.0.0:9464\"\n").expect("written");
    let (code, message) = refused(&["check", "-c", &path("c.toml")]);
    assert_eq!((code, message.contains("no authentication yet")), (2, true), "{message}");
    assert!(message.contains("line 2, column"), "{message}");

    for usage in [
        &["hold", "x"][..],
        &["rebaseline", "x", "--socket", "s"],
        &["hold", "x", "--socket", "s", "-c", "c"],
    ] {
        assert_eq!(refused(usage).0, 2, "{usage:?}");
    }
}
