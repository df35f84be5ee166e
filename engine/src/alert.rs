//! The life of an alert: `pending → firing → resolved`, per rule and target.
//!
//! Pending is state, not an event. Deadlines (`for`, `keep_firing_for`) are event time; they fire when time has gone
//! beyond them, and their events carry the deadline. Stamps never go back.

use crate::config::raw::{AlertRaw, On};
use crate::output::{Event, Explanation, Transition, What, digest};
use bytemuck::{Pod, Zeroable};
use detectors::sample::Flag;

const PENDING: u64 = 1;
const FIRING: u64 = 2;
const CLEARING: u64 = 4;
const STAMPED: u64 = 8;
const STARTED: u64 = 16;
/// The bits from here on count the starts at the same time, after the first.
const REPEAT: u64 = 32;

/// State of one alert; zero is "quiet".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Zeroable, Pod)]
#[repr(C)]
pub(crate) struct Life {
    bits: u64,
    since: i64,
    deadline: i64,
    stamp: i64,
}

/// Words of a [`Life`] in a record.
pub(crate) const LIFE_WORDS: usize = size_of::<Life>() / 8;

/// A transition that happened: what and when.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Change {
    pub(crate) transition: Transition,
    pub(crate) since: i64,
    /// How many alerts of the target started at `since` before this one; only a `seq` column makes that possible.
    pub(crate) repeat: u64,
    /// When it became true; part of the id.
    pub(crate) at: i64,
    /// What the event carries: `at`, but no earlier than the last one.
    pub(crate) stamp: i64,
}

/// When an alert starts and ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    from: Flag,
    hold_for: i64,
    keep: i64,
}

impl Terms {
    pub(crate) fn new(raw: &AlertRaw) -> Self {
        Terms {
            from: match raw.on {
                On::Fail => Flag::Fail,
                On::Suspect => Flag::Suspect,
            },
            hold_for: raw.for_.map_or(0, |s| s.to_ns()),
            keep: raw.keep_firing_for.map_or(0, |s| s.to_ns()),
        }
    }

    /// Whether it ever sets a deadline.
    pub(crate) fn timed(&self) -> bool {
        self.hold_for > 0 || self.keep > 0
    }

    fn starts(&self, flag: Flag) -> bool {
        flag == Flag::Fail || flag == self.from
    }
}

impl Life {
    /// Whether a good sample would change nothing.
    #[inline]
    pub(crate) fn quiet(&self) -> bool {
        self.bits & (PENDING | FIRING | CLEARING) == 0
    }

    /// Whether an explanation must be kept for it.
    pub(crate) fn active(&self) -> bool {
        self.bits & (PENDING | FIRING) != 0
    }

    /// Whether it fires, also while it is about to end.
    pub(crate) fn firing(&self) -> bool {
        self.bits & FIRING != 0
    }

    /// The deadline that is armed.
    pub(crate) fn deadline(&self) -> Option<i64> {
        (self.bits & PENDING != 0 && self.bits & FIRING == 0 || self.bits & CLEARING != 0)
            .then_some(self.deadline)
    }

    /// Does what is due at the armed deadline.
    pub(crate) fn expire(&mut self) -> Change {
        let at = self.deadline;
        if self.bits & CLEARING != 0 { self.resolve(at) } else { self.fire(at) }
    }

    /// Takes one flag at time `ts`; deadlines before it must have been expired.
    pub(crate) fn apply(&mut self, terms: &Terms, flag: Flag, ts: i64) -> Option<Change> {
        match flag {
            _ if terms.starts(flag) => {
                self.bits &= !CLEARING;
                if self.bits & (PENDING | FIRING) != 0 {
                    return None;
                }
                let repeat = if self.bits & STARTED != 0 && self.since == ts { self.repeat() + 1 } else { 0 };
                self.bits = (self.bits % REPEAT) | (repeat * REPEAT) | STARTED | PENDING;
                (self.since, self.deadline) = (ts, ts.saturating_add(terms.hold_for));
                (terms.hold_for == 0).then(|| self.fire(ts))
            }
            Flag::Good | Flag::Suspect => {
                if self.bits & FIRING == 0 {
                    self.bits &= !PENDING;
                    return None;
                }
                if self.bits & CLEARING != 0 {
                    return None;
                }
                self.bits |= CLEARING;
                self.deadline = ts.saturating_add(terms.keep);
                (terms.keep == 0).then(|| self.resolve(ts))
            }
            _ => None,
        }
    }

