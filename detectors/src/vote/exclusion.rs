//! Exclusion of members that keep disagreeing, and their re-admission.
//!
//! Each member has a counter: up on a miscompare or a missing value, down on agreement. At `trip` it is excluded, and only
//! when the counter is back at zero does probation begin; a member that agrees through probation is active again. The gap
//! between `trip` and zero is the hysteresis. While excluded or on probation a member is compared but does not vote.
//! Fewer than `min_active` voting members are never left, unless the excluded one is missing anyway.
//! Source: the up/down counters of flight control voters.

use crate::params::ParamError;
use crate::params::checked_at_parse;
use crate::vote::MAX_MEMBERS;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Checked parameters. Invariant: `1 <= trip <= cap`, `up` and `down` at least 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exclusion {
    up: u32,
    missing_up: u32,
    down: u32,
    trip: u32,
    cap: u32,
    probation_fail: u32,
    probation_ticks: u32,
    latch_after: Option<u32>,
}

/// Parameters as the user writes them: `exclude = { trip = 16 }`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, remote = "Self")]
pub struct ExclusionRaw {
    /// Added to the counter on a miscompare.
    pub up: u32,
    /// Added to the counter when the member is missing.
    pub missing_up: u32,
    /// Taken from the counter on agreement.
    pub down: u32,
    /// At this count a member is excluded.
    pub trip: u32,
    /// The counter goes no higher.
    pub cap: u32,
    /// Beyond this count probation has failed.
    pub probation_fail: u32,
    /// Ticks of probation.
    pub probation_ticks: u32,
    /// After this many exclusions a member stays out until an operator resets it. Absent: never.
    pub latch_after: Option<u32>,
}
checked_at_parse!(ExclusionRaw);

impl Default for ExclusionRaw {
    fn default() -> Self {
        Self {
            up: 4,
            missing_up: 2,
            down: 1,
            trip: 16,
            cap: 32,
            probation_fail: 8,
            probation_ticks: 30,
            latch_after: None,
        }
    }
}

impl ExclusionRaw {
    /// Checks what concerns more than one field.
    ///
    /// # Errors
    /// When a number is out of its range or `trip` exceeds `cap`.
    pub fn validate(&self) -> Result<(), ParamError> {
        let least_one = [
            ("up", self.up),
            ("down", self.down),
            ("trip", self.trip),
            ("cap", self.cap),
            ("latch_after", self.latch_after.unwrap_or(1)),
        ];
        for (field, got) in least_one {
            if !(1..=MAX_COUNT).contains(&got) {
                let (least, most, got) = (1.0, f64::from(MAX_COUNT), f64::from(got));
                return Err(ParamError::OutOfRange { field, least, most, got });
            }
        }
        if self.trip > self.cap {
            let (low, high) = (f64::from(self.trip), f64::from(self.cap));
            return Err(ParamError::Inverted { lower: "trip", low, upper: "cap", high });
        }
        Ok(())
    }
}

/// Where a member stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Votes.
    #[default]
    Active,
    /// Votes, and has disagreed lately.
    Suspect,
    /// Compared only, until its counter is back at zero.
    Excluded,
    /// Compared only, for a set number of ticks.
    Probation,
    /// Out until an operator resets it.
    Latched,
}

impl Standing {
    /// Name as it is written in outputs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Standing::Active => "active",
            Standing::Suspect => "suspect",
            Standing::Excluded => "excluded",
            Standing::Probation => "probation",
            Standing::Latched => "latched",
        }
    }

    /// Whether the member votes.
    #[must_use]
    #[inline]
    pub const fn votes(self) -> bool {
        matches!(self, Standing::Active | Standing::Suspect)
    }
}

/// What is remembered of one member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberState {
    /// Where it stands.
    pub standing: Standing,
    /// Up/down counter.
    pub count: u32,
    /// Ticks of probation still to go.
    pub probation_left: u32,
    /// Exclusions so far, since the last reset.
    pub exclusions: u32,
}

/// One member's change of standing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Index of the member in the group.
    pub member: usize,
    /// Standing before.
    pub from: Standing,
    /// Standing after.
    pub to: Standing,
}

