//! Groups: ticks, panels, votes, exclusion, the state of the signal and what it serves.
//!
//! A group sees its members' rows in the order of the log. It never looks at a clock: ticks close at the places that
//! DESIGN.md 3 names. Nothing here is read by a rule of a tag.

use crate::alert::{self, Life, Terms};
use crate::config::plan::GroupPlan;
use crate::config::raw::Signals;
use crate::limits::SEEN_SAMPLES;
use crate::output::{Event, FlagCounts, Outputs, ServedValue, Source, State, VerdictRow, What, status};
use detectors::forecast::{AnyForecast, Forecast};
use detectors::sample::Flag;
use detectors::vote::exclusion::{Exclusion, MemberState};
use detectors::vote::{AnyVoter, MemberSample, Outcome, Panel, Vote, Voter};
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

/// A group in a snapshot; another configuration can tell whether it may take it over, and what to end if not.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Saved {
    pub(crate) id: String,
    pub(crate) digest: String,
    severity: String,
    life: [u64; 4],
    closed: Option<i64>,
    held: bool,
    split: bool,
    memory: Vec<u8>,
}

impl Saved {
    /// Ends the alert of a group that is no more, or is another one.
    pub(crate) fn abandon(&self, reason: &str, out: &mut Outputs) {
        let mut life: Life = bytemuck::cast(self.life);
        if let Some(change) = life.abandon(self.closed.unwrap_or(0)) {
            let owner = alert::Owner { rule: &self.id, digest: &self.digest, severity: &self.severity };
            out.events.push(alert::event(owner, &self.id, change, None, Some(reason)));
        }
    }
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

    /// Closes the ticks that the members' released samples make due.
    fn close_due(&mut self, out: &mut Outputs) {
        while let Some(k) = self.next_tick().filter(|k| self.due(*k)) {
            self.tick(self.leap(k, self.due_until()), out);
        }
    }

    /// Closes ticks that are past at progress `p` and before `bound`; at the end, up to the first at or after `p`.
    #[inline]
    pub(crate) fn close_past(&mut self, p: i64, bound: i64, ended: bool, out: &mut Outputs) {
        if !self.is_quiet(p) || ended {
            self.close_all_past(p, bound, ended, out);
        }
    }

    fn close_all_past(&mut self, p: i64, bound: i64, ended: bool, out: &mut Outputs) {
        while let Some(k) = self.next_tick() {
            let past = if ended {
                p > k || self.memory.closed.is_none_or(|closed| closed < p)
            } else {
                p > k.saturating_add(self.plan.grace)
            };
            if k >= bound || !past {
                break;
            }
            let before = if ended { p } else { p.saturating_sub(self.plan.grace) };
            self.tick(self.leap(k, before.min(bound).saturating_sub(1)), out);
        }
        let before = if ended { p } else { p.saturating_sub(self.plan.grace) };
        self.expire(before.min(bound), out);
    }

    /// Tick `k` is due; a signal that is held by command says nothing at its ticks, so of those up to `until` only the
    /// last one is closed, and a long silence costs nothing.
    fn leap(&self, k: i64, until: i64) -> i64 {
        if !self.memory.held_by_command {
            return k;
        }
        let own = |m: usize| self.memory.seen[m].iter().map(|s| s.ts).filter(|ts| *ts > k).min();
        let until = self.plan.reference.and_then(own).map_or(until, |ts| until.min(ts - 1));
        if until <= k {
            return k;
        }
        let period = i128::from(self.plan.period);
        let steps = (i128::from(until) - i128::from(k)) / period;
        // No further than `until`, which fits.
        (i128::from(k) + steps * period) as i64
    }

    /// Whether progress `p` closes no tick.
    #[inline]
    pub(crate) fn nothing_past(&mut self, p: i64) -> bool {
        let later = |at: i64| p <= at.saturating_add(self.plan.grace);
        if self.is_quiet(p) {
            return true;
        }
        self.deadline().is_none_or(later)
            && self.next_tick().is_none_or(|k| p <= k.saturating_add(self.plan.grace))
    }

    /// How many of its alerts fire: one or none.
    pub(crate) fn firing(&self) -> u64 {
        u64::from(self.terms.is_some() && bytemuck::cast::<_, Life>(self.memory.life).firing())
    }

