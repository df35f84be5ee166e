//! The server as its users meet it: raw requests over both listeners, and the client.

use engine::control::{Accepted, Command, Desk, EntryRef, Refusal, desk};
use engine::metrics::{Board, Metric, Reading, Readout, SignalReading};
use server::client::{self, ClientError, Signal};
use server::{Server, ServerConfig, ServerError};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A stream of which only the face is real: it knows one signal and one rule.
struct Stream {
    dir: TempDir,
    board: Arc<Board>,
    desk: Desk,
    ended: Arc<AtomicBool>,
    driver: Option<JoinHandle<()>>,
}

impl Stream {
    fn start() -> Self {
        let (desk, tray) = desk();
        let ended = Arc::new(AtomicBool::new(false));
        let end = ended.clone();
        let driver = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                match tray.take() {
                    Some(request) => {
                        let answer = judge(&request.command);
                        request.answer(answer);
                    }
                    None => std::thread::yield_now(),
                }
            }
        });
        let board = Arc::new(Board::default());
        board.put(readout());
        let dir = tempfile::tempdir().expect("directory");
        Stream { dir, board, desk, ended, driver: Some(driver) }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("control.sock")
    }

    fn serve(&self) -> Server {
        let config = format!("metrics = \"127.0.0.1:0\"\ncontrol = {:?}", self.socket());
        self.open(&config).expect("it starts")
    }

    fn open(&self, config: &str) -> Result<Server, ServerError> {
        let config: ServerConfig = toml::from_str(config).expect("configuration");
        Server::start(&config, self.board.clone(), self.desk.clone())
    }

    fn end(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(driver) = self.driver.take() {
            driver.join().expect("the driver ends");
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.end();
    }
}

fn judge(command: &Command) -> Result<Accepted, Refusal> {
    let unknown = |what, name: &str, nearest: &str| Refusal::Unknown {
        what,
        name: name.into(),
        nearest: Some(nearest.into()),
    };
    match command {
        Command::Hold { signal } if signal == "boiler1.pressure" => {
            Ok(Accepted { entries: vec![EntryRef { partition: 0, number: 3 }] })
        }
        Command::Release { signal } if signal == "boiler1.pressure" => Err(Refusal::Nowhere),
        Command::Hold { signal } | Command::Release { signal } => {
            Err(unknown("signal", signal, "boiler1.pressure"))
        }
        Command::Rebaseline { rule, .. } if rule == "drift" => {
            Err(Refusal::Journal { reason: "disk full".into() })
        }
        Command::Rebaseline { rule, .. } => Err(unknown("rule", rule, "drift")),
    }
}

fn readout() -> Readout {
    let awkward = "a\\b\"c\nd".to_string();
    let labels = vec![("signal", awkward.clone()), ("state", "normal".to_string())];
    Readout {
        readings: vec![
            Reading { metric: Metric::Rows, labels: vec![("fate", "processed".into())], value: 120.0 },
            Reading { metric: Metric::SignalState, labels, value: 1.0 },
        ],
        signals: vec![SignalReading { signal: awkward, partition: 2, state: "normal" }],
    }
}

/// Sends bytes and reads until the server closes: the status, the head and the body.
fn raw<S: Read + Write>(mut stream: S, request: &str) -> (u16, String, String) {
    // The server may have answered and closed before it has all of a request that is too large.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer that ends");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
    (status, head.to_ascii_lowercase(), body.to_string())
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
}

