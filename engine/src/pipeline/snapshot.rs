//! Saving a partition, and going on from what was saved, under the same configuration or another one.

use super::{Future, Pipeline};
use crate::admit::{Row, TagState};
use crate::alert::{self, LIFE_WORDS, Life, Owner};
use crate::config::plan::Plan;
use crate::group;
use crate::output::{Counters, Outputs};
use crate::rule;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::sync::Arc;

/// Why a snapshot can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The bytes are not a snapshot of this version.
    #[error("the snapshot can't be read: {reason}")]
    Unreadable {
        /// What the decoder says.
        reason: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Snapshot {
    names: Vec<String>,
    tags: Vec<TagState>,
    stride: usize,
    words: Vec<u64>,
    rules: Vec<rule::Saved>,
    groups: Vec<group::Saved>,
    held: Vec<(u32, Vec<(Row, u64)>)>,
    jumpers: Vec<Row>,
    futures: Vec<(u32, Future)>,
    progress: Option<i64>,
    clock: Option<i64>,
    arrivals: u64,
    applied: u64,
    counters: Counters,
    reached: u8,
}

impl Pipeline {
    /// Everything that is needed to go on as if never stopped. Flushes nothing.
    ///
    /// # Panics
    /// Never: plain data always encodes.
    pub fn snapshot(&self) -> Vec<u8> {
        let words = self.store.words(self.names.len());
        let rules = self.rules.iter().map(|r| {
            let mut saved = r.save();
            let began = |(_, record): &(u32, &[u64])| saved.life(record).is_some_and(|life| !life.quiet());
            let records = (0..).zip(words.chunks_exact(self.store.stride().max(1)));
            let digests =
                records.filter(began).map(|(tag, _)| (tag, r.digest_for(&self.names[tag as usize])));
            let differ = digests.filter(|(_, digest)| *digest != saved.digest);
            saved.digests = differ.map(|(tag, digest)| (tag, digest.into_owned())).collect();
            saved
        });
        let snapshot = Snapshot {
            names: self.names.iter().map(|n| n.to_string()).collect(),
            tags: self.tags.clone(),
            stride: self.store.stride(),
            rules: rules.collect(),
            words,
            groups: self.groups.iter().map(|g| g.save().expect("plain data always encodes")).collect(),
            held: self.held.iter().map(|(t, w)| (*t, w.clone())).collect(),
            jumpers: self.jumpers.clone(),
            futures: self.futures.iter().map(|(t, f)| (*t, *f)).collect(),
            progress: self.progress,
            clock: self.clock,
            arrivals: self.arrivals,
            applied: self.applied,
            counters: self.counters,
            reached: self.reached,
        };
        postcard::to_stdvec(&snapshot).expect("plain data always encodes")
    }

    /// Goes on from a snapshot. Rules and groups are found by name: one that judges as before goes on as if never
    /// stopped; a rule whose detector is the same keeps what it learned; alerts of a rule or group that changed or is
    /// gone are resolved into `out`, with the reason.
    ///
    /// # Errors
    /// When the bytes are no snapshot.
    pub fn restore(
        plan: Arc<Plan>,
        partition: u32,
        bytes: &[u8],
        out: &mut Outputs,
    ) -> Result<Self, RestoreError> {
        let unreadable = |e: postcard::Error| RestoreError::Unreadable { reason: e.to_string() };
        let saved: Snapshot = postcard::from_bytes(bytes).map_err(unreadable)?;
        let whole = saved.tags.len() == saved.names.len()
            && saved.words.len() == saved.names.len() * saved.stride
            && saved.rules.iter().all(|r| r.fits(saved.stride));
        if !whole {
            return Err(RestoreError::Unreadable { reason: "its parts don't fit together".into() });
        }
        let mut pipeline = Pipeline::new(plan, partition);
        let tags: Vec<u32> = saved.names.iter().map(|name| pipeline.register(name)).collect();
        for (&tag, state) in tags.iter().zip(&saved.tags) {
            let here = &mut pipeline.tags[tag as usize];
            *here = TagState { grouped: here.grouped, wake: i64::MAX, batch: 0, ..*state };
        }
        pipeline.restore_rules(&saved, &tags, out);
        for old in &saved.groups {
            match pipeline.groups.iter_mut().find(|g| g.plan.raw.id == old.id) {
                Some(group) if group.plan.digest == old.digest => group.load(old).map_err(unreadable)?,
                Some(group) => {
                    old.abandon("rule changed", out);
                    group.carry(old);
                }
                None => old.abandon("rule removed", out),
            }
        }
        let renamed = |row: &Row| Row { tag: tags[row.tag as usize], ..*row };
        for (tag, waiting) in &saved.held {
            let waiting = waiting.iter().map(|(row, arrival)| (renamed(row), *arrival)).collect();
            pipeline.held.insert(tags[*tag as usize], waiting);
        }
        pipeline.jumpers = saved.jumpers.iter().map(renamed).collect();
        pipeline.futures = saved.futures.iter().map(|(tag, f)| (tags[*tag as usize], *f)).collect();
        (pipeline.progress, pipeline.clock) = (saved.progress, saved.clock);
        (pipeline.arrivals, pipeline.applied) = (saved.arrivals, saved.applied);
        (pipeline.counters, pipeline.reached) = (saved.counters, saved.reached);
        let grace = pipeline.plan.time.grace;
        for tag in 0..pipeline.names.len() as u32 {
            pipeline.arm_tag(tag, grace);
        }
        for g in 0..pipeline.groups.len() {
            pipeline.groups[g].woken();
            if let Some(wake) = pipeline.groups[g].take_wake() {
                pipeline.wakes.push(Reverse((wake, 1, g as u32)));
            }
        }
        Ok(pipeline)
    }

    fn restore_rules(&mut self, saved: &Snapshot, tags: &[u32], out: &mut Outputs) {
        let records = || tags.iter().zip(saved.words.chunks_exact(saved.stride));
        for old in &saved.rules {
            let at = self.plan.rules.iter().position(|r| r.raw.id == old.id);
            let head = at.map(|at| self.rules[at].save_head());
            let same_rule = head.as_ref().is_some_and(|head| head.digest == old.digest);
            let at_same_shape = at.filter(|_| head.is_some_and(|head| head.shape == old.shape));
            // Tags whose alert goes on: judged by the same parameters as when it began.
            let mut goes_on = vec![false; tags.len()];
            if let Some(at) = at_same_shape {
                let (offset, words) = self.rules[at].place();
                let mut firing = 0;
                // A tag that the rule no longer selects leaves nothing behind: later it begins anew.
                for (i, (&tag, record)) in
                    records().enumerate().filter(|(_, (tag, _))| self.rules[at].binds(**tag))
                {
                    let digest = self.rules[at].digest_for(&self.names[tag as usize]);
                    // One that rests has no digest of its own saved; what it was told last is still to be remembered.
                    let same = |life: &Life| digest == old.digest_for(i as u32) || life.quiet() && same_rule;
                    let life = old.life(record).filter(same);
                    goes_on[i] = life.is_some();
                    firing += u64::from(life.is_some_and(|life| life.firing()));
                    let words = if life.is_some() { words + LIFE_WORDS } else { words };
                    let to = self.store.region(tag, offset, words);
                    to.copy_from_slice(&record[old.offset..old.offset + words]);
                }
                self.rules[at].load(old, tags, firing);
                // The handle of the window is the last of the detector's words.
                for (tag, record) in records() {
                    if !self.rules[at].binds(*tag) {
                        self.rules[at].give_back(record[old.offset + old.state_words - 1]);
                    }
                }
            }
            let reason = if at.is_some() { "rule changed" } else { "rule removed" };
            for (i, (&tag, record)) in records().enumerate().filter(|(i, _)| !goes_on[*i]) {
                let Some(change) = old.life(record).and_then(|mut life| life.abandon(saved.tags[i].last))
                else {
                    continue;
                };
                let owner =
                    Owner { rule: &old.id, digest: old.digest_for(i as u32), severity: &old.severity };
                let why = old.why(i as u32);
                out.events.push(alert::event(owner, &self.names[tag as usize], change, why, Some(reason)));
            }
        }
    }
}
