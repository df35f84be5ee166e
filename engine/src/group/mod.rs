//! Groups: ticks, panels, votes, exclusion, the state of the signal and what it serves.
//!
//! A group sees its members' rows in the order of the log ([`Group::enter`]). It never looks at a clock: `ticks.rs` closes
//! ticks at places that rows and progress decide, and `signal.rs` says what a tick means. Nothing here is
//! read by a rule of a tag.

mod commands;
mod saved;
mod signal;
mod ticks;

pub(crate) use saved::Saved;

use crate::alert::Terms;
use crate::config::plan::GroupPlan;
use crate::limits::SEEN_SAMPLES;
use crate::output::{Event, FlagCounts, Outputs, Source, State};
use detectors::forecast::AnyForecast;
use detectors::vote::exclusion::{Exclusion, MemberState};
use detectors::vote::{AnyVoter, MemberSample};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// A released sample that a tick may still see.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Seen {
    ts: i64,
    value: f64,
    present: bool,
    usable: bool,
    uncertain: bool,
}

/// A member's row on its way through the group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    pub(crate) ts: i64,
    /// Progress before the row's place, and after it.
    pub(crate) before: i64,
    pub(crate) after: i64,
    pub(crate) value: f64,
    pub(crate) present: bool,
    pub(crate) usable: bool,
    pub(crate) uncertain: bool,
}

/// What happened to the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Admitted, and waiting for older rows of its tag.
    Hold,
    /// Released at the place where it was admitted.
    Release,
    /// Released at the admission of a later row of its tag.
    ReleaseHeld,
    /// Released because its time is past.
    Past,
}

/// Everything of a group that a snapshot keeps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Memory {
    closed: Option<i64>,
    state: State,
    held_by_command: bool,
    /// Its members come from two partitions, so it is not voted.
    split: bool,
    /// Released by command, and no tick since: the next one says what it finds.
    released: bool,
    heard: Option<i64>,
    /// Time of the oldest sample of any member; not of the first to arrive, which another layout may change.
    first: Option<i64>,
    /// Last released time of each member; the smallest number: none.
    last: Vec<i64>,
    seen: Vec<VecDeque<Seen>>,
    held: Vec<Vec<i64>>,
    members: Vec<MemberState>,
    healthy: u32,
    rung: Option<u8>,
    lost_at: i64,
    served_at: i64,
    n: u32,
    source: Source,
    status: u32,
    models: Vec<AnyForecast>,
    life: [u64; 4],
    counts: FlagCounts,
    missed: u64,
    forgotten: u64,
    switches: u64,
    recoveries: u64,
}

/// A group at run time.
pub(crate) struct Group {
    pub(crate) plan: GroupPlan,
    number: u32,
    rule: u32,
    voter: AnyVoter,
    exclusion: Option<Exclusion>,
    terms: Option<Terms>,
    kinds: Vec<&'static str>,
    /// Tag numbers of the members, once they are known.
    pub(crate) tags: Vec<u32>,
    memory: Memory,
    /// The next tick, while it is known.
    next: Option<Option<i64>>,
    /// Changed since its wake-up was noted, and the earliest wake-up noted.
    touched: bool,
    noted: i64,
    /// Scratch of a tick: the panel, and the members whose samples are uncertain.
    panel: Vec<MemberSample>,
    uncertain: u32,
}

