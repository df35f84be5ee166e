//! Mid-value select: the middle of the sorted values of the eligible members.
//!
//! With three members or more, one wrong member cannot pull the vote beyond its neighbours. With two the vote is their mean,
//! and when they disagree nothing can say which is wrong. With one it is passed on unchecked.
//! A member disagrees when it lies strictly farther from the voted value than `abs + rel·|voted|`.

use crate::params::{ParamError, checked_at_parse};
use crate::vote::{MAX_MEMBERS, MemberSample, Outcome, Panel, Vote, Voter};
use schemars::JsonSchema;
use serde::Deserialize;

/// Checked parameters. Invariant: both parts of the tolerance are finite and not negative, one is positive;
/// `1 <= min <= MAX_MEMBERS`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MidValue {
    abs: f64,
    rel: f64,
    even: Even,
    miscompare: Miscompare,
    min: usize,
}

/// Parameters as the user writes them: `vote.mid_value = { tolerance = { abs = 0.5 } }`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct MidValueRaw {
    /// How far from the voted value a member may lie.
    pub tolerance: Tolerance,
    /// What an even number of members gives.
    #[serde(default)]
    pub even: Even,
    /// What two members are compared with.
    #[serde(default)]
    pub miscompare: Miscompare,
    /// Fewest eligible members that give a value.
    #[serde(default = "default_min")]
    pub min: u32,
}
checked_at_parse!(MidValueRaw);

/// How far from the voted value a member may lie: `abs + rel·|voted|`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tolerance {
    /// In the unit of the group.
    #[serde(default)]
    pub abs: f64,
    /// As a fraction of the voted value.
    #[serde(default)]
    pub rel: f64,
}

/// What an even number of members gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Even {
    /// Mean of the two in the middle.
    #[default]
    Mean,
    /// The lower of them.
    Low,
    /// The higher of them.
    High,
}

/// What two members are compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Miscompare {
    /// With each other: beyond the tolerance both disagree, and which is wrong cannot be told.
    #[default]
    Pair,
    /// Each with the voted value.
    ToVoted,
}

fn default_min() -> u32 {
    2
}

impl MidValueRaw {
    /// Checks what concerns more than one field.
    ///
    /// # Errors
    /// When the tolerance is zero, negative or not finite, or `min` is out of its range.
    pub fn validate(&self) -> Result<(), ParamError> {
        let Tolerance { abs, rel } = self.tolerance;
        for (field, got) in [("tolerance.abs", abs), ("tolerance.rel", rel)] {
            if !(0.0..=f64::MAX).contains(&got) {
                return Err(ParamError::OutOfRange { field, least: 0.0, most: f64::MAX, got });
            }
        }
        if abs == 0.0 && rel == 0.0 {
            return Err(ParamError::NoneOf { fields: "`tolerance.abs`, `tolerance.rel`" });
        }
        if !(1..=MAX_MEMBERS as u32).contains(&self.min) {
            let (most, got) = (MAX_MEMBERS as f64, f64::from(self.min));
            return Err(ParamError::OutOfRange { field: "min", least: 1.0, most, got });
        }
        Ok(())
    }
}

impl MidValue {
    /// The voter with checked parameters.
    ///
    /// # Errors
    /// As [`MidValueRaw::validate`].
    pub fn new(raw: &MidValueRaw) -> Result<Self, ParamError> {
        raw.validate()?;
        let MidValueRaw { tolerance: Tolerance { abs, rel }, even, miscompare, min } = *raw;
        Ok(Self { abs, rel, even, miscompare, min: min as usize })
    }

    #[inline]
    fn tolerance(&self, voted: f64) -> f64 {
        self.abs + self.rel * voted.abs()
    }

    fn middle(&self, sorted: &[f64]) -> f64 {
        let m = sorted.len();
        if m % 2 == 1 {
            return sorted[m / 2];
        }
        let (low, high) = (sorted[m / 2 - 1], sorted[m / 2]);
        match self.even {
            // Halved first: the sum of two large values must not overflow.
            Even::Mean if (low + high).is_infinite() => low / 2.0 + high / 2.0,
            Even::Mean => (low + high) / 2.0,
            Even::Low => low,
            Even::High => high,
        }
    }
}

impl Voter for MidValue {
    fn vote(&self, panel: &Panel<'_>) -> Vote {
        let members = panel.members;
        assert!(members.len() <= MAX_MEMBERS, "a panel has more members than a mask has bits");
        if let [a, b, c] = members
            && members.iter().fold(true, |all, m| all & (m.eligible & m.present & m.value.is_finite()))
            && self.min <= 3
        {
            return self.vote_three([a.value, b.value, c.value]);
        }
        if members.len() <= FEW { self.vote_in::<FEW>(members) } else { self.vote_in::<MAX_MEMBERS>(members) }
    }

    #[inline]
    fn agrees(&self, value: f64, voted: f64) -> bool {
        (value - voted).abs() <= self.tolerance(voted)
    }
}

/// Members that are sorted without branches.
const FEW: usize = 4;

impl MidValue {
    /// The usual panel: three members, all of them vote. What it gives is what [`vote_in`](Self::vote_in) gives.
    #[inline]
    fn vote_three(&self, values: [f64; 3]) -> Vote {
        let ordered = |a: f64, b: f64| if a > b { (b, a) } else { (a, b) };
        let [a, b, c] = values;
        let (low, high) = ordered(a, b);
        let (middle, highest) = ordered(high, c);
        let (lowest, value) = ordered(low, middle);
        let tolerance = self.tolerance(value);
        let off = |x: f64| u32::from((x - value).abs() > tolerance);
        let miscompare = off(a) | off(b) << 1 | off(c) << 2;
        let spread = highest - lowest;
        Vote { value, spread, outcome: Outcome::Voted, voted: 0b111, miscompare, tolerance }
    }

