//! Detectors: each gives every sample of one tag a flag.
//!
//! To add one: a file with parameters, state and an `impl Detector`, its `pub mod`, and one entry in the list below.

use crate::params::ParamError;
use crate::sample::{Flag, Samples, Verdicts};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub mod auto;
pub mod ewma;
pub mod gap;
pub mod range;
pub mod rate;
pub mod zscore;

pub use auto::{Auto, AutoRaw};
pub use ewma::{Ewma, EwmaRaw};
pub use gap::{Gap, GapRaw};
pub use range::{Range, RangeRaw};
pub use rate::{Rate, RateRaw};
pub use zscore::{ZScore, ZScoreRaw};

/// Fixed-size state of one tag: all-zero bytes are the valid initial state, and its bytes are all that is saved.
pub trait Plain: bytemuck::Pod {}

/// When a detector runs within a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// First: a limit that needs no learning; its flags decide which samples are trusted.
    Limit,
    /// Second: learns from samples, and sees which of them are trusted.
    Learning,
}

/// What an operator may ask of the state of one tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TagCommand {
    /// Forget what was learned and learn anew.
    Rebaseline,
}

/// Which samples a learning detector learns from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Freeze {
    /// Those it does not flag itself.
    #[default]
    Own,
    /// Those it does not flag itself and that are trusted: valid, of good quality, within every limit.
    Trusted,
    /// Every present sample.
    Never,
}

impl Freeze {
    /// Whether a present sample with this flag is learned.
    #[inline]
    pub(crate) fn learns(self, flag: Flag, trusted: bool) -> bool {
        match self {
            Freeze::Own => flag < Flag::Suspect,
            Freeze::Trusted => (flag < Flag::Suspect) & trusted,
            Freeze::Never => true,
        }
    }
}

/// Which deviations from normal count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// To either side.
    #[default]
    Both,
    /// Above only.
    Above,
    /// Below only.
    Below,
}

impl Direction {
    /// The part of a signed deviation that counts; at most zero when none does.
    #[inline]
    pub(crate) fn part(self, deviation: f64) -> f64 {
        match self {
            Direction::Both => deviation.abs(),
            Direction::Above => deviation,
            Direction::Below => -deviation,
        }
    }

    /// The same without a choice: the bits of a deviation to turn, then those to keep.
    #[inline]
    pub(crate) fn masks(self) -> (u64, u64) {
        let sign = 1 << 63;
        match self {
            Direction::Both => (0, !sign),
            Direction::Above => (0, !0),
            Direction::Below => (sign, !0),
        }
    }

    /// The accepted band around zero of half width `k`.
    pub(crate) fn band(self, k: f64) -> (f64, f64) {
        match self {
            Direction::Both => (-k, k),
            Direction::Above => (f64::NEG_INFINITY, k),
            Direction::Below => (-k, f64::INFINITY),
        }
    }
}

/// The catalogue row of one tag.
pub trait Columns {
    /// The number in a column; `None` when the column or the number is absent.
    fn number(&self, column: &str) -> Option<f64>;
    /// The tag.
    fn tag(&self) -> &str;
    /// How long silence of the tag means "unchanged", when it reports by exception.
    fn heartbeat_ns(&self) -> Option<i64> {
        None
    }
}

/// A way to judge the samples of one tag; one value holds checked parameters.
///
/// Parameters never change; the state and the window are all that is remembered. Cutting a run anywhere gives the same
/// flags, and a state saved and restored goes on as if it had never stopped.
pub trait Detector: Sized + Clone + Send + Sync + 'static {
    /// Key in the configuration: `detect.KIND`.
    const KIND: &'static str;
    /// Raised when the meaning of the state changes.
    const STATE_VERSION: u16 = 1;
    /// When it runs.
    const STAGE: Stage;
    /// Slot i judges sample i − `LATENCY`.
    const LATENCY: usize = 0;
    /// Parameters as written.
    type Raw: serde::de::DeserializeOwned
        + Clone
        + JsonSchema
        + std::fmt::Debug
        + PartialEq
        + Send
        + Sync
        + 'static;
    /// What is remembered of one tag.
    type State: Plain;

    /// Checked parameters for the tag of `row`.
    ///
    /// # Errors
    /// When a field, a pair of fields or a catalogue cell is wrong.
    fn bind(raw: &Self::Raw, row: &dyn Columns) -> Result<Self, ParamError>;

    /// Whether parameters come from the catalogue, so that each tag needs its own value.
    fn needs_columns(_raw: &Self::Raw) -> bool {
        false
    }

    /// Words of window the caller keeps for each tag, zeroed at first; the same for the life of the parameters.
    fn window_len(&self) -> usize {
        0
    }

    /// Where in the window the next sample will be looked for: a hint for reading it ahead, nothing more.
    fn next_in_window(&self, _state: &Self::State) -> usize {
        0
    }

    /// Words at the front of the window that the next `samples` samples may touch; what lies behind was never written.
    ///
    /// A window that only grows can be kept short until it is needed; without an own answer it is always whole.
    fn window_needed(&self, _state: &Self::State, _samples: usize) -> usize {
        self.window_len()
    }

    /// Judges one run: sets every flag of `out`.
    ///
    /// Panics when the slices differ in length or the window is shorter than [`Detector::window_needed`], bugs of the
    /// caller.
    fn judge(
        &self,
        state: &mut Self::State,
        window: &mut [f64],
        samples: Samples<'_>,
        out: &mut Verdicts<'_>,
    );

    /// The longest step from one present sample to the next that a run may contain. `None`: any.
    ///
    /// A detector with deadlines needs runs cut at longer steps, so that a deadline inside a run can be given its due.
    fn longest_step_ns(&self) -> Option<i64> {
        None
    }

    /// The event time at which [`Detector::on_deadline`] is to be called, unless a sample at or before it comes first.
    fn deadline(&self, _state: &Self::State) -> Option<i64> {
        None
    }

    /// Called once when the deadline is due; disarms it and gives the flag of that moment.
    fn on_deadline(&self, _state: &mut Self::State) -> Flag {
        Flag::NotEvaluated
    }

    /// Carries out an operator's command.
    fn command(&self, _state: &mut Self::State, _window: &mut [f64], _command: TagCommand) {}

    /// While warming up, the number of samples still to be learned.
    fn remaining(&self, _state: &Self::State) -> Option<u64> {
        None
    }
}

