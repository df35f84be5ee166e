//! Voting: one value of several redundant tags, and which of them disagree with it.
//!
//! Voting does not beat a common cause: when most members are wrong together, the vote is wrong. A model beside the panel
//! can tell; the vote cannot. To add a voter: a file with its parameters and an `impl Voter`, its `pub mod`, and one entry
//! in [`VoteRaw`] and [`AnyVoter`].

use crate::params::ParamError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub mod exclusion;
pub mod mid_value;

pub use exclusion::{Change, Changes, Exclusion, ExclusionRaw, MemberState, Standing};
pub use mid_value::{MidValue, MidValueRaw};

/// Most members of a group: one bit each in a mask of 32.
pub const MAX_MEMBERS: usize = 32;

/// What one member says at a tick.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MemberSample {
    /// Value, in the unit of the group.
    pub value: f64,
    /// Age of the sample at the tick.
    pub age_ns: i64,
    /// Whether there is a sample that is not missing and not too old.
    pub present: bool,
    /// Whether it may vote.
    pub eligible: bool,
}

/// What a voter sees at one tick.
#[derive(Clone, Copy, Debug)]
pub struct Panel<'a> {
    /// Time of the tick.
    pub t_ns: i64,
    /// The members, in the order of the group.
    pub members: &'a [MemberSample],
    /// What a model expects, when there is one.
    pub model: Option<Estimate>,
}

/// A value that a model expects, with its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Expected value.
    pub value: f64,
    /// Lower end of the interval.
    pub lo: f64,
    /// Upper end of the interval.
    pub hi: f64,
    /// How far the target time lies from the last learned value.
    pub horizon_ns: i64,
}

/// How a vote came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Three members or more.
    Voted,
    /// Two members.
    Pair,
    /// One member: nothing to compare with.
    Single,
    /// Two members that disagree: which of them is wrong cannot be told.
    NotIsolatable,
    /// Too few members: no value.
    NoQuorum,
}

impl Outcome {
    /// Name as it is written in outputs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Voted => "voted",
            Outcome::Pair => "pair",
            Outcome::Single => "single",
            Outcome::NotIsolatable => "not_isolatable",
            Outcome::NoQuorum => "no_quorum",
        }
    }
}

/// Result of one vote.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Vote {
    /// Voted value; NaN when there is none.
    pub value: f64,
    /// Largest minus smallest voting value; NaN when none voted.
    pub spread: f64,
    /// How it came about.
    pub outcome: Outcome,
    /// Members that voted, bit i for member i.
    pub voted: u32,
    /// Voting members that disagree, bit i for member i.
    pub miscompare: u32,
    /// Distance from the voted value up to which a member agrees; NaN when there is no value.
    pub tolerance: f64,
}

impl Vote {
    /// Whether a value lies within the tolerance of the voted one: for members that are present but do not vote.
    /// False when there is no voted value.
    #[must_use]
    pub fn agrees(&self, value: f64) -> bool {
        (value - self.value).abs() <= self.tolerance
    }
}

/// A way to vote.
pub trait Voter {
    /// Votes on one panel. The result does not depend on the order of members, but for the places of bits.
    ///
    /// Panics when the panel has more than [`MAX_MEMBERS`] members, a bug of the caller.
    fn vote(&self, panel: &Panel<'_>) -> Vote;

    /// Whether a member's value agrees with a voted value, by the voter's own tolerance.
    fn agrees(&self, value: f64, voted: f64) -> bool;
}

/// Parameters of one voter as written: `vote.mid_value = { … }`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VoteRaw {
    /// The middle of the sorted values.
    MidValue(MidValueRaw),
}

impl VoteRaw {
    /// The voter with checked parameters.
    ///
    /// # Errors
    /// When a field or a pair of fields is wrong.
    pub fn build(&self) -> Result<AnyVoter, ParamError> {
        match self {
            VoteRaw::MidValue(raw) => MidValue::new(raw).map(AnyVoter::MidValue),
        }
    }
}

/// Whichever voter a configuration names.
#[derive(Clone, Debug, PartialEq)]
pub enum AnyVoter {
    /// The middle of the sorted values.
    MidValue(MidValue),
}

impl Voter for AnyVoter {
    #[inline]
    fn vote(&self, panel: &Panel<'_>) -> Vote {
        match self {
            AnyVoter::MidValue(voter) => voter.vote(panel),
        }
    }

    #[inline]
    fn agrees(&self, value: f64, voted: f64) -> bool {
        match self {
            AnyVoter::MidValue(voter) => voter.agrees(value, voted),
        }
    }
}
