//! `truegauge replay`: files through the same operators as the stream, into a run directory.

use super::CommandError;
use super::run::stop_flag;
use crate::config;
use crate::live::Live;
use crate::run_dir::{InOrder, SortLimits, Summary, claim};
use crate::wiring::{DeadCodes, DeadLetter};
use clap::ValueEnum;
use connectors::sink::jsonl::JsonlWriter;
use connectors::source::file::{FileSource, FilesConfig};
use connectors::source::recording::RecordingSource;
use connectors::{Polled, Source};
use engine::Outputs;
use engine::checkpoint::Checkpoint;
use engine::driver::Origin;
use engine::journal::{self, Record};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

/// Arguments of `replay`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files and directories: Parquet, CSV, Arrow IPC, JSON lines; together they are one log. Or one recording of `run
    /// --record`, whose partitions are kept.
    #[arg(required = true)]
    data: Vec<PathBuf>,
    /// The configuration file.
    #[arg(short, long)]
    config: PathBuf,
    /// The run directory; made if it is not there. An earlier run in it is replaced; a directory that holds anything else
    /// is refused.
    #[arg(short, long)]
    out: PathBuf,
    /// Apply the commands and clock ticks of a journal at their places: that of the recording.
    #[arg(long)]
    journal: Option<PathBuf>,
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
    keep_memory();
    let loaded = config::load(&args.config)?;
    let plan = Arc::new(loaded.plan);
    let records = args.journal.as_deref().map(read_journal).transpose()?.unwrap_or_default();
    let mut out = Outputs { all_verdicts: args.emit == Emit::All, ..Outputs::default() };
    let mut live = Live::new(plan.clone());
    let tags = plan.catalogue.as_ref().map_or(0, engine::Catalogue::len);
    let batch_rows =
        args.batch_rows.map_or((tags * ROWS_A_TAG).clamp(FEWEST_ROWS, MOST_ROWS), |rows| rows as usize);
    let files = &loaded.file.source.files;
    let (mut source, rows) = open(args, files, batch_rows, &mut live, &records, &mut out)?;
    let inputs: Vec<&Path> = args.data.iter().chain(&args.journal).map(PathBuf::as_path).collect();
    if claim(&args.out, &inputs)? {
        eprintln!("truegauge: {} held an earlier run, which this one replaces", args.out.display());
    }
    let path = |name: &str| args.out.join(name);
    let stop = stop_flag()?;
    let mut journal = JsonlWriter::create(&path("journal.jsonl"))?;
    for record in &records {
        journal.write(record)?;
    }
    drop(records);
    let mut run = Run {
        live,
        sorted: InOrder::new(&args.out, &plan, SortLimits::default()),
        out,
        late: JsonlWriter::create(&path("late.jsonl"))?,
        dead: JsonlWriter::create(&path("dlq.jsonl"))?,
        codes: DeadCodes::default(),
        keep_verdicts: args.emit != Emit::Events,
        row_is_record: source.row_is_record(),
        progress: Progress::new(rows),
    };
    if args.threads == 1 {
        while !stop.load(Ordering::Relaxed)
            && let Some(polled) = source.poll(Duration::MAX)?
        {
            run.take(&polled)?;
        }
    } else {
        decode_ahead(source.as_mut(), &mut run, &stop)?;
    }
    let interrupted = stop.load(Ordering::Relaxed);
    run.live.end(&mut run.out);
    run.codes.add_refused(&run.out.dead, 0, run.row_is_record);
    run.sort_out(0)?;
    let Run { live, late, dead, codes, progress, sorted, .. } = run;
    progress.end();
    late.finish()?;
    dead.finish()?;
    journal.finish()?;
    let alerts = sorted.finish(live.names())?;
    let summary = Summary {
        interrupted,
        dead_letter_codes: codes,
        ..Summary::new(live.pipelines(), alerts, &plan.digest, began.elapsed().as_secs_f64())
    };
    for pipeline in live.pipelines() {
        let counters = pipeline.counters();
        if !counters.balanced() {
            return Err(CommandError::Unbalanced(Box::new(counters)));
        }
    }
    let text = serde_json::to_string_pretty(&summary)?;
    std::fs::write(path("summary.json"), text + "\n")
        .map_err(|source| CommandError::Io { path: path("summary.json"), source })?;
    if interrupted {
        eprintln!("truegauge: interrupted; {} has what was read until then", args.out.display());
    }
    if args.json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        println!("{summary}written to {}", args.out.display());
    }
    // The process ends here: taking the state of many tags apart piece by piece would be work for nobody.
    std::mem::forget((live, plan));
    Ok(())
}