/// Changes of one tick, in the order of members; at most one each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changes {
    changes: [Change; MAX_MEMBERS],
    len: usize,
    /// Members that would have been excluded, had enough been left; bit i for member i.
    pub withheld: u32,
}

impl Changes {
    /// The changes.
    #[must_use]
    pub fn as_slice(&self) -> &[Change] {
        &self.changes[..self.len]
    }

    fn push(&mut self, member: usize, from: Standing, to: Standing) {
        if from != to {
            self.changes[self.len] = Change { member, from, to };
            self.len += 1;
        }
    }
}

impl Exclusion {
    /// The rule with checked parameters.
    ///
    /// # Errors
    /// As [`ExclusionRaw::validate`].
    pub fn new(raw: &ExclusionRaw) -> Result<Self, ParamError> {
        raw.validate()?;
        let ExclusionRaw { up, missing_up, down, trip, cap, probation_fail, probation_ticks, latch_after } =
            *raw;
        Ok(Self { up, missing_up, down, trip, cap, probation_fail, probation_ticks, latch_after })
    }

    /// Takes one tick into account.
    ///
    /// - `miscompare`: members that disagree with the voted value, voting or not; bit i for member i.
    /// - `missing`: members without a value; such a member is not also a miscompare.
    /// - `min_active`: fewest voting members to leave.
    ///
    /// When several members are due and not all can go, the one with the higher count goes first, then the first listed.
    pub fn step(
        &self,
        states: &mut [MemberState],
        miscompare: u32,
        missing: u32,
        min_active: usize,
    ) -> Changes {
        assert!(states.len() <= MAX_MEMBERS, "a group has more members than a mask has bits");
        let mut before = [Standing::Active; MAX_MEMBERS];
        let mut due = 0u32;
        for (i, state) in states.iter_mut().enumerate() {
            before[i] = state.standing;
            let (missing, miscompare) = (missing >> i & 1 == 1, miscompare >> i & 1 == 1);
            self.count(state, miscompare, missing);
            due |= u32::from(self.settle(state, miscompare | missing)) << i;
        }
        let withheld = self.exclude(states, due, missing, min_active);
        let mut changes = Changes { changes: [Change::default(); MAX_MEMBERS], len: 0, withheld };
        for (i, state) in states.iter().enumerate() {
            changes.push(i, before[i], state.standing);
        }
        changes
    }

    /// An operator's reset: the member is on probation, its exclusions are forgotten.
    pub fn reset(&self, state: &mut MemberState) {
        *state = MemberState {
            standing: Standing::Probation,
            count: 0,
            probation_left: self.probation_ticks,
            exclusions: 0,
        };
    }

    fn count(&self, state: &mut MemberState, miscompare: bool, missing: bool) {
        state.count = if missing {
            state.count.saturating_add(self.missing_up).min(self.cap)
        } else if miscompare {
            state.count.saturating_add(self.up).min(self.cap)
        } else {
            state.count.saturating_sub(self.down)
        };
    }

    /// Moves one member along, short of exclusion; true when it is due for that.
    fn settle(&self, state: &mut MemberState, bad: bool) -> bool {
        match state.standing {
            Standing::Active | Standing::Suspect => {
                state.standing = if state.count > 0 { Standing::Suspect } else { Standing::Active };
                return state.count >= self.trip;
            }
            Standing::Excluded if state.count == 0 && !bad => {
                (state.standing, state.probation_left) = (Standing::Probation, self.probation_ticks);
            }
            Standing::Probation if state.count > self.probation_fail => self.shut_out(state),
            Standing::Probation => {
                state.probation_left = state.probation_left.saturating_sub(1);
                if state.probation_left == 0 && state.count == 0 {
                    state.standing = Standing::Active;
                }
            }
            Standing::Excluded | Standing::Latched => {}
        }
        false
    }