    fn vote_in<const N: usize>(&self, members: &[MemberSample]) -> Vote {
        let (mut sorted, mut m, mut voted) = ([0.0; N], 0, 0u32);
        for (i, member) in members.iter().enumerate() {
            if !(member.eligible & member.present & member.value.is_finite()) {
                continue;
            }
            voted |= 1 << i;
            let mut at = m;
            if N == FEW {
                sorted[at] = member.value;
                while at > 0 {
                    let (left, right) = (sorted[at - 1], sorted[at]);
                    let swap = left > right;
                    sorted[at - 1] = if swap { right } else { left };
                    sorted[at] = if swap { left } else { right };
                    at -= 1;
                }
            } else {
                while at > 0 && sorted[at - 1] > member.value {
                    sorted[at] = sorted[at - 1];
                    at -= 1;
                }
                sorted[at] = member.value;
            }
            m += 1;
        }
        let sorted = &sorted[..m];
        let spread = if m == 0 { f64::NAN } else { sorted[m - 1] - sorted[0] };
        if m == 0 || m < self.min {
            let (value, tolerance) = (f64::NAN, f64::NAN);
            return Vote { value, spread, outcome: Outcome::NoQuorum, voted, miscompare: 0, tolerance };
        }
        let value = self.middle(sorted);
        let tolerance = self.tolerance(value);
        let mut outcome = match m {
            1 => Outcome::Single,
            2 => Outcome::Pair,
            _ => Outcome::Voted,
        };
        let mut miscompare = 0;
        if m == 2 && self.miscompare == Miscompare::Pair {
            if spread > tolerance {
                (outcome, miscompare) = (Outcome::NotIsolatable, voted);
            }
        } else {
            for (i, member) in members.iter().enumerate() {
                let off = (voted >> i & 1 == 1) & ((member.value - value).abs() > tolerance);
                miscompare |= u32::from(off) << i;
            }
        }
        Vote { value, spread, outcome, voted, miscompare, tolerance }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voter(json: &str) -> MidValue {
        MidValue::new(&serde_json::from_str(json).unwrap()).unwrap()
    }

    fn vote(voter: &MidValue, value: &[f64]) -> Vote {
        let members: Vec<MemberSample> = value
            .iter()
            .map(|&value| MemberSample { value, age_ns: 0, present: true, eligible: true })
            .collect();
        voter.vote(&Panel { t_ns: 0, members: &members, model: None })
    }

    /// Given one wild member of three, then the vote is the middle one and the wild one alone disagrees.
    #[test]
    fn one_wild_member_of_three_is_isolated() {
        let v = vote(&voter(r#"{"tolerance": {"abs": 1}}"#), &[10.0, 99.0, 10.5]);
        assert_eq!((v.value, v.outcome, v.voted, v.miscompare), (10.5, Outcome::Voted, 0b111, 0b010));
        assert_eq!(v.spread, 89.0);
        assert!(v.agrees(11.5) && !v.agrees(11.6) && !v.agrees(f64::NAN));
    }

    /// Given two members, then within the tolerance the vote is their mean; beyond it, which is wrong cannot be told.
    #[test]
    fn two_members_that_disagree_are_not_isolatable() {
        let pair = voter(r#"{"tolerance": {"abs": 1}}"#);
        let v = vote(&pair, &[10.0, 11.0]);
        assert_eq!((v.value, v.outcome, v.miscompare), (10.5, Outcome::Pair, 0));
        let v = vote(&pair, &[10.0, 11.1]);
        assert_eq!((v.outcome, v.miscompare), (Outcome::NotIsolatable, 0b11));
        let to_voted = voter(r#"{"tolerance": {"abs": 1}, "miscompare": "to_voted"}"#);
        let v = vote(&to_voted, &[10.0, 11.1]);
        assert_eq!((v.outcome, v.miscompare), (Outcome::Pair, 0));
        let v = vote(&to_voted, &[10.0, 12.1]);
        assert_eq!((v.outcome, v.miscompare), (Outcome::Pair, 0b11));
    }

    /// Given one member or none, then there is a value only when one is enough; members that may not vote do not.
    #[test]
    fn too_few_members_give_no_value() {
        let (two, one) =
            (voter(r#"{"tolerance": {"abs": 1}}"#), voter(r#"{"tolerance": {"abs": 1}, "min": 1}"#));
        let v = vote(&two, &[10.0, f64::NAN]);
        assert!(v.value.is_nan() && v.outcome == Outcome::NoQuorum && v.voted == 1);
        let v = vote(&one, &[10.0, f64::INFINITY]);
        assert_eq!((v.value, v.outcome, v.voted, v.miscompare), (10.0, Outcome::Single, 1, 0));
        assert_eq!(vote(&one, &[]).outcome, Outcome::NoQuorum);
    }

    /// Given four members, then `even` chooses between the two in the middle; a relative tolerance follows the vote.
    #[test]
    fn even_numbers_choose() {
        for (even, expected) in [("mean", 2.5), ("low", 2.0), ("high", 3.0)] {
            let v = vote(
                &voter(&format!(r#"{{"tolerance": {{"rel": 0.5}}, "even": "{even}"}}"#)),
                &[4.0, 1.0, 3.0, 2.0],
            );
            assert_eq!((v.value, v.tolerance), (expected, expected * 0.5));
        }
        for bad in [
            r#"{"tolerance": {}}"#,
            r#"{"tolerance": {"abs": -1}}"#,
            r#"{"tolerance": {"abs": 1}, "min": 0}"#,
        ] {
            assert!(serde_json::from_str::<MidValueRaw>(bad).is_err(), "{bad}");
        }
    }
}
