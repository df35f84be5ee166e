//! `truegauge run`: Kafka in; Kafka or standard output out.

use super::CommandError;
use crate::config;
use crate::live::Live;
use crate::payload::{Line, Refused, Served, subject};
use crate::run_dir::{Alerts, Summary};
use crate::wiring::DeadLetter;
use connectors::sink::kafka::{KafkaSink, TopicKind};
use connectors::source::kafka::{Assign, KafkaSource, Offsets};
use connectors::{BadRecord, Polled, SinkError, Source};
use engine::{Counters, Outputs, Pipeline, Plan};
use serde::Serialize;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Arguments of `run`.
///
/// State is not kept across restarts yet: a restart begins where `from` says, and what was sent is sent again with the
/// same ids. Offsets committed to Kafka are for people and lag monitors.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration file.
    #[arg(short, long)]
    config: PathBuf,
    /// Stop at what the topics hold at start.
    #[arg(long)]
    until_end: bool,
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

/// Between commits of offsets.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// How long a commit waits for what was sent; the next one tries again.
const COMMIT_WAIT: Duration = Duration::from_millis(500);
/// How long the end waits for what was sent.
const END_WAIT: Duration = Duration::from_secs(30);

/// Runs until the end of the input, or an interrupt; a second interrupt ends the process at once.
///
/// # Errors
/// When the configuration can't be used, or a broker fails for good.
pub fn run(args: &Args) -> Result<(), CommandError> {
    let summary = stream(args)?;
    if args.json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        eprint!("{summary}");
    }
    Ok(())
}

/// The same without printing the summary.
///
/// # Errors
/// As [`run`].
pub fn stream(args: &Args) -> Result<Summary, CommandError> {
    let began = Instant::now();
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
    let stop = stop_flag()?;
    let mut source = KafkaSource::open(&kafka, &Offsets::new(), args.until_end)?;
    let to = match &loaded.file.sink.kafka {
        Some(sink) => To::Kafka(Box::new(KafkaSink::open(sink, &kafka.brokers)?)),
        None if args.json => To::Nowhere,
        None => To::Lines,
    };
    let mut sender = Sender {
        plan: plan.clone(),
        to,
        partitions: source.partitions().to_vec(),
        alerts: Alerts::default(),
    };
    let (mut live, mut out, mut positions) = (Live::new(plan.clone()), Outputs::default(), Offsets::new());
    let mut committed = Instant::now();
    let mut dirty = false;
    while !stop.load(Ordering::Relaxed) {
        let Some(polled) = source.poll(kafka.max_wait.get())? else {
            live.end(&mut out);
            if let Some(first) = live.pipelines().values().next() {
                sender.send(first, &mut out)?;
            }
            break;
        };
        live.take(&polled, &mut out)?;
        if let Some(pipeline) = live.pipelines().get(&polled.partition) {
            sender.send(pipeline, &mut out)?;
        }
        sender.undecodable(&polled.bad)?;
        dirty |= advance(&mut positions, source.partitions(), &polled);
        if committed.elapsed() >= COMMIT_EVERY {
            committed = Instant::now();
            if dirty && sender.flush(COMMIT_WAIT)? {
                dirty = false;
                commit(&source, &positions, false);
            }
        }
    }
    if !sender.flush(END_WAIT)? {
        let reason = "not everything that was sent has arrived".into();
        return Err(SinkError::Kafka { action: "flush", reason }.into());
    }
    if dirty {
        commit(&source, &positions, true);
    }
    for pipeline in live.pipelines().values() {
        let counters: Counters = pipeline.counters();
        if !counters.balanced() {
            return Err(CommandError::Unbalanced(Box::new(counters)));
        }
    }
    let elapsed_s = began.elapsed().as_secs_f64();
    Ok(Summary::new(live.pipelines().values(), sender.alerts, &plan.digest, elapsed_s))
}

/// A flag that the first interrupt sets; the second ends the process.
pub(crate) fn stop_flag() -> Result<Arc<AtomicBool>, CommandError> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, stop.clone())
            .and_then(|_| signal_hook::flag::register(signal, stop.clone()))
            .map_err(|source| CommandError::Io { path: "interrupt".into(), source })?;
    }
    Ok(stop)
}

/// Offsets to read next, from what was polled; whether there was anything.
fn advance(positions: &mut Offsets, partitions: &[(String, i32)], polled: &Polled) -> bool {
    let last = polled.spans.iter().map(|s| s.offset).chain(polled.bad.iter().map(|b| b.offset)).max();
    let (Some(last), Some(at)) = (last, partitions.get(polled.partition as usize)) else { return false };
    positions.insert(at.clone(), last + 1);
    true
}

/// Nothing depends on committed offsets, so a refusal is only told.
fn commit(source: &KafkaSource, positions: &Offsets, wait: bool) {
    if let Err(error) = source.commit(positions, wait) {
        eprintln!("truegauge: {error}");
    }
}

