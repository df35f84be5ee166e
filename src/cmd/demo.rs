//! `truegauge demo`: an in-process Kafka, a simulated plant with labelled faults, and the real engine reading from it.

use super::CommandError;
use super::run::stop_flag;
use crate::config;
use crate::live::Live;
use crate::run_dir::{Alerts, Summary};
use crate::view::screen::Screen;
use crate::view::{Look, Scale, Scene, Setup};
use crate::wiring::DeadCodes;
use arrow_array::{Array, Float64Array, StringArray, TimestampNanosecondArray};
use clap::builder::NonEmptyStringValueParser;
use connectors::source::kafka::mock::MockBroker;
use connectors::source::kafka::{KafkaConfig, KafkaSource, Offsets};
use connectors::{Polled, Source, SourceError};
use datasets::{DEMO_SCRIPT_TICKS, DEMO_TAGS, EPOCH_NS, demo_plant};
use detectors::params::Span;
use engine::config::raw::Signals;
use engine::payload::Served;
use engine::{Catalogue, Event, Outputs, Pipeline, Transition, What};
use serde::Serialize;
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long the plant's ten minutes take.
    #[arg(long = "for", default_value = "20s", value_parser = NonEmptyStringValueParser::new())]
    length: String,
    /// Print only the summary, as one JSON object on standard output.
    #[arg(long)]
    json: bool,
    /// Print plain lines, as where standard output is no terminal, instead of the live view.
    #[arg(long, conflicts_with = "json")]
    plain: bool,
    /// Draw the live view with ASCII glyphs only, as where the locale is not UTF-8.
    #[arg(long)]
    ascii: bool,
}

/// The summary of a run, and how many faults the plant really had.
#[derive(Debug, Serialize)]
pub struct DemoSummary {
    /// As of every run.
    #[serde(flatten)]
    pub run: Summary,
    /// Labelled faults of the plant.
    pub labels: u64,
}

const TOPIC: &str = "demo.telemetry";
const SEED: u64 = 1;

/// Runs the demo and shows what happens as it happens; a key or an interrupt ends it early.
///
/// # Errors
/// When the in-process Kafka or the terminal can't be used.
pub fn run(args: &Args) -> Result<(), CommandError> {
    let length: Span = args.length.parse().map_err(|e| CommandError::Usage(format!("--for: {e}")))?;
    let length = Duration::from_nanos(length.to_ns().unsigned_abs());
    let stop = stop_flag()?;
    if args.json {
        let summary = play(length, &stop, &mut Lines(|_| {}))?;
        println!("{}", serde_json::to_string(&summary)?);
        return Ok(());
    }
    let variable = |name: &str| std::env::var(name).ok();
    let summary = if !args.plain && can_draw(variable) {
        let look = Look::of(variable);
        let look = Look { unicode: look.unicode && !args.ascii, ..look };
        let screen = Screen::open(scene(length), look, stop.clone()).map_err(terminal)?;
        let summary = play(length, &stop, &mut Watched(&screen))?;
        screen.close().map_err(terminal)?;
        summary
    } else {
        play(length, &stop, &mut Lines(|line| println!("{line}")))?
    };
    print!("{}", summary.run);
    println!("the plant had {} faults", summary.labels);
    Ok(())
}

/// Whether standard output is a terminal that knows more than lines.
fn can_draw(variable: impl Fn(&str) -> Option<String>) -> bool {
    let kind = variable("TERM").unwrap_or_default();
    std::io::stdout().is_terminal() && !kind.is_empty() && kind != "dumb"
}

fn terminal(source: std::io::Error) -> CommandError {
    CommandError::Io { path: "terminal".into(), source }
}

/// Who is shown what happens.
pub trait Show {
    /// What was just taken, and what came of it.
    fn show(&mut self, step: &Step<'_>);
}

/// What was taken from Kafka in one go, and what came of it.
#[derive(Clone, Copy)]
pub struct Step<'a> {
    /// Rows as they came in; none: the end of the input.
    pub polled: Option<&'a Polled>,
    /// What the engine put out.
    pub out: &'a Outputs,
    /// The engine, once it has rows.
    pub pipeline: Option<&'a Pipeline>,
    /// Wall time since the demo began.
    pub elapsed: Duration,
}

