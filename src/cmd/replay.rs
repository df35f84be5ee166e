//! `truegauge replay`: files through the same operators as the stream, into a run directory.

use super::CommandError;
use crate::config;
use crate::run_dir::{Alerts, Summary, write_lines, write_signals, write_verdicts};
use crate::wiring::{self, DeadLetter};
use clap::ValueEnum;
use connectors::sink::jsonl::JsonlWriter;
use connectors::source::file::FileSource;
use connectors::{Polled, Source};
use engine::{Outputs, Pipeline};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

/// Arguments of `replay`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files and directories: Parquet, CSV, Arrow IPC, JSON lines. Together they are one log.
    #[arg(required = true)]
    data: Vec<PathBuf>,
    /// The configuration file.
    #[arg(short, long)]
    config: PathBuf,
    /// The run directory; made if it is not there.
    #[arg(short, long)]
    out: PathBuf,
    /// Which verdicts are written.
    #[arg(long, value_enum, default_value_t = Emit::Bad)]
    emit: Emit,
    /// Rows in a batch; changes speed, never output. Absent: 65,536, or eight a tag of a long catalogue.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    batch_rows: Option<u32>,
    /// Threads: with two or more, files are decoded ahead; changes speed, never output.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    threads: u32,
    /// Print the summary as one JSON object on standard output.
    #[arg(long)]
    json: bool,
}

/// Which verdicts are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Emit {
    /// None; alerts and signal changes only.
    Events,
    /// Those with flag 3 or 4.
    Bad,
    /// All.
    All,
}

/// Rows in a batch: enough that a tag's state is worth fetching, few enough to stay near and small.
const FEWEST_ROWS: usize = 65_536;
const MOST_ROWS: usize = 524_288;
const ROWS_A_TAG: usize = 8;

/// Batches decoded ahead.
const AHEAD: usize = 2;

/// Replays and writes the run directory.
///
/// # Errors
/// When the configuration, the data or the directory can't be used.
pub fn run(args: &Args) -> Result<(), CommandError> {
    let began = Instant::now();
    let loaded = config::load(&args.config)?;
    let plan = Arc::new(loaded.plan);
    let tags = plan.catalogue.as_ref().map_or(0, |catalogue| catalogue.rows.len());
    let batch_rows =
        args.batch_rows.map_or((tags * ROWS_A_TAG).clamp(FEWEST_ROWS, MOST_ROWS), |rows| rows as usize);
    let mut source = FileSource::open(&args.data, &loaded.file.source.files, batch_rows)?;
    std::fs::create_dir_all(&args.out)
        .map_err(|source| CommandError::Io { path: args.out.clone(), source })?;
    let path = |name: &str| args.out.join(name);
    let mut run = Run {
        pipeline: Pipeline::new(plan.clone(), 0),
        out: Outputs { all_verdicts: args.emit == Emit::All, ..Outputs::default() },
        late: JsonlWriter::create(&path("late.jsonl"))?,
        dead: JsonlWriter::create(&path("dlq.jsonl"))?,
        keep_verdicts: args.emit != Emit::Events,
        progress: Progress::new(source.total_rows_hint()),
    };
    if args.threads == 1 {
        while let Some(polled) = source.poll(Duration::MAX)? {
            run.take(&polled)?;
        }
    } else {
        decode_ahead(&mut source, &mut run)?;
    }
    let Run { mut pipeline, mut out, mut late, mut dead, progress, .. } = run;
    progress.end();
    let last = pipeline.progress();
    pipeline.end(last, &mut out);
    write_refused(&mut out, &mut late, &mut dead)?;
    late.finish()?;
    dead.finish()?;
    out.events.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
    let rules: Vec<&str> = plan.rules.iter().map(|r| r.raw.id.as_str()).collect();
    let groups: Vec<&str> = plan.groups.iter().map(|g| g.raw.id.as_str()).collect();
    let all: Vec<&str> = rules.iter().chain(&groups).copied().collect();
    if args.emit == Emit::Events {
        out.verdicts.clear();
    }
    write_verdicts(&path("verdicts.parquet"), &pipeline, &all, &mut out.verdicts)?;
    write_signals(&path("signals.parquet"), &pipeline, &groups, &mut out.values)?;
    write_lines(&path("alerts.jsonl"), &out.events)?;
    write_lines::<()>(&path("journal.jsonl"), &[])?;
    let mut alerts = Alerts::default();
    alerts.add(&out.events);
    let summary = Summary::new([&pipeline], alerts, &plan.digest, began.elapsed().as_secs_f64());
    let counters = pipeline.counters();
    if !counters.balanced() {
        return Err(CommandError::Unbalanced(Box::new(counters)));
    }
    let text = serde_json::to_string_pretty(&summary)?;
    std::fs::write(path("summary.json"), text + "\n")
        .map_err(|source| CommandError::Io { path: path("summary.json"), source })?;
    if args.json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        println!("{summary}written to {}", args.out.display());
    }
    // The process ends here: taking the state of many tags apart piece by piece would be work for nobody.
    std::mem::forget((pipeline, plan, loaded.file));
    Ok(())
}