    /// When its alert is due.
    #[inline]
    fn deadline(&self) -> Option<i64> {
        self.terms?;
        bytemuck::cast::<_, Life>(self.memory.life).deadline()
    }

    /// Whether nothing is past at progress `p`, because a member was heard only just before.
    #[inline]
    fn is_quiet(&self, p: i64) -> bool {
        self.memory.heard.is_none_or(|heard| p <= heard.saturating_add(self.plan.grace))
    }

    /// Progress beyond which the next tick is past, if that is sooner than what was noted.
    pub(crate) fn take_wake(&mut self) -> Option<i64> {
        if !std::mem::take(&mut self.touched) {
            return None;
        }
        let k = self.next_tick().into_iter().chain(self.deadline()).min()?;
        let wake = self.memory.heard.map_or(k, |h| h.max(k)).saturating_add(self.plan.grace);
        (wake < self.noted).then(|| {
            self.noted = wake;
            wake
        })
    }

    /// The wake-up that was noted.
    pub(crate) fn noted(&self) -> Option<i64> {
        (self.noted != i64::MAX).then_some(self.noted)
    }

    /// Its noted wake-up has come.
    pub(crate) fn woken(&mut self) {
        (self.touched, self.noted) = (true, i64::MAX);
    }

    fn idle(&self) -> bool {
        let silent = matches!(self.memory.state, State::Unknown | State::Failed);
        silent && !self.memory.held_by_command && !self.memory.released
    }

    #[inline]
    fn next_tick(&mut self) -> Option<i64> {
        if let Some(next) = self.next {
            return next;
        }
        let next = self.find_tick();
        self.next = Some(next);
        next
    }

    fn find_tick(&self) -> Option<i64> {
        let memory = &self.memory;
        // Without a reference every tick closed is on the grid.
        if self.plan.reference.is_none()
            && !self.idle()
            && let Some(next) = memory.closed?.checked_add(self.plan.period)
        {
            return Some(next);
        }
        let new = |ts: i64| memory.closed.is_none_or(|closed| ts > closed);
        let low = if self.idle() {
            memory.seen.iter().flatten().map(|s| s.ts).filter(|ts| new(*ts)).min()?
        } else {
            memory.closed?.saturating_add(1)
        };
        let base = match (self.plan.reference, memory.closed) {
            (Some(_), Some(closed)) => closed,
            _ => 0,
        };
        let paced = paced(low, base, self.plan.period);
        let reference = self
            .plan
            .reference
            .and_then(|m| memory.seen[m].iter().map(|s| s.ts).filter(|ts| *ts >= low).min());
        let next = reference.map_or(paced, |r| r.min(paced));
        // At the end of time there is no later tick.
        memory.closed.is_none_or(|closed| next > closed).then_some(next)
    }

    /// The last time at which a tick is due.
    fn due_until(&self) -> i64 {
        let (lowest, highest) = self.reach();
        let held = self.memory.held.iter().flatten().min().copied().unwrap_or(i64::MAX);
        lowest.max(highest.saturating_sub(self.plan.wait).min(held).saturating_sub(1))
    }

    /// The smallest and the largest of the members' last released times.
    fn reach(&self) -> (i64, i64) {
        let each = self.memory.last.iter();
        each.fold((i64::MAX, i64::MIN), |(lowest, highest), ts| (lowest.min(*ts), highest.max(*ts)))
    }

    fn due(&self, k: i64) -> bool {
        let memory = &self.memory;
        let (lowest, highest) = self.reach();
        if lowest >= k {
            return true;
        }
        highest > k.saturating_add(self.plan.wait) && !memory.held.iter().flatten().any(|ts| *ts <= k)
    }

    fn tick(&mut self, k: i64, out: &mut Outputs) {
        self.memory.closed = Some(k);
        self.next = None;
        let mut panel = std::mem::take(&mut self.panel);
        panel.clear();
        let mut any = false;
        self.uncertain = 0;
        for (m, seen) in self.memory.seen.iter_mut().enumerate() {
            // The first sample with the largest time at or before the tick; what is older is never needed again.
            let mut sample = MemberSample { value: f64::NAN, age_ns: 0, present: false, eligible: false };
            while let (Some(first), Some(second)) = (seen.front().copied(), seen.get(1)) {
                if second.ts > k {
                    break;
                }
                let keep = first.ts >= second.ts;
                seen.pop_front();
                if keep {
                    seen[0] = first;
                }
            }
            let best = seen.front().copied().filter(|s| s.ts <= k);
            if let Some(best) = best.filter(|s| k.saturating_sub(s.ts) <= self.plan.max_age[m]) {
                let voting = self.exclusion.is_none() || self.memory.members[m].standing.votes();
                sample = MemberSample {
                    value: best.value,
                    age_ns: k.saturating_sub(best.ts),
                    present: best.present,
                    eligible: best.usable && voting,
                };
                self.uncertain |= u32::from(best.uncertain) << m;
                any = true;
            }
            panel.push(sample);
        }
        if !self.memory.held_by_command && !self.memory.split {
            self.judge(k, &panel, any, out);
        }
        self.panel = panel;
    }