/// Does something for whichever detector a configuration names.
pub trait Visitor {
    /// What it gives.
    type Out;
    /// Called with the named detector as type argument.
    fn visit<D: Detector>(self, raw: &D::Raw) -> Self::Out;
}

macro_rules! detectors {
    ($($(#[doc = $doc:literal])* $kind:ident: $detector:ident),+ $(,)?) => {
        /// Parameters of one detector as written: `detect.KIND = { … }`.
        #[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
        #[serde(rename_all = "lowercase")]
        pub enum DetectRaw {
            $($(#[doc = $doc])* $detector(<$kind::$detector as Detector>::Raw),)+
        }

        impl DetectRaw {
            /// Key of the detector in the configuration.
            #[must_use]
            pub fn kind(&self) -> &'static str {
                match self { $(DetectRaw::$detector(_) => <$kind::$detector as Detector>::KIND,)+ }
            }
        }

        /// Keys of all detectors, in the order of the list.
        pub const KINDS: &[&str] = &[$(<$kind::$detector as Detector>::KIND),+];

        /// Calls the visitor with the detector that `raw` names.
        pub fn visit<V: Visitor>(raw: &DetectRaw, visitor: V) -> V::Out {
            match raw { $(DetectRaw::$detector(raw) => visitor.visit::<$kind::$detector>(raw),)+ }
        }
    };
}

detectors! {
    /// Value outside fixed limits.
    range: Range,
    /// Value changing faster than it can.
    rate: Rate,
    /// No sample for too long.
    gap: Gap,
    /// Value far from its exponentially weighted mean.
    ewma: Ewma,
    /// Value far from the mean of a sliding window.
    zscore: ZScore,
    /// Value surprising by what its tag has shown; nothing to choose.
    auto: Auto,
}

/// Reads a cell that is needed.
pub(crate) fn cell(row: &dyn Columns, column: &str) -> Result<f64, ParamError> {
    row.number(column)
        .ok_or_else(|| ParamError::NoCell { tag: row.tag().to_owned(), column: column.to_owned() })
}

/// Names the tag and the column in an error about a cell.
pub(crate) fn in_cell(row: &dyn Columns, column: &str, source: ParamError) -> ParamError {
    let (tag, column) = (row.tag().to_owned(), column.to_owned());
    ParamError::BadCell { tag, column, source: Box::new(source) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::sample::Evidence;

    /// A catalogue without columns.
    pub(crate) struct NoColumns;
    impl Columns for NoColumns {
        fn number(&self, _column: &str) -> Option<f64> {
            None
        }
        fn tag(&self) -> &str {
            "t"
        }
    }

    /// Judges one trusted run from the initial state, with evidence from suspect up.
    pub(crate) fn judge_all<D: Detector>(d: &D, ts: &[i64], value: &[f64]) -> (Vec<Flag>, Vec<Evidence>) {
        let mut state = bytemuck::Zeroable::zeroed();
        let mut window = vec![0.0; d.window_len()];
        let trusted = vec![true; value.len()];
        let (mut flags, mut evidence) = (vec![Flag::Missing; value.len()], Vec::new());
        let mut out = Verdicts { flags: &mut flags, evidence: &mut evidence, explain_from: Flag::Suspect };
        d.judge(&mut state, &mut window, Samples { ts, value, trusted: &trusted }, &mut out);
        (flags, evidence)
    }

    /// Parameters from JSON text, bound without a catalogue.
    pub(crate) fn bound<D: Detector>(json: &str) -> D {
        D::bind(&serde_json::from_str(json).unwrap(), &NoColumns).unwrap()
    }

    /// Times `n` samples long, one a second.
    pub(crate) fn seconds(n: usize) -> Vec<i64> {
        (0..n as i64).map(|i| i * 1_000_000_000).collect()
    }

    /// Given the list, then each key of the configuration is its detector's kind, and an unknown one is refused.
    #[test]
    fn keys_are_kinds() {
        let written = [
            r#"{"range": {"fail": [0, 1]}}"#,
            r#"{"rate": {"fail_per_s": 1}}"#,
            r#"{"gap": {"max": "30s"}}"#,
            r#"{"ewma": {"alpha": 0.01, "suspect": 4}}"#,
            r#"{"zscore": {"window": 600, "suspect": 4}}"#,
            r#"{"auto": {}}"#,
        ];
        let kinds: Vec<&str> = written.map(|w| serde_json::from_str::<DetectRaw>(w).unwrap().kind()).to_vec();
        assert_eq!(kinds, KINDS);
        assert!(serde_json::from_str::<DetectRaw>(r#"{"rang": {}}"#).is_err());
        assert!(serde_json::from_str::<DetectRaw>(r#"{"gap": {"max": "30s", "min": "1s"}}"#).is_err());
        let schema = serde_json::to_string(&schemars::schema_for!(DetectRaw)).unwrap();
        for kind in KINDS {
            assert!(schema.contains(&format!("\"{kind}\"")), "{kind}");
        }
    }
}