/// Where results go.
enum To {
    Kafka(Box<KafkaSink>),
    Lines,
    Nowhere,
}

/// Sends results.
struct Sender {
    plan: Arc<Plan>,
    to: To,
    partitions: Vec<(String, i32)>,
    alerts: Alerts,
}

impl Sender {
    fn send(&mut self, pipeline: &Pipeline, out: &mut Outputs) -> Result<(), CommandError> {
        out.verdicts.clear();
        out.events.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
        self.alerts.add(&out.events);
        for event in out.events.drain(..) {
            self.one("event", TopicKind::Alerts, subject(&event.what), &event)?;
        }
        for value in out.values.drain(..) {
            let signal = &self.plan.groups[value.group as usize].raw.id;
            self.one("signal", TopicKind::Signals, signal, &Served::new(&value, signal, pipeline))?;
        }
        for row in out.late.drain(..) {
            self.one("late", TopicKind::Late, &row.tag, &row)?;
        }
        for row in out.dead.drain(..) {
            match &self.to {
                To::Kafka(_) => {
                    let payload = serde_json::to_vec(&Refused::new(&row))?;
                    let place = (pipeline.partition(), row.offset, Some(row.index));
                    self.dead(place, (row.code, &row.reason), row.tag.as_bytes(), &payload)?;
                }
                To::Lines => {
                    let mut letter = DeadLetter::refused(&row, pipeline.partition(), false);
                    (letter.origin, letter.partition) = self.origin(pipeline.partition());
                    line("dead_letter", &letter)?;
                }
                To::Nowhere => {}
            }
        }
        Ok(())
    }

    fn undecodable(&self, bad: &[BadRecord]) -> Result<(), CommandError> {
        for bad in bad {
            match &self.to {
                To::Kafka(_) => {
                    let key = bad.key.as_deref().unwrap_or_default();
                    let place = (bad.partition, bad.offset, bad.index);
                    self.dead(place, (bad.code, &bad.reason), key, &bad.raw)?;
                }
                To::Lines => {
                    let mut letter = DeadLetter::undecodable(bad);
                    (letter.origin, letter.partition) = self.origin(bad.partition);
                    line("dead_letter", &letter)?;
                }
                To::Nowhere => {}
            }
        }
        Ok(())
    }

    /// Topic and partition as Kafka has them.
    fn origin(&self, partition: u32) -> (&str, u32) {
        self.partitions.get(partition as usize).map_or(("", partition), |(t, p)| (t, p.unsigned_abs()))
    }

    fn one<T: Serialize>(
        &self,
        kind: &'static str,
        topic: TopicKind,
        key: &str,
        payload: &T,
    ) -> Result<(), CommandError> {
        match &self.to {
            To::Kafka(sink) => {
                sink.send(topic, key.as_bytes(), &serde_json::to_vec(payload)?, &[])?;
            }
            To::Lines => line(kind, payload)?,
            To::Nowhere => {}
        }
        Ok(())
    }

    /// A dead letter to Kafka: where it came from and why it is dead is in its headers.
    fn dead(
        &self,
        (partition, offset, index): (u32, i64, Option<u32>),
        (code, reason): (&str, &str),
        key: &[u8],
        payload: &[u8],
    ) -> Result<(), CommandError> {
        let To::Kafka(sink) = &self.to else { return Ok(()) };
        let (topic, number) = self.origin(partition);
        let (number, offset) = (number.to_string(), offset.to_string());
        let index = index.map(|i| i.to_string());
        let mut headers = vec![
            ("topic", topic.as_bytes()),
            ("partition", number.as_bytes()),
            ("offset", offset.as_bytes()),
            ("code", code.as_bytes()),
            ("reason", reason.as_bytes()),
        ];
        headers.extend(index.as_ref().map(|i| ("index", i.as_bytes())));
        sink.send(TopicKind::DeadLetters, key, payload, &headers)?;
        Ok(())
    }

    /// Whether all that was sent has arrived within `wait`.
    fn flush(&self, wait: Duration) -> Result<bool, CommandError> {
        let To::Kafka(sink) = &self.to else { return Ok(true) };
        let flushed = sink.flush(wait).is_ok();
        match sink.failed() {
            0 => Ok(flushed),
            n => {
                Err(SinkError::Kafka { action: "send", reason: format!("{n} messages were given up") }.into())
            }
        }
    }
}

fn line<T: Serialize>(kind: &'static str, payload: &T) -> Result<(), CommandError> {
    let mut text = serde_json::to_vec(&Line { kind, payload })?;
    text.push(b'\n');
    std::io::stdout()
        .write_all(&text)
        .map_err(|source| CommandError::Io { path: "standard output".into(), source })
}
