//! What a tick means: vote, flags and exclusion of members, the state of the signal, what it serves, and its alert.

use super::Group;
use crate::alert::{self, Life};
use crate::config::raw::Signals;
use crate::output::{Event, Outputs, ServedValue, Source, State, VerdictRow, What, status};
use detectors::forecast::Forecast;
use detectors::sample::Flag;
use detectors::vote::{MemberSample, Outcome, Panel, Vote, Voter};

/// How many members agree with the voted value.
fn agreeing(vote: &Vote) -> u32 {
    (vote.voted & !vote.miscompare).count_ones()
}

impl Group {
    /// When its alert is due.
    #[inline]
    pub(super) fn deadline(&self) -> Option<i64> {
        self.terms?;
        bytemuck::cast::<_, Life>(self.memory.life).deadline()
    }

    /// Votes on a panel and tells what it means; `any` tells whether it has a sample at all.
    pub(super) fn judge(&mut self, k: i64, panel: &[MemberSample], any: bool, out: &mut Outputs) {
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

    pub(super) fn change_state(
        &mut self,
        k: i64,
        to: State,
        reason: &str,
        command: Option<u64>,
        out: &mut Outputs,
    ) {
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
    pub(super) fn follow(&mut self, k: i64, state: State, out: &mut Outputs) {
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
    pub(super) fn expire(&mut self, before: i64, out: &mut Outputs) {
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

    /// Serves that there is no value.
    pub(super) fn serve_none(&mut self, k: i64, state: State, status: u32, out: &mut Outputs) {
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
}