    /// Votes on a panel and tells what it means; `any` tells whether it has a sample at all.
    fn judge(&mut self, k: i64, panel: &[MemberSample], any: bool, out: &mut Outputs) {
        // Nothing usable: a failed signal stays silent, and one that never had a sample has nothing to say.
        let eligible = panel.iter().any(|m| m.eligible);
        let unheard = self.memory.state == State::Unknown && !self.memory.released && !any;
        if !eligible && (self.memory.state == State::Failed || unheard) {
            return self.expire(k, out);
        }
        self.memory.released = false;
        let vote = self.voter.vote(&Panel { t_ns: k, members: panel, model: None });
        if self.is_as_ever(&vote, panel.len(), out) {
            self.go_on(k, panel.len() as u64, &vote, out);
            return;
        }
        self.judge_members(k, panel, &vote, out);
        self.step(k, panel, &vote, out);
    }

    /// Whether a vote changes nothing and calls for no output: all members agree as they did before.
    #[inline]
    fn is_as_ever(&self, vote: &Vote, members: usize, out: &Outputs) -> bool {
        let memory = &self.memory;
        let agreed = vote.outcome == Outcome::Voted && vote.miscompare == 0 && vote.value.is_finite();
        let all = vote.voted.count_ones() as usize == members && self.uncertain == 0;
        let normal = memory.state == State::Normal
            && memory.source == Source::Voted
            && memory.status == status::GOOD
            && self.plan.raw.signals != Signals::Every;
        agreed && all && normal && self.exclusion.is_none() && !out.all_verdicts
    }

    /// What [`judge_members`](Self::judge_members) and [`step`](Self::step) do then.
    #[inline]
    fn go_on(&mut self, k: i64, members: u64, vote: &Vote, out: &mut Outputs) {
        self.memory.counts.good += members;
        self.memory.healthy = self.memory.healthy.saturating_add(1);
        self.memory.rung = None;
        for model in &mut self.memory.models {
            model.learn(k, vote.value);
        }
        self.follow(k, State::Normal, out);
    }

    /// Flags, counts and exclusions of the members at a tick.
    fn judge_members(&mut self, k: i64, panel: &[MemberSample], vote: &Vote, out: &mut Outputs) {
        let compared = vote.value.is_finite() && matches!(vote.outcome, Outcome::Voted | Outcome::Pair)
            || vote.miscompare != 0;
        let (mut miscompare, mut missing) = (0u32, 0u32);
        for (m, sample) in panel.iter().enumerate() {
            let voted = vote.voted >> m & 1 == 1 || vote.miscompare >> m & 1 == 1;
            let mut off = vote.miscompare >> m & 1 == 1;
            if !sample.eligible && sample.present && vote.value.is_finite() {
                off = (sample.value - vote.value).abs() > vote.tolerance;
            }
            let flag = if !sample.present {
                Flag::Missing
            } else if voted && compared {
                if off { Flag::Suspect } else { Flag::Good }
            } else {
                Flag::NotEvaluated
            };
            miscompare |= u32::from(off) << m;
            missing |= u32::from(!sample.present) << m;
            self.memory.counts.add(flag, 1);
            if flag == Flag::Suspect || out.all_verdicts {
                let score = if flag == Flag::Suspect { 1.0 } else { 0.0 };
                let value = Some(sample.value).filter(|x| sample.present && !x.is_nan());
                out.verdicts.push(VerdictRow {
                    ts: k,
                    tag: self.tags[m],
                    rule: self.rule,
                    flag,
                    score,
                    value,
                });
            }
        }
        let Some(exclusion) = &self.exclusion else { return };
        // A middle value that nobody else agrees with blames nobody; two that agree blame who is not among them, also when
        // the others are excluded and no longer vote.
        let isolatable = agreeing(vote) >= 2 && matches!(vote.outcome, Outcome::Voted | Outcome::Pair);
        let blamed = if isolatable { miscompare } else { 0 };
        let changes = exclusion.step(&mut self.memory.members, blamed, missing, 2);
        for change in changes.as_slice() {
            let member = self.plan.raw.members[change.member].clone();
            let (from, to) = (change.from.name(), change.to.name());
            let id = &self.plan.raw.id;
            if from == "suspect" && to == "active" || from == "active" && to == "suspect" {
                continue;
            }
            let what =
                What::Member { group: id.clone(), member: member.clone(), from: from.into(), to: to.into() };
            out.events.push(Event::new(
                k,
                &["member", id, &member, from, to, &k.to_string(), &self.plan.digest],
                what,
            ));
        }
    }

