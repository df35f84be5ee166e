//! `truegauge run`: Kafka in; Kafka or standard output out.

use super::{CommandError, StreamError};
use crate::config::{self, ClockSource};
use crate::run_dir::{Alerts, Summary, counted};
use crate::wiring::{
    KafkaInlet, SharedCodes, SharedRecorder, StreamOutlet, StreamStore, SystemClock, Target,
};
use connectors::sink::kafka::{KafkaSink, KafkaSinkConfig};
use connectors::sink::recording::Recorder;
use connectors::source::kafka::{Assign, KafkaSource, Offsets};
use connectors::store::dir::DirStore;
use engine::control::{Tray, desk};
use engine::driver::{Clock, Driver, Kept, Notice, Origin, Settings, Store, recover};
use engine::metrics::Board;
use engine::{Counters, Pipeline};
use server::Server;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Arguments of `run`.
///
/// With `[run] state_dir` a restart goes on where the last checkpoint was made: what came after it is judged again, and sent again
/// with the same ids. Offsets committed to Kafka are for people and lag monitors.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration file.
    #[arg(short, long)]
    config: PathBuf,
    /// Stop at what the topics hold at start.
    #[arg(long)]
    until_end: bool,
    /// Keep what comes in, and the journal, in a new directory that `replay` reads.
    #[arg(long)]
    record: Option<PathBuf>,
    /// Brokers instead of the configured ones, separated by commas.
    #[arg(long, value_delimiter = ',')]
    brokers: Vec<String>,
    /// Topics instead of the configured ones, separated by commas.
    #[arg(long, value_delimiter = ',')]
    topic: Vec<String>,
    /// Print only the summary, as one JSON object on standard output.
    #[arg(long)]
    json: bool,
}

/// How long a stop waits for the sinks.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// Runs until the end of the input, or an interrupt; a second interrupt ends the process at once.
///
/// # Errors
/// When the configuration can't be used, or the stream can't go on.
pub fn run(args: &Args) -> Result<(), CommandError> {
    let summary = stream(args)?;
    if args.json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        eprint!("{summary}");
    }
    Ok(())
}

type Stream = Driver<KafkaInlet, StreamOutlet, StreamStore, SystemClock>;

/// The same without printing the summary.
///
/// # Errors
/// As [`run`].
pub fn stream(args: &Args) -> Result<Summary, CommandError> {
    let began = Instant::now();
    let stop = stop_flag()?;
    let Open { mut driver, digest, recorder, codes, lines, board, tray, server } = open(args)?;
    let lines_on_a_terminal = lines && std::io::stdout().is_terminal();
    let (mut more, mut shown) = (true, None::<Instant>);
    let mut pulse = Pulse::new(args.json || lines_on_a_terminal);
    while more && !stop.load(Ordering::Relaxed) {
        more = driver.step(TURN)?;
        while let Some(request) = tray.take() {
            let answer = driver.ask(&request.command)?;
            request.answer(answer);
        }
        let notices = driver.notices();
        if !notices.is_empty() {
            pulse.clear();
        }
        tell(&notices);
        pulse.beat(&driver);
        if shown.is_none_or(|at| at.elapsed() >= SHOW_EVERY) {
            shown = Some(Instant::now());
            board.put(driver.readout());
        }
    }
    pulse.clear();
    if more {
        eprintln!(
            "truegauge: stopping: waiting up to {} s for the sinks; a second signal ends at once",
            STOP_WAIT.as_secs()
        );
    }
    // Who waits for an answer hears that the stream has ended.
    drop(tray);
    let ended = if more { driver.stop(STOP_WAIT) } else { Ok(()) };
    board.put(driver.readout());
    server.stop();
    tell(&driver.notices());
    if let Some(recorder) = recorder.borrow_mut().take() {
        recorder.finish()?;
    }
    ended?;
    for pipeline in driver.pipelines() {
        let counters: Counters = pipeline.counters();
        if !counters.balanced() {
            return Err(CommandError::Unbalanced(Box::new(counters)));
        }
    }
    let tallies = driver.tallies();
    let alerts = Alerts { fired: tallies.fired, resolved: tallies.resolved };
    let elapsed_s = began.elapsed().as_secs_f64();
    let dead_letter_codes = codes.take();
    let counted = Summary::new(driver.pipelines(), alerts, &digest, elapsed_s);
    Ok(Summary { interrupted: more, dead_letter_codes, ..counted })
}

/// A stream that is ready to go.
struct Open {
    driver: Stream,
    digest: String,
    recorder: SharedRecorder,
    codes: SharedCodes,
    /// Whether standard output gets lines.
    lines: bool,
    board: Arc<Board>,
    tray: Tray,
    server: Server,
}

