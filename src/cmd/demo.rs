//! `truegauge demo`: an in-process Kafka, a simulated plant with labelled faults, and the real engine reading from it.

use super::CommandError;
use super::run::stop_flag;
use crate::config;
use crate::live::Live;
use crate::run_dir::{Alerts, Summary};
use clap::builder::NonEmptyStringValueParser;
use connectors::source::kafka::mock::MockBroker;
use connectors::source::kafka::{KafkaConfig, KafkaSource, Offsets};
use connectors::{Source, SourceError};
use datasets::{DEMO_SCRIPT_TICKS, DEMO_TAGS, EPOCH_NS, demo_plant};
use detectors::params::Span;
use engine::{Catalogue, Event, Outputs, Transition, What};
use serde::Serialize;
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

/// Runs the demo and prints what happens as it happens.
///
/// # Errors
/// When the in-process Kafka can't be used.
pub fn run(args: &Args) -> Result<(), CommandError> {
    let length: Span = args.length.parse().map_err(|e| CommandError::Usage(format!("--for: {e}")))?;
    let length = Duration::from_nanos(length.to_ns().unsigned_abs());
    let stop = stop_flag()?;
    let summary = play(length, &stop, &mut |line| {
        if !args.json {
            println!("{line}");
        }
    })?;
    if args.json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        print!("{}", summary.run);
        println!("the plant had {} faults", summary.labels);
    }
    Ok(())
}

/// Plays one round of the plant's script in `length`, telling each event as a line.
///
/// # Errors
/// As [`run`].
pub fn play(
    length: Duration,
    stop: &AtomicBool,
    tell: &mut dyn FnMut(String),
) -> Result<DemoSummary, CommandError> {
    let began = Instant::now();
    let plan = Arc::new(
        config::assemble(include_str!("plant.toml"), Path::new("plant.toml"), |_| Ok(catalogue()))?.plan,
    );
    let broker = MockBroker::start(&[(TOPIC, 1)])?;
    let kafka = format!(
        "brokers = {:?}\ntopics = [{TOPIC:?}]\nmax_wait = \"20ms\"\ndecode.json = {{ ts_unit = \"ns\" }}",
        broker.brokers()
    );
    let kafka: KafkaConfig = toml::from_str(&kafka).expect("the demo's own configuration is right");
    let mut source = KafkaSource::open(&kafka, &Offsets::new(), false)?;
    let (mut live, mut out, mut alerts) = (Live::new(plan.clone()), Outputs::default(), Alerts::default());
    let mut producer =
        Producer { broker: &broker, rows: demo_plant(SEED).peekable(), length, began, sent: 0 };
    let (mut taken, mut last_row) = (0u64, Instant::now());
    loop {
        let more = producer.send_due()? && !stop.load(Ordering::Relaxed);
        let Some(polled) = source.poll(Duration::from_millis(20))? else { break };
        let rows = polled.batch.num_rows() as u64 + polled.bad.len() as u64;
        if rows > 0 {
            (taken, last_row) = (taken + rows, Instant::now());
        }
        live.take(&polled, &mut out)?;
        report(&mut out, &mut alerts, tell);
        if !more && taken >= producer.sent {
            break;
        }
        if last_row.elapsed() > Duration::from_secs(30) {
            let reason = format!("{} rows were sent, {taken} came", producer.sent);
            return Err(SourceError::Kafka { action: "demo", reason }.into());
        }
    }
    live.end(&mut out);
    report(&mut out, &mut alerts, tell);
    let run = Summary::new(live.pipelines().values(), alerts, &plan.digest, began.elapsed().as_secs_f64());
    Ok(DemoSummary { run, labels: demo_plant(SEED).labels(1).len() as u64 })
}

fn catalogue() -> Catalogue {
    let rows = DEMO_TAGS.iter().map(|tag| {
        let ([a, b], [c, d]) = (tag.fail, tag.suspect);
        let names = ["fail_lo", "fail_hi", "suspect_lo", "suspect_hi", "suspect_per_s"];
        let numbers = names.iter().map(|n| Arc::from(*n)).zip([a, b, c, d, tag.suspect_per_s]);
        (tag.name.to_string(), numbers.collect())
    });
    Catalogue { rows: rows.collect() }
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

/// Tells the events in their order.
fn report(out: &mut Outputs, alerts: &mut Alerts, tell: &mut dyn FnMut(String)) {
    alerts.add(&out.events);
    let mut lines: Vec<(i64, String)> =
        out.events.drain(..).map(|event| (event.at, describe(&event))).collect();
    for value in out.values.drain(..).filter(|v| v.horizon_ns > 0 && v.horizon_ns % 10_000_000_000 == 0) {
        let (at, horizon) = (seconds(value.ts), value.horizon_ns / 1_000_000_000);
        let (value, lo, hi) = (value.value, value.lo, value.hi);
        let line = format!("{at:>5} s  served by a model for {horizon} s: {value:.2} in [{lo:.2}, {hi:.2}]");
        lines.push((at * 1_000_000_000 + EPOCH_NS, line));
    }
    lines.sort();
    for (_, line) in lines {
        tell(line);
    }
    out.verdicts.clear();
    out.late.clear();
    out.dead.clear();
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
        What::Member { group, member, from, to } => {
            format!("{at:>5} s  member   {member} of {group}: {from} -> {to}")
        }
        What::Future { tag, .. } => format!("{at:>5} s  future   a row of {tag} was set aside"),
    }
}