    /// Moves the signal's state and serves a value.
    fn step(&mut self, k: i64, panel: &[MemberSample], vote: &Vote, out: &mut Outputs) {
        let usable =
            vote.value.is_finite() && !matches!(vote.outcome, Outcome::NotIsolatable | Outcome::NoQuorum);
        let healthy =
            usable && matches!(vote.outcome, Outcome::Voted | Outcome::Pair) && vote.miscompare == 0;
        let excluded = self.exclusion.is_some() && self.memory.members.iter().any(|m| !m.standing.votes());
        let before = self.memory.state;
        // At the very start members come one after the other: no quorum yet is not a failure.
        let young = self.memory.first.is_none_or(|first| k.saturating_sub(first) < self.plan.max_skew);
        let gathering = panel.iter().any(|m| m.eligible) && panel.iter().any(|m| !m.present);
        if before == State::Unknown && !usable && young && gathering {
            return;
        }
        let serving = matches!(before, State::Degraded | State::Recovering);
        self.memory.healthy = if healthy { self.memory.healthy.saturating_add(1) } else { 0 };
        let mut estimate = None;
        let taken_back = !serving || self.memory.healthy >= self.plan.raw.confirm;
        let after = if usable && taken_back {
            if healthy && !excluded { State::Normal } else { State::Suspect }
        } else {
            let rung = self.serve_rung(k, serving);
            estimate = rung.and_then(|r| self.memory.models[usize::from(r)].predict(k));
            self.memory.rung = rung.filter(|_| estimate.is_some());
            match self.memory.rung {
                Some(_) if usable => State::Recovering,
                Some(_) => State::Degraded,
                None if usable => State::Suspect,
                None => State::Failed,
            }
        };
        let measured = matches!(after, State::Normal | State::Suspect);
        if measured {
            self.memory.rung = None;
            if healthy && !excluded {
                for model in &mut self.memory.models {
                    model.learn(k, vote.value);
                }
            }
        }
        let reason = match vote.outcome {
            Outcome::Voted if vote.miscompare != 0 => "miscompare",
            Outcome::Voted | Outcome::Pair if excluded => "member excluded",
            Outcome::Voted | Outcome::Pair => "members agree",
            Outcome::Single => "single member, no cross-check",
            Outcome::NotIsolatable => "two members disagree, not isolatable",
            Outcome::NoQuorum => "no quorum",
        };
        let now_serving = matches!(after, State::Degraded | State::Recovering);
        if now_serving && !serving {
            self.memory.switches += 1;
        }
        if measured && (serving || before == State::Failed) {
            self.memory.recoveries += 1;
        }
        self.change_state(k, after, reason, None, out);
        let (source, code) = match (after, self.memory.rung) {
            (State::Normal, _) => (Source::Voted, status::GOOD),
            (State::Suspect, _) if vote.outcome == Outcome::Single => (Source::Measured, status::SUB_NORMAL),
            (State::Suspect, _) if healthy || vote.outcome == Outcome::Voted && agreeing(vote) >= 2 => {
                (Source::Voted, status::GOOD)
            }
            (State::Suspect, _) => (Source::Voted, status::SUB_NORMAL),
            (_, Some(rung)) if self.kinds[usize::from(rung)] == "hold" => {
                (Source::Hold(rung), status::LAST_USABLE)
            }
            (_, Some(rung)) => (Source::Model(rung), status::SUBSTITUTE),
            _ if panel.iter().any(|m| m.present) => (Source::None, status::SENSOR_FAILURE),
            _ => (Source::None, status::NO_COMMUNICATION),
        };
        // What an uncertain sample had a part in is no better than uncertain.
        let doubtful = code == status::GOOD && vote.voted & self.uncertain != 0;
        let code = if doubtful { status::SUB_NORMAL } else { code };
        let (value, lo, hi, horizon_ns) = match estimate.filter(|_| now_serving) {
            Some(e) => (e.value, e.lo, e.hi, e.horizon_ns),
            None if measured => (vote.value, f64::NAN, f64::NAN, 0),
            None => (f64::NAN, f64::NAN, f64::NAN, 0),
        };
        let changed = before != after || source != self.memory.source || code != self.memory.status;
        (self.memory.source, self.memory.status) = (source, code);
        if changed || after != State::Normal || self.plan.raw.signals == Signals::Every {
            let coverage = match self.memory.rung {
                Some(r) if now_serving => self.plan.raw.fallback[usize::from(r)].coverage(),
                _ => f64::NAN,
            };
            self.memory.n = if self.memory.served_at == k { self.memory.n + 1 } else { 0 };
            self.memory.served_at = k;
            let (group, n) = (self.number, self.memory.n);
            out.values.push(ServedValue {
                group,
                ts: k,
                n,
                value,
                lo,
                hi,
                coverage,
                source,
                status: code,
                state: after,
                horizon_ns,
            });
        }
        self.follow(k, after, out);
    }