/// The driver with its ports, where it stopped last time, and its listeners.
fn open(args: &Args) -> Result<Open, CommandError> {
    let loaded = config::load(&args.config)?;
    let plan = Arc::new(loaded.plan);
    let usage = |message: &str| CommandError::Usage(format!("{}: {message}", args.config.display()));
    let mut kafka = loaded.file.source.kafka.ok_or_else(|| usage("`run` needs a section [source.kafka]"))?;
    if !args.brokers.is_empty() {
        kafka.brokers.clone_from(&args.brokers);
    }
    if !args.topic.is_empty() {
        kafka.topics.clone_from(&args.topic);
    }
    if args.until_end && kafka.assign == Assign::Group {
        return Err(usage(
            "--until-end needs assign = \"all\": a group's members don't know when all have reached the end",
        ));
    }
    let grouped = kafka.assign == Assign::Group;
    if grouped && args.record.is_some() {
        return Err(usage(
            "--record needs assign = \"all\": a member of a group sees partitions from the middle, without their state",
        ));
    }
    if let Some((kind, topic)) = loaded.file.sink.kafka.as_ref().and_then(|s| s.output_that_is_read(&kafka)) {
        return Err(usage(&config::read_again(kind, topic)));
    }
    let state_dir = loaded.state_dir;
    let open_dir = if grouped { DirStore::open_shared } else { DirStore::open };
    let dir = state_dir.as_deref().map(open_dir).transpose()?;
    let recorder = SharedRecorder::new(RefCell::new(None));
    let mut store = StreamStore::new(dir, Rc::clone(&recorder));
    // A member of a group recovers each partition when it gets it.
    let kept: BTreeMap<Origin, Kept> =
        if grouped { BTreeMap::new() } else { recover(&mut store).map_err(CommandError::from)? };
    let offset = |(o, k): (&Origin, &Kept)| ((o.topic.clone(), o.partition), k.checkpoint.next.offset);
    let offsets: Offsets = kept.iter().map(offset).collect();
    let source = KafkaSource::open(&kafka, &offsets, args.until_end)?;
    if let Some(path) = &args.record {
        let start = |(topic, partition): &(String, i32)| {
            let origin = Origin { topic: topic.clone(), partition: *partition };
            kept.get(&origin).map(|k| k.checkpoint.to_bytes())
        };
        let mut new = Recorder::create(path, source.partitions(), start)?;
        // Entries above the checkpoints are applied again: the recording needs them too.
        for origin in kept.keys() {
            let text = store.journal(&origin.to_string()).map_err(StreamError::Store)?;
            // A torn last line was never applied.
            let whole = text.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
            new.journal(&text[..whole])?;
        }
        *recorder.borrow_mut() = Some(new);
    }
    let target = match &loaded.file.sink.kafka {
        Some(sink) => {
            let sink = KafkaSink::open(sink, &kafka.brokers)?;
            tell_missing(&sink);
            Target::Kafka(Box::new(sink))
        }
        None if args.json => Target::Nowhere(Vec::new()),
        None => Target::Lines(Vec::new()),
    };
    let lines = matches!(target, Target::Lines(_));
    let codes = SharedCodes::default();
    let outlet = StreamOutlet::new(target, Rc::clone(&codes));
    let run = &loaded.file.run;
    let settings = Settings {
        checkpoint_every: Duration::from_nanos(run.checkpoint_every.to_ns().unsigned_abs()),
        // Without the lock of its state, a member does not know whether a partition that is silent is still its own.
        clock_ticks: run.clock == ClockSource::Wall && (!grouped || store.keeps()),
        pending_events: run.pending_events.get() as usize,
        pending_bulk: run.pending_outputs.get() as usize,
    };
    if !store.keeps() {
        let place = if grouped { "at the group's offsets, with nothing learned," } else { "at `from`" };
        eprintln!(
            "truegauge: no [run] state_dir: a restart will begin {place} instead of where this run stops"
        );
    }
    let partitions = counted(source.partitions().len() as u64, "partition", "partitions");
    let inlet = KafkaInlet::new(source, Rc::clone(&recorder));
    let digest = plan.digest.clone();
    let driver = Driver::new(plan, settings, (inlet, outlet, store, SystemClock::start()), kept)?;
    let board = Arc::new(Board::default());
    board.put(driver.readout());
    let (desk, tray) = desk();
    let server = Server::start(&loaded.server, board.clone(), desk)?;
    eprintln!(
        "truegauge: reading {} ({partitions}) from {}; writing {}{}{}{}",
        kafka.topics.join(", "),
        kafka.brokers.join(", "),
        targets(loaded.file.sink.kafka.as_ref(), args.json),
        place("state", state_dir.as_deref()),
        place("recording", args.record.as_deref()),
        place("commands", loaded.server.control.as_deref()),
    );
    if let Some(address) = server.metrics_addr() {
        eprintln!("truegauge: metrics on http://{address}/metrics");
    }
    Ok(Open { driver, digest, recorder, codes, lines, board, tray, server })
}

/// Says which outputs have no topic to go to.
fn tell_missing(sink: &KafkaSink) {
    match sink.missing_topics(TOPICS_WAIT) {
        Ok(missing) => {
            for (kind, topic) in missing {
                let key = kind.key();
                eprintln!(
                    "truegauge: [sink.kafka] {key}: the brokers have no topic `{topic}`, or don't show it; what goes there waits until it \
                     is there"
                );
            }
        }
        Err(error) => eprintln!("truegauge: {error}"),
    }
}

