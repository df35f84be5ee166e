//! What comes out of a partition: verdicts, events, served values, late rows and dead letters.
//!
//! Payloads carry no wall time, offset or host, so the same fault has the same bytes after a restart and in a replay.

use detectors::sample::Flag;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// One verdict that is written: `rule` counts the rules first, then the groups.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VerdictRow {
    /// Time of the judged sample, or of the deadline or tick.
    pub ts: i64,
    /// Dense number of the tag, see [`Pipeline::tag_name`](crate::Pipeline::tag_name).
    pub tag: u32,
    /// Position of the rule, or number of rules + position of the group.
    pub rule: u32,
    /// The flag.
    pub flag: Flag,
    /// Score in 0..=1.
    pub score: f64,
    /// The judged value; absent when it was missing, and at a deadline.
    pub value: Option<f64>,
}

/// Why a verdict was reached.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// What was observed, in the detector's own unit: a value, a rate, a deviation.
    pub observed: Option<f64>,
    /// Lower end of the accepted band.
    pub lo: Option<f64>,
    /// Upper end of the accepted band.
    pub hi: Option<f64>,
    /// How far outside the band.
    pub margin: Option<f64>,
}

impl Explanation {
    /// From an observed statistic and the accepted band; what is not finite is left out.
    pub fn new(observed: f64, lo: f64, hi: f64) -> Self {
        let finite = |x: f64| x.is_finite().then_some(x);
        let margin = if observed > hi {
            finite(observed - hi)
        } else if observed < lo {
            finite(lo - observed)
        } else {
            None
        };
        Explanation { observed: finite(observed), lo: finite(lo), hi: finite(hi), margin }
    }
}

/// Anything emitted that has an identity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Deterministic identity: a digest of what the event is.
    pub id: String,
    /// Event time, nanoseconds since 1970 UTC.
    pub at: i64,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum What {
    /// An alert changed.
    Alert {
        /// Kept from birth to resolution.
        alert: String,
        /// The rule or group.
        rule: String,
        /// The tag or signal.
        target: String,
        /// `firing` or `resolved`.
        transition: Transition,
        /// Start of pending.
        since: i64,
        /// As configured.
        severity: String,
        /// Why it fired.
        #[serde(skip_serializing_if = "Option::is_none")]
        why: Option<Explanation>,
        /// Why it ended, when no sample ended it: `rule changed`, `rule removed`.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A signal changed its state.
    Signal {
        /// The signal.
        signal: String,
        /// State before.
        from: String,
        /// State after.
        to: String,
        /// Why.
        reason: String,
        /// Number of the command that caused it.
        #[serde(skip_serializing_if = "Option::is_none")]
        command: Option<u64>,
    },
    /// A member of a group was excluded, put on probation or taken back.
    Member {
        /// The group.
        group: String,
        /// The tag.
        member: String,
        /// State before.
        from: String,
        /// State after.
        to: String,
    },
    /// Something about the program's own work, not about the plant: a limit was reached, a rule never ran. Where the
    /// rows lie in partitions may matter to it.
    Operational {
        /// A stable word: `limit_tags`, `limit_held_rows`, `limit_group_samples`, `rule_ran_0_times`.
        code: String,
        /// What it is about: a rule, a group, a limit of the configuration.
        subject: String,
        /// For a reader.
        message: String,
    },
    /// A row from the future was set aside.
    Future {
        /// The tag.
        tag: String,
        /// The row's time.
        ts: i64,
        /// Its value, if any.
        #[serde(skip_serializing_if = "Option::is_none")]
        value: Option<f64>,
    },
}

/// What an alert did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transition {
    /// It fires.
    Firing,
    /// It ended.
    Resolved,
}

impl Event {
    /// An event with its id: a digest of `key`, the event's identity.
    pub(crate) fn new(at: i64, key: &[&str], what: What) -> Self {
        Event { id: digest(key), at, what }
    }