    /// The rung of the ladder that can serve, starting models when the fallback begins.
    fn serve_rung(&mut self, k: i64, serving: bool) -> Option<u8> {
        if !serving {
            self.memory.lost_at = k;
            for model in &mut self.memory.models {
                model.start(k);
            }
            if self.memory.state == State::Failed {
                return None;
            }
        }
        let first = self.memory.rung.filter(|_| serving).unwrap_or(0);
        let since = self.memory.lost_at;
        (first..self.memory.models.len() as u8).find(|r| {
            let model = &self.memory.models[usize::from(*r)];
            model.ready() && k.saturating_sub(since) <= model.max_horizon_ns() && model.predict(k).is_some()
        })
    }

    fn change_state(&mut self, k: i64, to: State, reason: &str, command: Option<u64>, out: &mut Outputs) {
        let from = self.memory.state;
        if from == to {
            return;
        }
        self.memory.state = to;
        self.next = None;
        let id = &self.plan.raw.id;
        let number = command.map_or(String::new(), |n| n.to_string());
        let what = What::Signal {
            signal: id.clone(),
            from: from.name().into(),
            to: to.name().into(),
            reason: reason.into(),
            command,
        };
        out.events.push(Event::new(
            k,
            &["signal", id, to.name(), &k.to_string(), &number, &self.plan.digest],
            what,
        ));
    }

    /// The alert on the signal: suspect when it is not normal, fail when it is served by a model or not at all.
    #[inline]
    fn follow(&mut self, k: i64, state: State, out: &mut Outputs) {
        let Some(terms) = self.terms else { return };
        let flag = match state {
            State::Normal => Flag::Good,
            State::Suspect | State::Recovering => Flag::Suspect,
            State::Degraded | State::Failed => Flag::Fail,
            State::Unknown | State::Held => Flag::NotEvaluated,
        };
        self.expire(k, out);
        let mut life: Life = bytemuck::cast(self.memory.life);
        let change = life.apply(&terms, flag, k);
        self.memory.life = bytemuck::cast(life);
        self.tell(change, out);
    }

    /// Does what is due before `before` for its alert: a silent signal has no tick that would.
    fn expire(&mut self, before: i64, out: &mut Outputs) {
        while self.deadline().is_some_and(|d| d < before) {
            let mut life: Life = bytemuck::cast(self.memory.life);
            let change = life.expire();
            self.memory.life = bytemuck::cast(life);
            self.touched = true;
            self.tell(Some(change), out);
        }
    }

    fn tell(&self, change: Option<alert::Change>, out: &mut Outputs) {
        let severity = self.plan.raw.alert.as_ref().map_or("info", |a| a.severity.name());
        let id = &self.plan.raw.id;
        let owner = alert::Owner { rule: id, digest: &self.plan.digest, severity };
        out.events.extend(change.map(|change| alert::event(owner, id, change, None, None)));
    }