/// A replay on its way.
struct Run {
    pipeline: Pipeline,
    out: Outputs,
    late: JsonlWriter,
    dead: JsonlWriter,
    keep_verdicts: bool,
    progress: Progress,
}

impl Run {
    fn take(&mut self, polled: &Polled) -> Result<(), CommandError> {
        wiring::push(&mut self.pipeline, polled, &mut self.out)?;
        for bad in &polled.bad {
            self.dead.write(&DeadLetter::undecodable(bad))?;
        }
        write_refused(&mut self.out, &mut self.late, &mut self.dead)?;
        if !self.keep_verdicts {
            self.out.verdicts.clear();
        }
        self.progress.at(polled.batch.num_rows() as u64);
        Ok(())
    }
}

fn write_refused(
    out: &mut Outputs,
    late: &mut JsonlWriter,
    dead: &mut JsonlWriter,
) -> Result<(), CommandError> {
    for row in out.late.drain(..) {
        late.write(&row)?;
    }
    for row in out.dead.drain(..) {
        dead.write(&DeadLetter::refused(&row, 0, true))?;
    }
    Ok(())
}

/// Decodes in a thread of its own; batches come in order, so output does not change.
fn decode_ahead(source: &mut FileSource, run: &mut Run) -> Result<(), CommandError> {
    std::thread::scope(|scope| {
        let (send, receive) = sync_channel(AHEAD);
        let decoder = scope.spawn(move || {
            while let Some(polled) = source.poll(Duration::MAX)? {
                if send.send(polled).is_err() {
                    break;
                }
            }
            Ok::<(), connectors::SourceError>(())
        });
        for polled in receive {
            run.take(&polled)?;
        }
        match decoder.join() {
            Ok(result) => Ok(result?),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Progress on a terminal; nothing elsewhere.
struct Progress {
    rows: u64,
    whole: Option<u64>,
    shown: Option<Instant>,
}

impl Progress {
    fn new(whole: Option<u64>) -> Self {
        Progress { rows: 0, whole, shown: std::io::stderr().is_terminal().then(Instant::now) }
    }

    fn at(&mut self, rows: u64) {
        self.rows += rows;
        let Some(shown) = self.shown.filter(|s| s.elapsed() >= Duration::from_millis(200)) else { return };
        let _ = shown;
        self.shown = Some(Instant::now());
        let share =
            self.whole.filter(|w| *w > 0).map_or(String::new(), |w| format!(" ({} %)", self.rows * 100 / w));
        let _ = write!(std::io::stderr(), "\r{} rows{share}", self.rows);
    }

    fn end(self) {
        if self.shown.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