    /// Ends it because its rule is gone; at `now`, or later if it was stamped later. Nothing if it does not fire.
    pub(crate) fn abandon(&mut self, now: i64) -> Option<Change> {
        (self.bits & FIRING != 0).then(|| self.resolve(now))
    }

    fn fire(&mut self, at: i64) -> Change {
        self.bits = self.bits & !PENDING | FIRING;
        self.change(Transition::Firing, at)
    }

    fn resolve(&mut self, at: i64) -> Change {
        self.bits &= !(FIRING | CLEARING | PENDING);
        self.change(Transition::Resolved, at)
    }

    fn repeat(&self) -> u64 {
        self.bits / REPEAT
    }

    fn change(&mut self, transition: Transition, at: i64) -> Change {
        self.stamp = if self.bits & STAMPED != 0 { self.stamp.max(at) } else { at };
        self.bits |= STAMPED;
        Change { transition, since: self.since, repeat: self.repeat(), at, stamp: self.stamp }
    }
}

/// Whose alert it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner<'a> {
    pub(crate) rule: &'a str,
    pub(crate) digest: &'a str,
    pub(crate) severity: &'a str,
}

/// The event of a change; `reason` says why it ended when no sample ended it.
pub(crate) fn event(
    owner: Owner<'_>,
    target: &str,
    change: Change,
    why: Option<Explanation>,
    reason: Option<&str>,
) -> Event {
    let Owner { rule, digest: rule_digest, severity } = owner;
    let (since, repeat) = (change.since.to_string(), change.repeat.to_string());
    let key = ["alert", rule, target, &since, rule_digest, &repeat];
    let alert = digest(if change.repeat == 0 { &key[..5] } else { &key });
    let word = match change.transition {
        Transition::Firing => "firing",
        Transition::Resolved => "resolved",
    };
    let what = What::Alert {
        alert: alert.clone(),
        rule: rule.into(),
        target: target.into(),
        transition: change.transition,
        since: change.since,
        severity: severity.into(),
        why,
        reason: reason.map(Into::into),
    };
    Event::new(change.stamp, &[&alert, word, &change.at.to_string()], what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(hold_for: i64, keep: i64) -> Terms {
        Terms { from: Flag::Fail, hold_for, keep }
    }

    /// Given `for`, when the fault ends before the deadline, then nothing fires.
    #[test]
    fn a_short_fault_never_fires() {
        let (mut life, terms) = (Life::zeroed(), terms(5, 0));
        assert_eq!(life.apply(&terms, Flag::Fail, 10), None);
        assert_eq!(life.deadline(), Some(15));
        assert_eq!(life.apply(&terms, Flag::Good, 12), None);
        assert!(life.quiet() && life.deadline().is_none());
    }

    /// Given an alert that keeps firing, when the fault is back before the deadline, then it never resolved.
    #[test]
    fn a_fault_that_comes_back_keeps_firing() {
        let (mut life, terms) = (Life::zeroed(), terms(0, 5));
        assert_eq!(life.apply(&terms, Flag::Fail, 10).map(|c| c.transition), Some(Transition::Firing));
        assert_eq!(life.apply(&terms, Flag::Good, 12), None);
        assert_eq!(life.apply(&terms, Flag::Fail, 14), None);
        assert_eq!(life.deadline(), None);
        assert_eq!(life.apply(&terms, Flag::Good, 20), None);
        assert_eq!(
            life.expire(),
            Change { transition: Transition::Resolved, since: 10, repeat: 0, at: 25, stamp: 25 }
        );
    }

    /// A missing sample neither starts nor ends anything.
    #[test]
    fn missing_changes_nothing() {
        let (mut life, terms) = (Life::zeroed(), terms(5, 0));
        life.apply(&terms, Flag::Fail, 10);
        let before = life;
        assert_eq!(life.apply(&terms, Flag::Missing, 11), None);
        assert_eq!(life.apply(&terms, Flag::NotEvaluated, 12), None);
        assert_eq!(life, before);
    }
}