    /// Excludes members that are due, as far as enough are left; gives those that had to stay.
    fn exclude(&self, states: &mut [MemberState], mut due: u32, missing: u32, min_active: usize) -> u32 {
        let mut withheld = 0;
        while due != 0 {
            // A missing member does not vote, so it goes whatever is left, and first.
            let first = |i: &usize| (missing >> i & 1, states[*i].count, usize::MAX - i);
            let Some(i) = (0..states.len()).filter(|i| due >> i & 1 == 1).max_by_key(first) else { break };
            due &= !(1 << i);
            let voting = |(j, state): (usize, &MemberState)| state.standing.votes() && missing >> j & 1 == 0;
            let active = states.iter().enumerate().filter(|&(j, state)| voting((j, state))).count();
            if missing >> i & 1 == 1 || active > min_active {
                self.shut_out(&mut states[i]);
            } else {
                withheld |= 1 << i;
            }
        }
        withheld
    }

    fn shut_out(&self, state: &mut MemberState) {
        state.exclusions = state.exclusions.saturating_add(1);
        let latched = self.latch_after.is_some_and(|most| state.exclusions >= most);
        state.standing = if latched { Standing::Latched } else { Standing::Excluded };
        state.probation_left = 0;
    }
}

/// Largest count that may be configured.
const MAX_COUNT: u32 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(json: &str) -> Exclusion {
        Exclusion::new(&serde_json::from_str(json).unwrap()).unwrap()
    }

    fn steps(
        rule: &Exclusion,
        states: &mut [MemberState],
        n: usize,
        miscompare: u32,
        missing: u32,
    ) -> Vec<Change> {
        (0..n).flat_map(|_| rule.step(states, miscompare, missing, 2).as_slice().to_vec()).collect()
    }

    /// Given a member that disagrees for four ticks and agrees after,
    /// then it is suspect, excluded, on probation and active again, and votes only at the ends.
    #[test]
    fn a_member_leaves_and_comes_back() {
        let (rule, mut states) = (rule("{}"), [MemberState::default(); 3]);
        let to: Vec<Standing> = steps(&rule, &mut states, 4, 0b010, 0).iter().map(|c| c.to).collect();
        assert_eq!(to, [Standing::Suspect, Standing::Excluded]);
        assert_eq!(steps(&rule, &mut states, 15, 0, 0), []);
        let to: Vec<Standing> = steps(&rule, &mut states, 31, 0, 0).iter().map(|c| c.to).collect();
        assert_eq!(to, [Standing::Probation, Standing::Active]);
        assert_eq!(states[1], MemberState { exclusions: 1, ..MemberState::default() });
    }

    /// Given two members left, then one that disagrees is not excluded but one that is missing is.
    #[test]
    fn the_last_two_are_kept_unless_missing() {
        let (rule, mut states) = (rule("{}"), [MemberState::default(); 2]);
        steps(&rule, &mut states, 40, 0b01, 0);
        assert_eq!(states[0].standing, Standing::Suspect);
        assert_eq!(rule.step(&mut states, 0b01, 0, 2).withheld, 0b01);
        steps(&rule, &mut states, 40, 0, 0b10);
        assert_eq!(states[1].standing, Standing::Excluded);
    }

    /// Given two of three members due at once, then only one goes.
    #[test]
    fn not_all_go_at_once() {
        let (rule, mut states) = (rule("{}"), [MemberState::default(); 3]);
        steps(&rule, &mut states, 20, 0b011, 0);
        assert_eq!(states.map(|s| s.standing.votes()), [false, true, true]);
    }

    /// Given `latch_after = 2`, when a member is excluded twice, then it stays out until it is reset.
    #[test]
    fn repeated_exclusion_latches() {
        let (rule, mut states) = (rule(r#"{"latch_after": 2}"#), [MemberState::default(); 3]);
        steps(&rule, &mut states, 4, 0b001, 0);
        steps(&rule, &mut states, 100, 0, 0);
        assert_eq!(states[0].standing, Standing::Active);
        steps(&rule, &mut states, 4, 0b001, 0);
        steps(&rule, &mut states, 1000, 0, 0);
        assert_eq!(states[0].standing, Standing::Latched);
        rule.reset(&mut states[0]);
        steps(&rule, &mut states, 30, 0, 0);
        assert_eq!(states[0], MemberState::default());
        assert!(serde_json::from_str::<ExclusionRaw>(r#"{"trip": 40}"#).is_err());
    }
}