fn post(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn over_port(server: &Server, request: &str) -> (u16, String, String) {
    let addr = server.metrics_addr().expect("a port");
    raw(TcpStream::connect(addr).expect("it listens"), request)
}

fn over_socket(path: &Path, request: &str) -> (u16, String, String) {
    raw(UnixStream::connect(path).expect("it listens"), request)
}

/// Given readings with awkward labels, then both listeners show them in the text format, and say that they live.
#[test]
fn metrics_and_health_are_on_both_listeners() {
    let stream = Stream::start();
    let server = stream.serve();
    for (status, head, body) in
        [over_port(&server, &get("/metrics")), over_socket(&stream.socket(), &get("/metrics"))]
    {
        assert_eq!(status, 200);
        assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
        assert!(body.contains("# TYPE truegauge_rows_total counter\n"), "{body}");
        assert!(body.contains("truegauge_rows_total{fate=\"processed\"} 120\n"), "{body}");
        let line = r#"truegauge_signal_state{signal="a\\b\"c\nd",state="normal"} 1"#;
        assert!(body.lines().any(|l| l == line), "{body}");
    }
    assert_eq!(over_port(&server, &get("/healthz")).2, "ok\n");
    assert_eq!(over_socket(&stream.socket(), &get("/healthz")).2, "ok\n");
}

/// Given the port, then what steers, and what only the socket shows, is not there; a newer read-out replaces the old.
#[test]
fn the_port_only_shows() {
    let stream = Stream::start();
    let server = stream.serve();
    let hold = post("/v1/commands", "{\"command\":\"hold\",\"signal\":\"boiler1.pressure\"}");
    for request in [hold, get("/v1/signals"), get("/v1/commands"), get("/")] {
        let (status, _, body) = over_port(&server, &request);
        assert_eq!((status, body.as_str()), (404, "{\"error\":\"no such path\"}"), "{request}");
    }
    let (status, _, body) = over_port(&server, &post("/metrics", ""));
    assert_eq!((status, body.starts_with("{\"error\":")), (405, true), "{body}");
    stream.board.put(Readout::default());
    assert_eq!(over_port(&server, &get("/metrics")).2, "");
}

#[test]
fn the_client_sends_commands_and_reads_signals() {
    let stream = Stream::start();
    let _server = stream.serve();
    let hold = Command::Hold { signal: "boiler1.pressure".into() };
    let accepted = client::send(&stream.socket(), &hold).expect("accepted");
    assert_eq!(accepted.entries, [EntryRef { partition: 0, number: 3 }]);
    let signals = client::signals(&stream.socket()).expect("shown");
    assert_eq!(signals, [Signal { signal: "a\\b\"c\nd".into(), partition: 2, state: "normal".into() }]);
}

#[test]
fn a_refusal_comes_back_with_its_status_and_words() {
    let mut stream = Stream::start();
    let _server = stream.serve();
    let refused = |command: Command| match client::send(&stream.socket(), &command) {
        Err(ClientError::Refused { status, message }) => (status, message),
        other => panic!("not refused: {other:?}"),
    };
    let unknown = refused(Command::Hold { signal: "boiler1.presure".into() });
    let words = "no signal `boiler1.presure`; did you mean `boiler1.pressure`?";
    assert_eq!(unknown, (404, words.into()));
    assert_eq!(refused(Command::Release { signal: "boiler1.pressure".into() }).0, 409);
    let rebaseline = Command::Rebaseline { rule: "drift".into(), tag: "t".into() };
    assert_eq!(refused(rebaseline.clone()), (503, "the journal can't be written: disk full".into()));
    let socket = stream.socket();
    stream.end();
    let Err(ClientError::Refused { status: 503, message }) = client::send(&socket, &rebaseline) else {
        panic!("the stream has ended")
    };
    assert_eq!(message, "the stream has ended");
}

#[test]
fn broken_unknown_and_too_large_bodies_are_refused() {
    let stream = Stream::start();
    let _server = stream.serve();
    let large = format!("{{\"command\":\"hold\",\"signal\":\"{}\"}}", "x".repeat(17 * 1024));
    for (body, status, words) in [
        ("{\"command\":\"hold\",\"signal\":\"a\",\"for\":1}", 400, "unknown field `for`"),
        ("{\"command\":\"stop\"}", 400, "unknown variant `stop`"),
        ("{\"command\":", 400, "EOF"),
        ("", 400, "EOF"),
        (large.as_str(), 413, "length limit exceeded"),
    ] {
        let (got, head, text) = over_socket(&stream.socket(), &post("/v1/commands", body));
        assert_eq!(got, status, "{text}");
        assert!(head.contains("content-type: application/json"), "{head}");
        let text: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert!(text["error"].as_str().expect("an error").contains(words), "{text}");
    }
}

/// Given a socket file without a process, when a server starts, then it takes the place, for its user only.
#[test]
fn a_stale_socket_is_replaced_and_the_new_one_is_private() {
    let stream = Stream::start();
    drop(UnixListener::bind(stream.socket()).expect("bound"));
    assert!(matches!(client::signals(&stream.socket()), Err(ClientError::NotRunning { .. })));
    let server = stream.serve();
    let mode = std::fs::metadata(stream.socket()).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(client::signals(&stream.socket()).expect("shown").len(), 1);
    let left: Vec<_> = std::fs::read_dir(stream.dir.path()).expect("directory").collect();
    assert_eq!(left.len(), 1, "{left:?}");
    server.stop();
    assert_eq!(std::fs::read_dir(stream.dir.path()).expect("directory").count(), 0);
}

#[test]
fn a_living_socket_is_refused_and_goes_on() {
    let stream = Stream::start();
    let _server = stream.serve();
    let error = stream.open(&format!("control = {:?}", stream.socket())).expect_err("taken");
    assert!(matches!(error, ServerError::SocketTaken { .. }));
    assert!(error.to_string().contains("another truegauge is running there"), "{error}");
    assert_eq!(client::signals(&stream.socket()).expect("the first one answers").len(), 1);
}

/// Given a server that has lost its place to another one, when it stops, then the other one's socket stays.
#[test]
fn a_stop_removes_only_its_own_socket() {
    let stream = Stream::start();
    let first = stream.serve();
    std::fs::remove_file(stream.socket()).expect("removed");
    let _second = stream.serve();
    drop(first);
    assert_eq!(client::signals(&stream.socket()).expect("the second one answers").len(), 1);
}

#[test]
fn what_cannot_be_opened_says_what_where_and_what_to_do() {
    let stream = Stream::start();
    let server = stream.serve();
    let refused = |config: String| stream.open(&config).expect_err("refused").to_string();
    let addr = server.metrics_addr().expect("a port");
    let port = refused(format!("metrics = \"{addr}\""));
    assert!(port.contains(&addr.to_string()) && port.contains("another program has this port"), "{port}");
    let at = |name: &str| format!("control = {:?}", stream.dir.path().join(name));
    let long = refused(at(&"x".repeat(108)));
    assert!(long.contains("too long for a socket"), "{long}");
    let nowhere = refused(at("missing/control.sock"));
    assert!(nowhere.contains("its directory must be there already"), "{nowhere}");
    std::fs::write(stream.dir.path().join("file"), "kept").expect("written");
    let file = refused(at("file"));
    assert!(file.contains("is not a socket"), "{file}");
    assert_eq!(std::fs::read_to_string(stream.dir.path().join("file")).expect("there"), "kept");
}

/// Given as many idle connections as there may be, then the next one waits, and is served when one of them goes.
#[test]
fn connections_beyond_the_limit_wait() {
    let stream = Stream::start();
    let _server = stream.serve();
    let connect = || UnixStream::connect(stream.socket()).expect("it listens");
    let mut idle: Vec<UnixStream> = (0..64).map(|_| connect()).collect();
    let mut next = connect();
    next.write_all(get("/healthz").as_bytes()).expect("sent");
    next.set_read_timeout(Some(Duration::from_millis(100))).expect("set");
    let waits = next.read(&mut [0; 1]).expect_err("no answer yet");
    assert!(matches!(waits.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{waits}");
    idle.pop();
    next.set_read_timeout(None).expect("set");
    let mut answer = String::new();
    next.read_to_string(&mut answer).expect("an answer");
    assert!(answer.ends_with("ok\n"), "{answer}");
}

/// Given a command that was taken and is not answered, then a stop does not wait for as long as the command may.
#[test]
fn a_stop_does_not_wait_for_a_command_without_an_answer() {
    let (desk, tray) = desk();
    let dir = tempfile::tempdir().expect("directory");
    let socket = dir.path().join("control.sock");
    let config = ServerConfig { metrics: None, control: Some(socket.clone()) };
    let server = Server::start(&config, Arc::default(), desk).expect("it starts");
    let mut asks = UnixStream::connect(&socket).expect("it listens");
    let body = "{\"command\":\"release\",\"signal\":\"a\"}";
    asks.write_all(post("/v1/commands", body).as_bytes()).expect("sent");
    let _unanswered = loop {
        match tray.take() {
            Some(request) => break request,
            None => std::thread::yield_now(),
        }
    };
    let began = Instant::now();
    server.stop();
    let took = began.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}, as long as a command waits");
    assert!(!socket.exists());
}

#[test]
fn without_listeners_nothing_is_opened() {
    let stream = Stream::start();
    let server = stream.open("").expect("it starts");
    assert_eq!(server.metrics_addr(), None);
    let Err(ClientError::NotRunning { .. }) = client::signals(&stream.socket()) else {
        panic!("nobody is there")
    };
}
