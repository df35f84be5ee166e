//! All metric names, and what a running stream shows of itself. Plain data: whoever serves it writes the text.

use std::sync::{Mutex, PoisonError};

/// Every metric there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Metric {
    /// Rows by what became of them; label `fate`.
    Rows,
    /// Rows waiting inside `max_delay`, or for `max_jump`.
    RowsHeld,
    /// Rows that came after their group's tick had closed.
    MissedTick,
    /// Rows from the future, a part of the processed.
    FutureRows,
    /// Rows released early because too many were held for one tag.
    EarlyReleases,
    /// Samples of group members forgotten because too many waited for a tick.
    ForgottenSamples,
    /// Tags known.
    Tags,
    /// Most tags a partition may know.
    TagsLimit,
    /// Verdicts by rule and flag.
    Verdicts,
    /// Alerts by transition: `firing`, `resolved`.
    Alerts,
    /// Alerts that fire now; labels `rule`, `severity`.
    AlertsFiring,
    /// Signals: 1 for the state it is in; labels `signal`, `state`.
    SignalState,
    /// Switches of signals to a fallback.
    Switches,
    /// Signals that came back.
    Recoveries,
    /// Progress in event time, seconds since 1970.
    Progress,
    /// Offset of the next record to read.
    NextOffset,
    /// Events that the sink has not acknowledged.
    EventsPending,
    /// Most events that may be pending in memory; more go to the spill.
    EventsPendingLimit,
    /// Events that went to the spill.
    EventsSpilled,
    /// Other outputs that the sink has not acknowledged.
    BulkPending,
    /// Most other outputs that may be pending; at the limit nothing is read.
    BulkPendingLimit,
    /// Outputs that could never be delivered.
    GivenUp,
    /// Checkpoints published.
    Checkpoints,
    /// Checkpoints that could not be published.
    CheckpointFailures,
    /// Bytes of the last checkpoint.
    CheckpointBytes,
    /// Entries of the journal written.
    JournalEntries,
    /// Always 1; label `version`.
    BuildInfo,
}

/// Whether a metric only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
}

impl Metric {
    /// The name, without the suffix `_total` that counters get when they are written.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Rows => "truegauge_rows",
            Metric::RowsHeld => "truegauge_rows_held",
            Metric::MissedTick => "truegauge_missed_tick",
            Metric::FutureRows => "truegauge_future_rows",
            Metric::EarlyReleases => "truegauge_early_releases",
            Metric::ForgottenSamples => "truegauge_forgotten_samples",
            Metric::Tags => "truegauge_tags",
            Metric::TagsLimit => "truegauge_tags_limit",
            Metric::Verdicts => "truegauge_verdicts",
            Metric::Alerts => "truegauge_alerts",
            Metric::AlertsFiring => "truegauge_alerts_firing",
            Metric::SignalState => "truegauge_signal_state",
            Metric::Switches => "truegauge_switches_to_fallback",
            Metric::Recoveries => "truegauge_recoveries",
            Metric::Progress => "truegauge_progress_seconds",
            Metric::NextOffset => "truegauge_next_offset",
            Metric::EventsPending => "truegauge_events_pending",
            Metric::EventsPendingLimit => "truegauge_events_pending_limit",
            Metric::EventsSpilled => "truegauge_events_spilled",
            Metric::BulkPending => "truegauge_bulk_pending",
            Metric::BulkPendingLimit => "truegauge_bulk_pending_limit",
            Metric::GivenUp => "truegauge_outputs_given_up",
            Metric::Checkpoints => "truegauge_checkpoints",
            Metric::CheckpointFailures => "truegauge_checkpoint_failures",
            Metric::CheckpointBytes => "truegauge_checkpoint_bytes",
            Metric::JournalEntries => "truegauge_journal_entries",
            Metric::BuildInfo => "truegauge_build_info",
        }
    }

    /// What it says, for a reader.
    pub fn help(self) -> &'static str {
        match self {
            Metric::Rows => "Rows that came in, by what became of them",
            Metric::RowsHeld => "Rows waiting inside max_delay or for max_jump",
            Metric::MissedTick => "Rows that came after the tick of their group had closed",
            Metric::FutureRows => "Rows from the future, a part of the processed",
            Metric::EarlyReleases => "Rows released early because too many were held for one tag",
            Metric::ForgottenSamples => "Samples of members forgotten because too many waited for a tick",
            Metric::Tags => "Tags known",
            Metric::TagsLimit => "Most tags a partition may know",
            Metric::Verdicts => "Verdicts by rule and flag; a group counts as a rule",
            Metric::Alerts => "Alert transitions",
            Metric::AlertsFiring => "Alerts that fire now; a group counts as a rule",
            Metric::SignalState => "1 for the state that a signal is in",
            Metric::Switches => "Switches of signals to a fallback",
            Metric::Recoveries => "Signals that came back",
            Metric::Progress => "Progress in event time",
            Metric::NextOffset => "Offset of the next record to read",
            Metric::EventsPending => "Events that the sink has not acknowledged",
            Metric::EventsPendingLimit => "Most events that may be pending in memory",
            Metric::EventsSpilled => "Events that went to the spill because the sink is slow",
            Metric::BulkPending => "Served values, late rows and dead letters not acknowledged",
            Metric::BulkPendingLimit => "Most of them that may be pending; at the limit nothing is read",
            Metric::GivenUp => "Outputs that could never be delivered",
            Metric::Checkpoints => "Checkpoints published",
            Metric::CheckpointFailures => "Checkpoints that could not be published",
            Metric::CheckpointBytes => "Bytes of the last checkpoint",
            Metric::JournalEntries => "Journal entries written",
            Metric::BuildInfo => "Always 1; its label is the version of the program",
        }
    }

    /// Counter or gauge.
    pub fn kind(self) -> Kind {
        match self {
            Metric::Rows
            | Metric::MissedTick
            | Metric::FutureRows
            | Metric::EarlyReleases
            | Metric::ForgottenSamples
            | Metric::Verdicts
            | Metric::Alerts
            | Metric::Switches
            | Metric::Recoveries
            | Metric::EventsSpilled
            | Metric::GivenUp
            | Metric::Checkpoints
            | Metric::CheckpointFailures
            | Metric::JournalEntries => Kind::Counter,
            _ => Kind::Gauge,
        }
    }
}

/// One value of one metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Which metric.
    pub metric: Metric,
    /// Names and values of its labels.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: f64,
}

/// A signal as it stands.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SignalReading {
    /// The signal.
    pub signal: String,
    /// Partition that serves it.
    pub partition: u32,
    /// The word of its state.
    pub state: &'static str,
}

/// What a running stream shows of itself at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Readout {
    /// Values of the metrics; those of one metric stand together.
    pub readings: Vec<Reading>,
    /// The signals.
    pub signals: Vec<SignalReading>,
}

/// Where the driver puts the newest read-out and the server finds it.
#[derive(Debug, Default)]
pub struct Board(Mutex<Readout>);

impl Board {
    /// Replaces the read-out.
    pub fn put(&self, readout: Readout) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = readout;
    }

    /// The newest read-out.
    pub fn read(&self) -> Readout {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
