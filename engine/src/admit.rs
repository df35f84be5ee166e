//! Admission: future rows, duplicates, conflicts, late rows, and per-tag order.
//!
//! Each row is looked at in the order of the log. What progress alone would do to a tag is done when the tag's next row
//! comes, or at the end of the batch: nobody can tell the difference, because a tag's rows, timers and ticks look at
//! nothing but the tag, its group and the progress before the row.

use crate::config::plan::Class;
use serde::{Deserialize, Serialize};

/// What admission remembers of a tag: one cache line.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[repr(align(64))]
pub(crate) struct TagState {
    /// Last released row.
    pub(crate) last: i64,
    pub(crate) last_bits: u64,
    pub(crate) last_seq: i64,
    /// Largest time admitted.
    pub(crate) newest: i64,
    /// Progress when the last row was admitted.
    pub(crate) heard: i64,
    /// The earliest entry of the tag among the wake-ups.
    pub(crate) wake: i64,
    /// Rows of the batch at hand, and which batch that is.
    pub(crate) count: u32,
    pub(crate) batch: u32,
    pub(crate) last_class: u8,
    /// Whether a row was released, and whether one was admitted.
    pub(crate) released: bool,
    pub(crate) admitted: bool,
    /// Whether the tag is a member of a group.
    pub(crate) grouped: bool,
}

impl Default for TagState {
    fn default() -> Self {
        TagState {
            last: 0,
            last_bits: 0,
            last_seq: 0,
            newest: 0,
            heard: 0,
            wake: i64::MAX,
            count: 0,
            batch: 0,
            last_class: 0,
            released: false,
            admitted: false,
            grouped: false,
        }
    }
}

/// A row as admission sees it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) tag: u32,
    pub(crate) ts: i64,
    /// NaN when missing.
    pub(crate) value: f64,
    pub(crate) class: u8,
    pub(crate) seq: Option<i64>,
    pub(crate) offset: i64,
    pub(crate) index: u32,
}

impl Row {
    /// What two rows must share to be the same: all missing are equal, and −0 is 0.
    pub(crate) fn same_as(&self) -> (u8, u64) {
        if self.value.is_nan() { (Class::Bad as u8, 0) } else { (self.class, (self.value + 0.0).to_bits()) }
    }

    pub(crate) fn value(&self) -> Option<f64> {
        (!self.value.is_nan()).then_some(self.value)
    }
}

/// Where a row goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Admit,
    Late,
    Duplicate,
    Conflict,
}

impl TagState {
    /// Compares a row with what is known of its tag; `held` are the tag's waiting rows.
    #[inline]
    pub(crate) fn check(&self, row: &Row, held: &[(Row, u64)]) -> Verdict {
        if self.released && row.ts < self.last {
            return Verdict::Late;
        }
        if !self.admitted || row.ts > self.newest {
            return Verdict::Admit;
        }
        let last = (self.released && self.last == row.ts)
            .then_some(((self.last_class, self.last_bits), self.last_seq));
        let waiting =
            held.iter().filter(|(h, _)| h.ts == row.ts).map(|(h, _)| (h.same_as(), h.seq.unwrap_or(0)));
        let (mut known, mut same, mut newer) = (false, false, true);
        for (what, seq) in waiting.chain(last) {
            known = true;
            same |= what == row.same_as();
            newer &= row.seq.is_some_and(|s| s > seq);
        }
        match (known, row.seq.is_some(), newer, same) {
            (false, ..) | (true, true, true, _) => Verdict::Admit,
            (true, true, false, _) | (true, false, _, true) => Verdict::Duplicate,
            (true, false, _, false) => Verdict::Conflict,
        }
    }

    /// Notes an admitted row, and gives what is past for its tag when it comes in.
    #[inline]
    pub(crate) fn admit(&mut self, ts: i64, before: i64, grace: i64) -> i64 {
        let silent = self.admitted && before > self.heard.saturating_add(grace);
        self.newest = if self.admitted { self.newest.max(ts) } else { ts };
        self.admitted = true;
        self.heard = before.max(ts);
        if silent { before.saturating_sub(grace) } else { i64::MIN }
    }

    /// Notes a released row.
    #[inline]
    pub(crate) fn release(&mut self, row: &Row) {
        let (class, bits) = row.same_as();
        (self.last, self.last_class, self.last_bits) = (row.ts, class, bits);
        self.last_seq = row.seq.unwrap_or(0);
        self.released = true;
    }
}