/// How long the sink's brokers may take to say at start which topics they have.
const TOPICS_WAIT: Duration = Duration::from_secs(2);

/// Where outputs go, for a reader.
fn targets(sink: Option<&KafkaSinkConfig>, json: bool) -> String {
    let Some(sink) = sink else {
        return if json { "only a summary" } else { "lines to standard output" }.into();
    };
    let kinds = [
        ("alerts", &sink.alerts),
        ("signals", &sink.signals),
        ("late rows", &sink.late),
        ("dead letters", &sink.dead_letters),
    ];
    let named = kinds.iter().filter_map(|(kind, topic)| Some(format!("{kind} to {}", topic.as_ref()?)));
    let named: Vec<String> = named.collect();
    if named.is_empty() { "nothing: [sink.kafka] names no topic".into() } else { named.join(", ") }
}

fn place(what: &str, path: Option<&Path>) -> String {
    path.map_or(String::new(), |path| format!("; {what} in {}", path.display()))
}

/// A sign of life on a terminal, one line that is written over; nothing elsewhere.
struct Pulse {
    began: Instant,
    /// Rows and time of the last line; absent: no line is wanted.
    last: Option<(u64, Instant)>,
    visible: bool,
}

impl Pulse {
    fn new(quiet: bool) -> Self {
        let began = Instant::now();
        let wanted = !quiet && std::io::stderr().is_terminal();
        Pulse { began, last: wanted.then_some((0, began)), visible: false }
    }

    fn beat(&mut self, driver: &Stream) {
        let Some((before, at)) = self.last else { return };
        let since = at.elapsed();
        if since < BEAT_EVERY {
            return;
        }
        let rows = driver.pipelines().map(|p| p.counters().rows_in).sum();
        // What a checkpoint brought along was not read now.
        let rate = if at == self.began { 0.0 } else { (rows - before) as f64 / since.as_secs_f64() };
        let last = driver.pipelines().filter_map(Pipeline::progress).max();
        let now = SystemClock::start().now_ns();
        let firing = driver.pipelines().flat_map(Pipeline::alerts_firing).map(|(_, _, n)| n).sum();
        let line = pulse_line(rows, rate, last.map(|last| now.saturating_sub(last)), firing);
        let _ = write!(std::io::stderr(), "\r{line}\x1b[K");
        (self.last, self.visible) = (Some((rows, Instant::now())), true);
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.visible) {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

/// Rows, rows a second, how far event time is behind the clock, alerts that fire.
fn pulse_line(rows: u64, rate: f64, behind_ns: Option<i64>, firing: u64) -> String {
    let rows = counted(rows, "row", "rows");
    let behind = match behind_ns.map(|ns| ns / 1_000_000_000) {
        None => "no time yet".to_owned(),
        Some(s) if s < -1 => format!("{} s ahead of the clock", -s),
        Some(s) if s < 120 => format!("{} s behind", s.max(0)),
        Some(s) if s < 2 * 3_600 => format!("{} min behind", s / 60),
        Some(s) if s < 2 * 86_400 => format!("{} h behind", s / 3_600),
        Some(s) => format!("{} days behind", s / 86_400),
    };
    format!("{rows}, {rate:.0} rows/s, {behind}, {firing} firing")
}

/// Between signs of life.
const BEAT_EVERY: Duration = Duration::from_secs(2);

fn tell(notices: &[Notice]) {
    for notice in notices {
        eprintln!("truegauge: {notice}");
    }
}

/// A flag that the first interrupt sets; the second ends the process.
pub(crate) fn stop_flag() -> Result<Arc<AtomicBool>, CommandError> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, stop.clone())
            .and_then(|_| signal_hook::flag::register(signal, stop.clone()))
            .map_err(|source| CommandError::Io { path: "interrupt".into(), source })?;
    }
    Ok(stop)
}

/// Between read-outs for the server.
const SHOW_EVERY: Duration = Duration::from_millis(500);
/// One turn of the loop.
const TURN: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    /// Given how far event time is behind, then the unit is one a person would choose, also for recorded times.
    #[test]
    fn the_sign_of_life_says_how_far_behind_it_is() {
        let behind = |s: i64| pulse_line(1, 2.4, Some(s * 1_000_000_000), 3);
        assert_eq!(behind(-1), "1 row, 2 rows/s, 0 s behind, 3 firing");
        let unit = |s| behind(s).split(", ").nth(2).expect("a part").to_owned();
        let told = [-60, 119, 120, 7_199, 7_200, 172_799, 172_800].map(unit);
        let wanted = [
            "60 s ahead of the clock",
            "119 s behind",
            "2 min behind",
            "119 min behind",
            "2 h behind",
            "47 h behind",
            "2 days behind",
        ];
        assert_eq!(told, wanted);
        assert_eq!(pulse_line(0, 0.0, None, 0), "0 rows, 0 rows/s, no time yet, 0 firing");
    }
}