    /// Takes the signal out of service, or puts it back; acts at the last closed tick.
    pub(crate) fn hold(&mut self, on: bool, number: u64, out: &mut Outputs) {
        let split = self.memory.split && !on;
        if self.memory.held_by_command == on && !split {
            return;
        }
        self.memory.held_by_command = on;
        // Who releases a split signal says that its members come from one partition again.
        self.memory.split &= on;
        (self.next, self.touched) = (None, true);
        let k = self.memory.closed.unwrap_or(0);
        let (to, reason) =
            if on { (State::Held, "held by command") } else { (State::Unknown, "released by command") };
        self.change_state(k, to, reason, Some(number), out);
        self.memory.released = !on && self.memory.closed.is_some();
        if on && self.memory.closed.is_some() {
            self.serve_none(k, State::Held, status::OUT_OF_SERVICE, out);
        }
        // A held signal closes every tick, a failed one only those that have something new to see.
        self.close_due(out);
    }

    /// Fails the signal because its members come from two partitions; acts at the last closed tick.
    pub(crate) fn split(&mut self, number: u64, out: &mut Outputs) {
        if std::mem::replace(&mut self.memory.split, true) {
            return;
        }
        (self.next, self.touched) = (None, true);
        let k = self.memory.closed.or(self.memory.first).unwrap_or(0);
        if !self.memory.held_by_command {
            self.change_state(k, State::Failed, "members come from two partitions", Some(number), out);
            self.serve_none(k, State::Failed, status::NO_COMMUNICATION, out);
            self.follow(k, State::Failed, out);
        }
        self.close_due(out);
    }

    /// Serves that there is no value.
    fn serve_none(&mut self, k: i64, state: State, status: u32, out: &mut Outputs) {
        let none = f64::NAN;
        self.memory.n = if self.memory.served_at == k { self.memory.n + 1 } else { 0 };
        self.memory.served_at = k;
        (self.memory.source, self.memory.status) = (Source::None, status);
        out.values.push(ServedValue {
            group: self.number,
            ts: k,
            n: self.memory.n,
            value: none,
            lo: none,
            hi: none,
            coverage: none,
            source: Source::None,
            status,
            state,
            horizon_ns: 0,
        });
    }

    /// Whether a member was ever heard.
    pub(crate) fn hears(&self) -> bool {
        self.memory.heard.is_some()
    }

    pub(crate) fn is_split(&self) -> bool {
        self.memory.split
    }

    /// Takes over from a group of the same name what no configuration may undo: what a person held stays held, and what is
    /// split stays failed.
    pub(crate) fn carry(&mut self, old: &Saved) {
        (self.memory.held_by_command, self.memory.split) = (old.held, old.split);
        self.memory.closed = old.closed.filter(|_| old.held || old.split);
        match (old.held, old.split) {
            (true, _) => self.memory.state = State::Held,
            (false, true) => self.memory.state = State::Failed,
            (false, false) => {}
        }
        self.next = None;
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

    pub(crate) fn save(&self) -> Result<Saved, postcard::Error> {
        Ok(Saved {
            id: self.plan.raw.id.clone(),
            digest: self.plan.digest.clone(),
            severity: self.plan.raw.alert.as_ref().map_or("info", |a| a.severity.name()).into(),
            life: self.memory.life,
            closed: self.memory.closed,
            held: self.memory.held_by_command,
            split: self.memory.split,
            memory: postcard::to_stdvec(&self.memory)?,
        })
    }

    pub(crate) fn load(&mut self, saved: &Saved) -> Result<(), postcard::Error> {
        self.memory = postcard::from_bytes(&saved.memory)?;
        self.next = None;
        Ok(())
    }
}

/// The first tick at or after `low` on the grid of `period` through `base`.
#[inline]
fn paced(low: i64, base: i64, period: i64) -> i64 {
    if let Some(ahead) = low.checked_sub(base) {
        let short = match ahead.rem_euclid(period) {
            0 => 0,
            past => period - past,
        };
        if let Some(tick) = low.checked_add(short) {
            return tick;
        }
    }
    let (low, base, period) = (i128::from(low), i128::from(base), i128::from(period));
    let tick = low + (base - low).rem_euclid(period);
    tick.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

/// How many members agree with the voted value.
fn agreeing(vote: &Vote) -> u32 {
    (vote.voted & !vote.miscompare).count_ones()
}