    /// An operational event; its id does not depend on the partition or the time.
    pub(crate) fn operational(at: i64, code: &str, subject: &str, message: String) -> Self {
        let what = What::Operational { code: code.into(), subject: subject.into(), message };
        Event::new(at, &["operational", code, subject], what)
    }

    /// That no row came to a rule by the end of the input, which ended at `at`.
    pub fn ran_0_times(rule: &str, at: i64) -> Self {
        let message = format!("rule {rule} ran 0 times: no row of its tags came");
        Event::operational(at, "rule_ran_0_times", rule, message)
    }
}

/// First 128 bits of SHA-256 over the parts, in hex; parts are separated so that they can't run together.
pub(crate) fn digest(parts: &[&str]) -> String {
    digest_of(parts.iter().map(|part| part.as_bytes()))
}

/// The same over bytes.
pub(crate) fn digest_of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let digits = hash.finalize().into_iter().take(16).flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)])).collect()
}

/// What downstream consumers read of a signal at one time. Its key is `(signal, ts, n)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ServedValue {
    /// Position of the group.
    pub group: u32,
    /// Time of the tick.
    pub ts: i64,
    /// Counts the values at this time.
    pub n: u32,
    /// The value; NaN: none.
    pub value: f64,
    /// Lower end of the interval; NaN: none.
    pub lo: f64,
    /// Upper end of the interval; NaN: none.
    pub hi: f64,
    /// Share of true values the interval should cover; NaN: no interval.
    pub coverage: f64,
    /// Where the value comes from.
    pub source: Source,
    /// OPC UA status code.
    pub status: u32,
    /// State of the signal.
    pub state: State,
    /// How far ahead of the last trusted value it was predicted, in nanoseconds.
    pub horizon_ns: i64,
}

/// Where a served value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// The vote of two members or more.
    Voted,
    /// A single member, without cross-check.
    Measured,
    /// A fallback model, by its position in the ladder.
    Model(u8),
    /// The last usable value.
    Hold(u8),
    /// Nothing.
    None,
}

/// Where a served value comes from, in words: `voted`, `measured`, `hold`, `model:KIND`, `none`.
impl Source {
    /// The word that is written.
    pub fn name(self, kinds: &[&str]) -> String {
        match self {
            Source::Voted => "voted".into(),
            Source::Measured => "measured".into(),
            Source::Hold(_) => "hold".into(),
            Source::Model(i) => format!("model:{}", kinds.get(usize::from(i)).unwrap_or(&"?")),
            Source::None => "none".into(),
        }
    }
}

/// State of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// No tick yet.
    Unknown,
    /// The members agree.
    Normal,
    /// Usable, but a member disagrees or there is no cross-check.
    Suspect,
    /// Served by a fallback model.
    Degraded,
    /// The members agree again; still served by the model.
    Recovering,
    /// Nothing can serve it.
    Failed,
    /// Taken out of service by a person.
    Held,
}

impl State {
    /// Every state, in the order of their numbers (`state as u8`).
    pub const ALL: [State; 7] = [
        State::Unknown,
        State::Normal,
        State::Suspect,
        State::Degraded,
        State::Recovering,
        State::Failed,
        State::Held,
    ];

    /// The word that is written.
    pub fn name(self) -> &'static str {
        match self {
            State::Unknown => "unknown",
            State::Normal => "normal",
            State::Suspect => "suspect",
            State::Degraded => "degraded",
            State::Recovering => "recovering",
            State::Failed => "failed",
            State::Held => "held",
        }
    }
}