/// Plays one round of the plant's script in `length`.
///
/// # Errors
/// As [`run`].
pub fn play(length: Duration, stop: &AtomicBool, show: &mut dyn Show) -> Result<DemoSummary, CommandError> {
    let began = Instant::now();
    let mut plan = assembled()?.plan;
    for group in &mut plan.groups {
        // The chart shows what is served while all is well, too. What is judged stays the same.
        group.raw.signals = Signals::Every;
    }
    let plan = Arc::new(plan);
    let broker = MockBroker::start(&[(TOPIC, 1)])?;
    let kafka = format!(
        "brokers = {:?}\ntopics = [{TOPIC:?}]\nmax_wait = \"20ms\"\ndecode.json = {{ ts_unit = \"ns\" }}",
        broker.brokers()
    );
    let kafka: KafkaConfig = toml::from_str(&kafka).expect("the demo's own configuration is right");
    let mut source = KafkaSource::open(&kafka, &Offsets::new(), false)?;
    let (mut live, mut out, mut alerts) = (Live::new(plan.clone()), Outputs::default(), Alerts::default());
    let mut codes = DeadCodes::default();
    let mut producer =
        Producer { broker: &broker, rows: demo_plant(SEED).peekable(), length, began, sent: 0 };
    let (mut taken, mut last_row) = (0u64, Instant::now());
    loop {
        let more = !stop.load(Ordering::Relaxed) && producer.send_due()?;
        let Some(polled) = source.poll(Duration::from_millis(20))? else { break };
        let rows = polled.batch.num_rows() as u64 + polled.bad.len() as u64;
        if rows > 0 {
            (taken, last_row) = (taken + rows, Instant::now());
        }
        live.take(&polled, &mut out)?;
        alerts.add(&out.events);
        codes.add_all(&polled, &out.dead, source.row_is_record());
        tell(show, Some(&polled), &out, &live, began);
        forget(&mut out);
        if !more && taken >= producer.sent {
            break;
        }
        if last_row.elapsed() > Duration::from_secs(30) {
            let reason = format!("{} rows were sent, {taken} came", producer.sent);
            return Err(SourceError::Kafka { action: "demo", reason }.into());
        }
    }
    live.end(&mut out);
    alerts.add(&out.events);
    tell(show, None, &out, &live, began);
    let counted = Summary::new(live.pipelines(), alerts, &plan.digest, began.elapsed().as_secs_f64());
    let run = Summary { dead_letter_codes: codes, ..counted };
    Ok(DemoSummary { run, labels: demo_plant(SEED).labels(1).len() as u64 })
}

fn tell(show: &mut dyn Show, polled: Option<&Polled>, out: &Outputs, live: &Live, began: Instant) {
    let pipeline = live.pipelines().next();
    show.show(&Step { polled, out, pipeline, elapsed: began.elapsed() });
}

fn forget(out: &mut Outputs) {
    out.verdicts.clear();
    out.events.clear();
    out.values.clear();
    out.late.clear();
    out.dead.clear();
}

fn assembled() -> Result<config::Loaded, config::FileError> {
    config::assemble(include_str!("plant.toml"), Path::new("plant.toml"), |_| Ok(catalogue()))
}

fn catalogue() -> Catalogue {
    let tags = DEMO_TAGS.map(|tag| tag.name);
    let column = |of: fn(&datasets::DemoTag) -> f64| DEMO_TAGS.iter().map(of).collect::<Vec<f64>>();
    let columns = [
        ("fail_lo", column(|tag| tag.fail[0])),
        ("fail_hi", column(|tag| tag.fail[1])),
        ("suspect_lo", column(|tag| tag.suspect[0])),
        ("suspect_hi", column(|tag| tag.suspect[1])),
        ("suspect_per_s", column(|tag| tag.suspect_per_s)),
    ];
    Catalogue::new(&tags, &columns)
}

/// Sends the plant's rows at their pace, over the Kafka protocol.
struct Producer<'a> {
    broker: &'a MockBroker,
    rows: std::iter::Peekable<datasets::DemoPlant>,
    length: Duration,
    began: Instant,
    sent: u64,
}

impl Producer<'_> {
    /// Sends what is due by now; whether the script goes on.
    fn send_due(&mut self) -> Result<bool, SourceError> {
        let whole = DEMO_SCRIPT_TICKS as f64 * 1e9;
        let share = self.began.elapsed().as_secs_f64() / self.length.as_secs_f64().max(1e-9);
        let due = (share.min(1.0) * whole) as i64;
        let mut sent = 0;
        while let Some(row) = self.rows.next_if(|row| row.ts_ns - EPOCH_NS < due) {
            let value = if row.value.is_nan() { "null".to_string() } else { row.value.to_string() };
            let (ts, tag, quality) = (row.ts_ns, row.tag, row.quality);
            let payload = format!(r#"{{"ts":{ts},"tag":"{tag}","value":{value},"quality":{quality}}}"#);
            self.broker.send(TOPIC, 0, tag.as_bytes(), payload.as_bytes())?;
            sent += 1;
        }
        if sent > 0 {
            self.broker.flush()?;
            self.sent += sent;
        }
        Ok(share < 1.0)
    }
}

