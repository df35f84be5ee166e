//! When ticks close, and what of each member a tick sees.

use super::Group;
use crate::output::{Outputs, State};
use detectors::vote::MemberSample;

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

impl Group {
    /// Closes the ticks that the members' released samples make due.
    pub(super) fn close_due(&mut self, out: &mut Outputs) {
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
        u64::from(self.terms.is_some() && bytemuck::cast::<_, crate::alert::Life>(self.memory.life).firing())
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

    pub(super) fn idle(&self) -> bool {
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
}
