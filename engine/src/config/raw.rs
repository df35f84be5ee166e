//! The configuration as users write it. Unknown keys are refused everywhere; defaults are named functions.

use detectors::detect::DetectRaw;
use detectors::params::Span;
use detectors::vote::VoteRaw;
use schemars::JsonSchema;
use serde::Deserialize;

/// Everything of the file that the engine reads.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EngineRaw {
    /// Order and lateness: `[time]`.
    pub time: TimeRaw,
    /// What quality codes mean: `[quality]`. Required when the data has a quality column.
    pub quality: Option<QualityRaw>,
    /// `[[sentinel]]`: values that stand for "no measurement".
    pub sentinel: Vec<SentinelRaw>,
    /// `[[reporting]]`: tags that report only what changes.
    pub reporting: Vec<ReportingRaw>,
    /// Bounds: `[limits]`.
    pub limits: LimitsRaw,
    /// `[[rule]]`: a detector over a selection of tags.
    pub rule: Vec<RuleRaw>,
    /// `[[group]]`: redundant tags with a voter.
    pub group: Vec<GroupRaw>,
}

/// Order and lateness. `max_delay <= wait <= grace` must hold.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TimeRaw {
    /// How long a row is held for older rows of its own tag. Default 0: released at once.
    pub max_delay: Option<Span>,
    /// How far progress must run ahead before time is past for a silent tag. Default: the largest `wait` plus `skew`.
    pub grace: Option<Span>,
    /// How long a row may be under way. Default 0, and two seconds where the file has a `[source.kafka]`.
    pub skew: Option<Span>,
    /// A row further ahead of its record timestamp than this is a future row. Default one minute.
    pub max_ahead: Option<Span>,
    /// Without record timestamps: a row further ahead of progress than this waits for two more that agree.
    pub max_jump: Option<Span>,
}

/// What quality codes mean; never guessed.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QualityRaw {
    /// `"opcua"`, `"opcda"`, `"qartod"`, or lists of codes.
    pub scheme: SchemeRaw,
    /// What becomes of uncertain samples: judged but not trusted, trusted, or missing.
    #[serde(default)]
    pub uncertain: Uncertain,
}

/// A named or a custom quality scheme.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SchemeRaw {
    /// A scheme with a name.
    Named(Scheme),
    /// Codes by meaning.
    Custom(CustomScheme),
}

/// The named schemes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// OPC UA status codes: the two top bits (00 good, 01 uncertain, 1x bad).
    Opcua,
    /// OPC DA quality: bits 6 and 7 (11 good, 01 uncertain, else bad).
    Opcda,
    /// QARTOD flags: 1 good, 2 and 3 uncertain, 4 and 9 bad.
    Qartod,
}

/// Codes by meaning; a code in no list is bad.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CustomScheme {
    /// Codes of good samples.
    pub good: Vec<CodeRaw>,
    /// Codes of uncertain samples.
    pub uncertain: Vec<CodeRaw>,
    /// Codes of bad samples.
    pub bad: Vec<CodeRaw>,
}

/// A quality code: a number or a word.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum CodeRaw {
    /// A numeric code.
    Number(u32),
    /// A code in words.
    Word(String),
}

/// What becomes of an uncertain sample.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Uncertain {
    /// Judged, but neither learned nor voted.
    #[default]
    Judge,
    /// Like a good sample.
    Trust,
    /// Like a bad sample.
    Missing,
}

/// Values that stand for "no measurement": such a sample is missing before any rule sees it. A catalogue column
/// `sentinel` adds one value for its tag.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SentinelRaw {
    /// Tags that use them: names or patterns with `*` and `?`.
    pub tags: Vec<String>,
    /// The values, as `[-999.0, 1e30]`; compared exactly.
    pub values: Vec<f64>,
}

/// How tags report. The first table that names a tag holds for it; then the catalogue's column `heartbeat_s`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportingRaw {
    /// Names or patterns with `*` and `?`.
    pub tags: Vec<String>,
    /// `"periodic"`, or `"by_exception"` with a `heartbeat`.
    pub mode: Reporting,
    /// How long silence means "unchanged".
    pub heartbeat: Option<Span>,
}

/// How a tag reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reporting {
    /// Every value, changed or not.
    Periodic,
    /// What changes, and at least once a heartbeat: silence inside it means "unchanged".
    ByException,
}