/// Frees one large block that was never written. glibc's allocator learns from it to keep blocks up to this size instead of
/// giving each back to the system, which would clear every page of every batch anew; other allocators don't mind.
pub(super) fn keep_memory() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(KEPT_BYTES)));
}

/// Just below 32 MiB, the most that is learned.
const KEPT_BYTES: usize = (32 << 20) - (64 << 10);

/// The source: files, or a recording, whose partitions get their journals and the states they began with.
fn open(
    args: &Args,
    files: &FilesConfig,
    rows: usize,
    live: &mut Live,
    records: &[Record],
    out: &mut Outputs,
) -> Result<(Box<dyn Source + Send>, Option<u64>), CommandError> {
    let recordings = args.data.iter().filter(|path| RecordingSource::is_recording(path)).count();
    if recordings == 0 {
        if args.journal.is_some() {
            let message =
                "--journal goes with a recording: other files don't say which partition and offset a row had";
            return Err(CommandError::Usage(message.into()));
        }
        let source = FileSource::open(&args.data, files, rows)?;
        let hint = source.total_rows_hint();
        return Ok((Box::new(source), hint));
    }
    let [path] = args.data.as_slice() else {
        return Err(CommandError::Usage("a recording is replayed alone".into()));
    };
    let source = RecordingSource::open(path, rows)?;
    for (number, (topic, partition)) in source.partitions().iter().enumerate() {
        let number = number as u32;
        let name = Origin { topic: topic.clone(), partition: *partition }.to_string();
        live.script(number, records.iter().filter(|r| r.partition == name).cloned().collect());
        if let Some(bytes) = source.start(number)? {
            let start = Checkpoint::from_bytes(&bytes)?;
            live.start(number, &start.pipeline, out)?;
        }
    }
    Ok((Box::new(source), None))
}

fn read_journal(path: &Path) -> Result<Vec<Record>, CommandError> {
    let text = std::fs::read(path).map_err(|source| CommandError::Io { path: path.into(), source })?;
    journal::parse(&text).map_err(|source| CommandError::Journal { path: path.into(), source })
}

/// A replay on its way.
struct Run {
    live: Live,
    out: Outputs,
    sorted: InOrder,
    late: JsonlWriter,
    dead: JsonlWriter,
    codes: DeadCodes,
    keep_verdicts: bool,
    row_is_record: bool,
    progress: Progress,
}

impl Run {
    fn take(&mut self, polled: &Polled) -> Result<(), CommandError> {
        self.live.take(polled, &mut self.out)?;
        for bad in &polled.bad {
            self.dead.write(&DeadLetter::undecodable(bad))?;
        }
        self.codes.add_all(polled, &self.out.dead, self.row_is_record);
        self.sort_out(polled.partition)?;
        self.progress.at(polled.batch.num_rows() as u64);
        Ok(())
    }

    /// Every output to its file, or to where it waits for its place in it.
    fn sort_out(&mut self, partition: u32) -> Result<(), CommandError> {
        for row in self.out.late.drain(..) {
            self.late.write(&row)?;
        }
        for row in self.out.dead.drain(..) {
            self.dead.write(&DeadLetter::refused(&row, partition, self.row_is_record))?;
        }
        if !self.keep_verdicts {
            self.out.verdicts.clear();
        }
        self.sorted.take(&mut self.out, self.live.names())
    }
}

/// Decodes in a thread of its own; batches come in order, so output does not change.
fn decode_ahead(
    source: &mut (dyn Source + Send),
    run: &mut Run,
    stop: &AtomicBool,
) -> Result<(), CommandError> {
    std::thread::scope(|scope| {
        let (send, receive) = sync_channel(AHEAD);
        let decoder = scope.spawn(move || {
            while !stop.load(Ordering::Relaxed)
                && let Some(polled) = source.poll(Duration::MAX)?
            {
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