/// Tells each event as a line, in their order.
pub struct Lines<F: FnMut(String)>(pub F);

impl<F: FnMut(String)> Show for Lines<F> {
    fn show(&mut self, step: &Step<'_>) {
        let mut lines: Vec<(i64, String)> =
            step.out.events.iter().map(|event| (event.at, describe(event))).collect();
        let told = step.out.values.iter().filter(|v| v.horizon_ns > 0 && v.horizon_ns % 10_000_000_000 == 0);
        for value in told {
            let (at, horizon) = (seconds(value.ts), value.horizon_ns / 1_000_000_000);
            let (value, lo, hi) = (value.value, value.lo, value.hi);
            let line =
                format!("{at:>5} s  served by a model for {horizon} s: {value:.2} in [{lo:.2}, {hi:.2}]");
            lines.push((at * 1_000_000_000 + EPOCH_NS, line));
        }
        lines.sort();
        for (_, line) in lines {
            (self.0)(line);
        }
    }
}

/// Feeds the live view.
struct Watched<'a>(&'a Screen);

impl Show for Watched<'_> {
    fn show(&mut self, step: &Step<'_>) {
        feed(&mut self.0.scene(), step);
    }
}

/// Puts what happened into a scene made by [`scene`].
pub fn feed(scene: &mut Scene, step: &Step<'_>) {
    if let Some(polled) = step.polled {
        samples(polled, |tag, ts, value| scene.sample(tag, ts, value));
    }
    let Some(pipeline) = step.pipeline else { return };
    let signals = pipeline.signals();
    for value in &step.out.values {
        scene.serve(&Served::new(value, &signals[value.group as usize].0, pipeline));
    }
    for event in &step.out.events {
        scene.tell(event);
    }
    scene.advance(step.elapsed, pipeline.counters(), pipeline.progress());
}

/// The demo's plant before its first row.
pub fn scene(length: Duration) -> Scene {
    let span_ns = DEMO_SCRIPT_TICKS as i64 * 1_000_000_000;
    let mut scene = Scene::new(Setup { start_ns: EPOCH_NS, span_ns, period_ns: 1_000_000_000, length });
    for tag in &DEMO_TAGS {
        scene.add_tag(tag.name, Scale { unit: tag.unit.into(), fail: tag.fail, suspect: tag.suspect });
    }
    for group in assembled().iter().flat_map(|loaded| &loaded.plan.groups) {
        scene.add_signal(&group.raw.id, &group.raw.members);
    }
    scene
}

/// The rows of the demo's topic: long, and without a value where the quality is bad.
fn samples(polled: &Polled, mut each: impl FnMut(&str, i64, f64)) {
    let column = |name| polled.batch.column_by_name(name);
    let ts = column(connectors::TS).and_then(|c| c.as_any().downcast_ref::<TimestampNanosecondArray>());
    let tag = column(connectors::TAG).and_then(|c| c.as_any().downcast_ref::<StringArray>());
    let value = column(connectors::VALUE).and_then(|c| c.as_any().downcast_ref::<Float64Array>());
    let (Some(ts), Some(tag), Some(value)) = (ts, tag, value) else { return };
    for i in 0..polled.batch.num_rows() {
        each(tag.value(i), ts.value(i), if value.is_valid(i) { value.value(i) } else { f64::NAN });
    }
}

fn seconds(ts: i64) -> i64 {
    (ts - EPOCH_NS) / 1_000_000_000
}

fn describe(event: &Event) -> String {
    let at = seconds(event.at);
    match &event.what {
        What::Alert { rule, target, transition, why, .. } => {
            let word = match transition {
                Transition::Firing => "ALERT   ",
                Transition::Resolved => "resolved",
            };
            let why = why.filter(|_| *transition == Transition::Firing).and_then(|w| {
                let (observed, lo, hi) = (w.observed?, w.lo, w.hi);
                let end = |x: Option<f64>| x.map_or("-".into(), |x| format!("{x:.2}"));
                Some(format!(" (observed {observed:.2}, accepted {} to {})", end(lo), end(hi)))
            });
            format!("{at:>5} s  {word} {rule} of {target}{}", why.unwrap_or_default())
        }
        What::Signal { signal, from, to, reason, .. } => {
            format!("{at:>5} s  signal   {signal}: {from} -> {to} ({reason})")
        }
        What::Operational { message, .. } => format!("{at:>5} s  note     {message}"),
        What::Member { group, member, from, to } => {
            format!("{at:>5} s  member   {member} of {group}: {from} -> {to}")
        }
        What::Future { tag, .. } => format!("{at:>5} s  future   a row of {tag} was set aside"),
    }
}