/// Bounds of the engine.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsRaw {
    /// Distinct tags in a partition; rows of further tags are dead-lettered (`tag_limit`).
    pub tags: u32,
    /// Bytes of a tag's name; longer ones are dead-lettered (`tag_name`).
    pub tag_bytes: u32,
    /// Rows held inside `max_delay` for one tag; the oldest is released early beyond it.
    pub held_rows: u32,
}

impl Default for LimitsRaw {
    fn default() -> Self {
        LimitsRaw {
            tags: crate::limits::TAGS,
            tag_bytes: crate::limits::TAG_BYTES,
            held_rows: crate::limits::HELD_ROWS,
        }
    }
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleRaw {
    /// Name of the rule; unique.
    pub id: String,
    /// Tags it looks at: names or patterns with `*` and `?`.
    pub tags: Vec<String>,
    /// The detector and its parameters, as `detect.range = { … }`.
    pub detect: DetectRaw,
    /// When and how its verdicts become alerts. Absent: verdicts only.
    pub alert: Option<AlertRaw>,
}

/// How verdicts become alerts.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlertRaw {
    /// Which flags start it: `"fail"` (4 alone) or `"suspect"` (3 and 4).
    #[serde(default)]
    pub on: On,
    /// How long it must last before it fires. Default 0: at once.
    #[serde(rename = "for")]
    pub for_: Option<Span>,
    /// How long it keeps firing after it ended. Default 0.
    pub keep_firing_for: Option<Span>,
    /// How bad it is.
    #[serde(default)]
    pub severity: Severity,
}

/// Which flags start an alert.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum On {
    /// Flag 4.
    #[default]
    Fail,
    /// Flags 3 and 4.
    Suspect,
}

/// How bad an alert is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// For the log.
    Info,
    /// For working hours.
    #[default]
    Warning,
    /// For now.
    Critical,
}

impl Severity {
    /// The word as written.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

/// Redundant tags of one physical quantity.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupRaw {
    /// Name of the group and of its signal; unique.
    pub id: String,
    /// The tags, two or more.
    pub members: Vec<String>,
    /// The voter, as `vote.mid_value = { … }`.
    pub vote: VoteRaw,
    /// When the group votes.
    pub tick: TickRaw,
    /// How long a tick waits for slower members. Default: `max_delay`.
    pub wait: Option<Span>,
    /// How old a sample may be at a tick.
    pub max_skew: Span,
    /// Whether members that keep disagreeing are excluded.
    #[serde(default)]
    pub exclude: Exclude,
    /// Whether a member whose own rules flag it 4 loses its vote. Default true.
    #[serde(default = "yes")]
    pub own_qc: bool,
    /// Whether uncertain samples may vote. Default false.
    #[serde(default)]
    pub allow_uncertain: bool,
    /// How many healthy ticks end a fallback. Default 1.
    #[serde(default = "one")]
    pub confirm: u32,
    /// Models that serve the signal when its members can't, in order.
    #[serde(default)]
    pub fallback: Vec<detectors::forecast::ForecastRaw>,
    /// Served values written: on change and while not normal, or all.
    #[serde(default)]
    pub signals: Signals,
    /// Alert on the signal: `suspect` when it is not normal, `fail` when it is degraded or failed.
    pub alert: Option<AlertRaw>,
}

fn yes() -> bool {
    true
}

fn one() -> u32 {
    1
}

/// When a group votes.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TickRaw {
    /// At multiples of this since 1970; with `member`, the pace while that member is silent.
    pub period: Span,
    /// At the samples of this member.
    pub member: Option<String>,
}

/// Whether members are excluded.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Exclude {
    /// By a word.
    Word(ExcludeWord),
    /// With counters of one's own.
    Counters(detectors::vote::exclusion::ExclusionRaw),
}

impl Default for Exclude {
    fn default() -> Self {
        Exclude::Word(ExcludeWord::Auto)
    }
}

/// The words of `exclude`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExcludeWord {
    /// With the default counters.
    Auto,
    /// Never.
    Never,
}

/// Which served values are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Signals {
    /// On change of state, source or status, and each one while not normal.
    #[default]
    Changes,
    /// All.
    Every,
}