impl Group {
    pub(crate) fn new(plan: &GroupPlan, number: u32, rule: u32) -> Self {
        let n = plan.raw.members.len();
        let memory = Memory {
            closed: None,
            state: State::Unknown,
            held_by_command: false,
            split: false,
            released: false,
            heard: None,
            first: None,
            last: vec![i64::MIN; n],
            seen: vec![VecDeque::new(); n],
            held: vec![Vec::new(); n],
            members: vec![MemberState::default(); n],
            healthy: 0,
            rung: None,
            lost_at: 0,
            served_at: i64::MIN,
            n: 0,
            source: Source::None,
            status: 0,
            models: plan.models.clone(),
            life: [0; 4],
            counts: FlagCounts::default(),
            missed: 0,
            forgotten: 0,
            switches: 0,
            recoveries: 0,
        };
        Group {
            plan: plan.clone(),
            number,
            rule,
            voter: plan.voter.clone(),
            exclusion: plan.exclusion,
            terms: plan.raw.alert.as_ref().map(Terms::new),
            kinds: plan.raw.fallback.iter().map(|raw| raw.kind()).collect(),
            tags: vec![u32::MAX; n],
            memory,
            next: None,
            touched: true,
            noted: i64::MAX,
            panel: Vec::new(),
            uncertain: 0,
        }
    }

    /// A member's row, in the order of the log.
    #[inline(always)]
    pub(crate) fn enter(&mut self, member: usize, entry: &Entry, out: &mut Outputs) {
        self.touched = true;
        let bound = if entry.kind == Kind::Past { entry.ts } else { i64::MAX };
        self.close_past(entry.before, bound, false, out);
        let memory = &mut self.memory;
        if matches!(entry.kind, Kind::Hold | Kind::Release) {
            memory.heard = memory.heard.max(Some(entry.after));
        }
        match entry.kind {
            Kind::Hold => {
                memory.held[member].push(entry.ts);
                return;
            }
            Kind::ReleaseHeld | Kind::Past => {
                if let Some(i) = memory.held[member].iter().position(|ts| *ts == entry.ts) {
                    memory.held[member].swap_remove(i);
                }
            }
            Kind::Release => {}
        }
        memory.last[member] = entry.ts;
        memory.first = Some(memory.first.map_or(entry.ts, |first| first.min(entry.ts)));
        if memory.closed.is_some_and(|closed| entry.ts <= closed) {
            memory.missed += 1;
        }
        memory.seen[member].push_back(Seen {
            ts: entry.ts,
            value: entry.value,
            present: entry.present,
            usable: entry.usable,
            uncertain: entry.uncertain,
        });
        if memory.seen[member].len() > SEEN_SAMPLES {
            self.forget(member, entry.ts, out);
        }
        if self.idle() || self.plan.reference == Some(member) || self.next == Some(None) {
            self.next = None;
        }
        // Whatever was due is closed, so a tick is due only by a row at or after it.
        let before_next = self.next.flatten().is_some_and(|next| entry.ts < next);
        if !(before_next && entry.kind == Kind::Release) {
            self.close_due(out);
        }
    }

    /// Too many samples of a member wait for a tick: the oldest goes.
    #[cold]
    fn forget(&mut self, member: usize, at: i64, out: &mut Outputs) {
        self.memory.seen[member].pop_front();
        self.memory.forgotten += 1;
        if self.memory.forgotten == 1 {
            let id = &self.plan.raw.id;
            let message = format!(
                "{SEEN_SAMPLES} samples of a member of {id} wait for a tick: the oldest are forgotten"
            );
            out.events.push(Event::operational(at, "limit_group_samples", id, message));
        }
    }

    /// Whether a member was ever heard.
    pub(crate) fn hears(&self) -> bool {
        self.memory.heard.is_some()
    }

    pub(crate) fn is_split(&self) -> bool {
        self.memory.split
    }

    pub(crate) fn counts(&self) -> FlagCounts {
        self.memory.counts
    }

    /// Samples forgotten because too many waited for a tick.
    pub(crate) fn forgotten(&self) -> u64 {
        self.memory.forgotten
    }

    pub(crate) fn missed(&self) -> u64 {
        self.memory.missed
    }

    /// Switches to a fallback, and recoveries.
    pub(crate) fn tallies(&self) -> (u64, u64) {
        (self.memory.switches, self.memory.recoveries)
    }

    /// Kinds of the fallback models, in order.
    pub(crate) fn kinds(&self) -> &[&'static str] {
        &self.kinds
    }

    pub(crate) fn state(&self) -> State {
        self.memory.state
    }
}