/// Status codes of OPC UA that served values carry.
pub mod status {
    /// Measured and cross-checked.
    pub const GOOD: u32 = 0;
    /// `Uncertain_LastUsableValue`: held.
    pub const LAST_USABLE: u32 = 0x4090_0000;
    /// `Uncertain_SubstituteValue`: predicted.
    pub const SUBSTITUTE: u32 = 0x4091_0000;
    /// `Uncertain_SubNormal`: fewer good sources than required.
    pub const SUB_NORMAL: u32 = 0x4095_0000;
    /// `Bad_SensorFailure`.
    pub const SENSOR_FAILURE: u32 = 0x808C_0000;
    /// `Bad_OutOfService`.
    pub const OUT_OF_SERVICE: u32 = 0x808D_0000;
    /// `Bad_NoCommunication`.
    pub const NO_COMMUNICATION: u32 = 0x8031_0000;
}

/// A row older than the last released row of its own tag.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LateRow {
    /// The tag.
    pub tag: String,
    /// The row's time.
    pub ts: i64,
    /// Its value, if any.
    pub value: Option<f64>,
}

/// A row that was refused after it had been decoded.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeadRow {
    /// `conflict`, `tag_limit`, `tag_name`.
    pub code: &'static str,
    /// What is wrong with it.
    pub reason: String,
    /// The tag.
    pub tag: String,
    /// The row's time.
    pub ts: i64,
    /// Its value, if any.
    pub value: Option<f64>,
    /// Offset of the record it came in.
    pub offset: i64,
    /// Its place in that record.
    pub index: u32,
}

/// What a call produced; the caller drains it.
#[derive(Debug, Default)]
pub struct Outputs {
    /// Whether all verdicts are wanted, or only flags 3 and 4.
    pub all_verdicts: bool,
    /// Verdicts that are written.
    pub verdicts: Vec<VerdictRow>,
    /// Events, in the order they were found; outputs sort them by time and id.
    pub events: Vec<Event>,
    /// Served values.
    pub values: Vec<ServedValue>,
    /// Late rows.
    pub late: Vec<LateRow>,
    /// Dead letters.
    pub dead: Vec<DeadRow>,
}

/// Promise 5: `rows_in = processed + late + dead_letters + duplicates + shed + held`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Rows that came in; a record that can't be decoded counts as one.
    pub rows_in: u64,
    /// Rows judged (future rows too).
    pub processed: u64,
    /// Rows older than the last released row of their tag.
    pub late: u64,
    /// Rows refused.
    pub dead_letters: u64,
    /// Rows that were there already.
    pub duplicates: u64,
    /// Rows dropped on overload.
    pub shed: u64,
    /// Rows waiting inside `max_delay` or for `max_jump`.
    pub held: u64,
    /// Rows judged by their tag's rules that came after their group's tick had closed.
    pub missed_tick: u64,
    /// Rows from the future, a part of `processed`.
    pub future: u64,
    /// Rows released early because their tag held too many, a part of `processed`.
    pub early: u64,
    /// Samples that a group forgot because too many waited for a tick.
    pub forgotten: u64,
}

impl Counters {
    /// Whether every row is accounted for.
    pub fn balanced(&self) -> bool {
        self.rows_in
            == self.processed + self.late + self.dead_letters + self.duplicates + self.shed + self.held
    }
}

/// Verdicts by flag.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlagCounts {
    /// Flag 1.
    pub good: u64,
    /// Flag 2.
    pub not_evaluated: u64,
    /// Flag 3.
    pub suspect: u64,
    /// Flag 4.
    pub fail: u64,
    /// Flag 9.
    pub missing: u64,
}

impl FlagCounts {
    /// Counts one flag `n` times.
    pub fn add(&mut self, flag: Flag, n: u64) {
        match flag {
            Flag::Good => self.good += n,
            Flag::NotEvaluated => self.not_evaluated += n,
            Flag::Suspect => self.suspect += n,
            Flag::Fail => self.fail += n,
            Flag::Missing => self.missing += n,
        }
    }

    /// Sums two counts.
    pub fn merge(&mut self, other: &FlagCounts) {
        self.good += other.good;
        self.not_evaluated += other.not_evaluated;
        self.suspect += other.suspect;
        self.fail += other.fail;
        self.missing += other.missing;
    }
}
