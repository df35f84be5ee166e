//! What a person should know of a stream: its source, its tags, what it refused.

use super::{AFTER_OUTAGE, Clock, Driver, Failure, Inlet, NO_ANSWER_WAIT, Outlet, Store};
use crate::checkpoint::CheckpointError;
use crate::intake::Content;
use crate::journal::Place;
use crate::output::Event;
use crate::payload::Message;
use std::cmp::Ordering;
use std::fmt;
use std::time::Duration;

/// What a person should know, and the loop goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A partition goes on from its checkpoint.
    Restored {
        /// The partition.
        partition: String,
        /// Where it goes on.
        next: Place,
        /// Events that are sent again.
        pending: usize,
    },
    /// The newest checkpoint was damaged; the one before was used.
    UsedPrevious {
        /// The partition.
        partition: String,
        /// What was wrong.
        why: CheckpointError,
    },
    /// A checkpoint could not be made; it is tried again.
    NoCheckpoint(String),
    /// Checkpoints are made again.
    CheckpointRecovered,
    /// The journal could not be written, so time does not move by the clock.
    NoJournal(String),
    /// Offsets could not be committed; nothing depends on them.
    NoCommit(String),
    /// A partition begins without a checkpoint.
    Begins {
        /// The partition.
        partition: String,
        /// Where.
        next: Place,
    },
    /// A consumer group gave a partition to this process, but it can't be read yet.
    Awaits {
        /// The partition.
        partition: String,
        /// Why not.
        why: String,
    },
    /// A partition went back to its consumer group.
    GivenBack {
        /// The partition.
        partition: String,
        /// Where who takes over goes on, if it was saved.
        next: Place,
        /// Whether a checkpoint was made.
        saved: bool,
    },
    /// Records or rows were refused: how many since the last such notice, and the first of them.
    DeadLetters {
        /// How many.
        count: u64,
        /// Code and reason of the first.
        first: String,
    },
    /// Records were lost before they were read.
    Lost(String),
    /// The source does not answer.
    SourceAway(String),
    /// It answers again.
    SourceBack,
    /// A sink does not take what it gets; the first reason, then silence until it recovers.
    SinkStalled(String),
    /// It takes it again.
    SinkRecovered,
    /// An output that can never be delivered was given up.
    GivenUp(String),
    /// Outputs wait for the sink, so nothing is read.
    BackPressure,
    /// A tag came from a second partition: its state starts anew there.
    Moved {
        /// The tag.
        tag: String,
        /// Where it was first.
        from: String,
        /// Where it is too.
        to: String,
    },
    /// A declared tag has not been seen at all, longer than its `gap` rule allows.
    NeverSeen {
        /// The tag.
        tag: String,
    },
    /// More of the last kind than are told one by one.
    AndMore,
    /// The members of a group came from two partitions: its signal has failed in both.
    Split {
        /// The signal.
        signal: String,
    },
}

/// For a reader.
impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Restored { partition, next, pending } => {
                write!(f, "{partition} goes on at offset {} ({pending} events are sent again)", next.offset)
            }
            Notice::UsedPrevious { partition, why } => {
                write!(
                    f,
                    "{partition}: the newest checkpoint can't be used ({why}); going on from the one before"
                )
            }
            Notice::NoCheckpoint(why) => write!(f, "no checkpoint could be made, trying again: {why}"),
            Notice::CheckpointRecovered => write!(f, "checkpoints are made again"),
            Notice::NoJournal(why) => {
                write!(f, "the journal can't be written, the clock moves nothing: {why}")
            }
            Notice::NoCommit(why) => write!(f, "offsets could not be committed: {why}"),
            Notice::Begins { partition, next } => {
                write!(f, "{partition} has no checkpoint and begins at offset {}", next.offset)
            }
            Notice::Awaits { partition, why } => {
                write!(f, "{partition} was assigned to this process, but it waits: {why}")
            }
            Notice::GivenBack { partition, next, saved: true } => {
                write!(f, "{partition} was given back to its group at offset {}", next.offset)
            }
            Notice::GivenBack { partition, .. } => {
                write!(
                    f,
                    "{partition} was given back to its group; what came after its last checkpoint is judged again"
                )
            }
            Notice::DeadLetters { count, first } => write!(f, "{count} refused, the first: {first}"),
            Notice::Lost(what) => write!(f, "{what}"),
            Notice::SourceAway(why) => write!(f, "the source does not answer, waiting for it: {why}"),
            Notice::SourceBack => write!(f, "the source answers again"),
            Notice::SinkStalled(why) => write!(f, "a sink does not take outputs, they are kept: {why}"),
            Notice::SinkRecovered => write!(f, "the sink takes outputs again"),
            Notice::GivenUp(why) => write!(f, "an output was given up: {why}"),
            Notice::BackPressure => write!(f, "too many outputs wait for the sink; reading waits"),
            Notice::Moved { tag, from, to } => {
                write!(
                    f,
                    "{tag} came from {from} and now from {to}: it starts anew there; send a tag to one partition"
                )
            }
            Notice::NeverSeen { tag } => write!(f, "{tag} is declared and watched, but was never seen"),
            Notice::AndMore => write!(f, "and so on: the rest is not told one by one"),
            Notice::Split { signal } => write!(
                f,
                "members of {signal} come from two partitions: it has failed; send all members to one partition"
            ),
        }
    }
}

/// Code, reason and place of a dead letter, for a reader.
pub(super) fn describe(letter: &Message) -> String {
    let header = |name: &str| {
        let found = letter.headers.iter().find(|(n, _)| n == name);
        found.map_or("", |(_, value)| std::str::from_utf8(value).unwrap_or(""))
    };
    let (topic, partition, offset) = (header("topic"), header("partition"), header("offset"));
    format!("{} ({}) at {topic}-{partition} offset {offset}", header("reason"), header("code"))
}

/// Operational events that are told one by one.
const TOLD: usize = 1_000;

/// Between notices of refused rows.
const REFUSED_EVERY: Duration = Duration::from_secs(60);

/// A source in trouble for so long is told.
const AWAY_AFTER: Duration = Duration::from_secs(10);

impl<I: Inlet, O: Outlet, S: Store, C: Clock> Driver<I, O, S, C> {
    /// What a person should know since the last call.
    pub fn notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// Tags that this partition saw for the first time: were they elsewhere?
    pub(super) fn newcomers(&mut self, number: u32) -> Result<(), Failure<I, O, S>> {
        let Some(partition) = self.partitions.get_mut(&number) else { return Ok(()) };
        let tags = partition.pipeline.take_newcomers();
        if tags.is_empty() {
            return Ok(());
        }
        let mut signals = Vec::new();
        for tag in tags {
            if let Some(home) = self.homes.get(&tag).filter(|home| **home != number) {
                let (from, to) = (self.partitions[home].name.clone(), self.partitions[&number].name.clone());
                let at = self.partitions[&number].pipeline.progress().unwrap_or(0);
                self.report(at, "tag_moved", &tag, Notice::Moved { tag: tag.clone(), from, to });
            }
            signals.extend(self.groups_of.get(&tag).into_iter().flatten().copied());
            self.homes.entry(tag).or_insert(number);
        }
        self.send(number)?;
        signals.sort_unstable();
        signals.dedup();
        for group in signals {
            let hears = |p: &&u32| self.partitions[p].pipeline.hears(group);
            let homes: Vec<u32> = self.partitions.keys().filter(hears).copied().collect();
            if homes.len() < 2 {
                continue;
            }
            let signal = self.plan.groups[group].raw.id.clone();
            let at = self.partitions[&number].pipeline.progress().unwrap_or(0);
            self.report(at, "group_split", &signal, Notice::Split { signal: signal.clone() });
            for home in homes {
                if self.partitions[&home].pipeline.is_split(group) {
                    continue;
                }
                let content = Content::Split { signal: signal.clone() };
                if let Err(error) = self.write(home, content) {
                    self.notices.push(Notice::NoJournal(error.to_string()));
                }
                self.send(home)?;
            }
        }
        Ok(())
    }

    /// Tells what a person should know of source and refused rows: at once, then now and then.
    pub(super) fn watch(&mut self, now: Duration) {
        if self.refused.0 > 0 && now >= self.next_refused {
            let (count, first) = std::mem::take(&mut self.refused);
            self.notices.push(Notice::DeadLetters { count, first });
            self.next_refused = now + REFUSED_EVERY;
        }
        self.notices.extend(self.inlet.lost().into_iter().map(Notice::Lost));
        match (self.inlet.trouble(), self.away) {
            (Some(_), None) => self.away = Some((now, false)),
            (Some(why), Some((since, told))) if now >= self.next_probe.max(since + AWAY_AFTER) => {
                self.next_probe = now + NO_ANSWER_WAIT;
                // A connection that was idle and closed is no trouble; who answers takes its complaint back.
                if self.inlet.at_end(0).is_none() && !told {
                    self.away = Some((since, true));
                    self.notices.push(Notice::SourceAway(why));
                }
            }
            (Some(_), Some(_)) => {}
            (None, Some((_, told))) => {
                self.away = None;
                // Who sends to the source needs a while too: what was kept back is no silence.
                self.next_tick = self.next_tick.max(now + AFTER_OUTAGE);
                if told {
                    self.notices.push(Notice::SourceBack);
                }
            }
            (None, None) => {}
        }
    }

    /// Tells something about the program's own work as an event and as a notice; only so many, then that there are more.
    fn report(&mut self, at: i64, code: &str, subject: &str, notice: Notice) {
        self.told += 1;
        match self.told.cmp(&TOLD) {
            Ordering::Less => {
                self.out.events.push(Event::operational(at, code, subject, notice.to_string()));
                self.notices.push(notice);
            }
            Ordering::Equal => self.notices.push(Notice::AndMore),
            Ordering::Greater => {}
        }
    }

    /// Declared tags that nobody has seen: no partition can find that, because they have no row.
    pub(super) fn tell_unseen(&mut self, now: i64) -> Result<(), Failure<I, O, S>> {
        let elapsed = self.clock.elapsed();
        let Some((&first, _)) = self.partitions.iter().next() else { return Ok(()) };
        // Another member of a group may have seen it.
        let whole = self.partitions.len() == self.origins.len() || !self.inlet.grouped();
        if !whole || !self.unseen.iter().any(|(_, due)| *due < elapsed) {
            return Ok(());
        }
        let all = std::mem::take(&mut self.unseen);
        let (due, later): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, due)| *due < elapsed);
        self.unseen = later;
        let unseen: Vec<String> =
            due.into_iter().map(|(tag, _)| tag).filter(|tag| !self.homes.contains_key(tag)).collect();
        if unseen.is_empty() {
            return Ok(());
        }
        // A backlog may still hold them.
        let numbers: Vec<u32> = self.partitions.keys().copied().collect();
        if !numbers.into_iter().all(|number| self.inlet.at_end(number) == Some(true)) {
            self.unseen.extend(unseen.into_iter().map(|tag| (tag, elapsed)));
            return Ok(());
        }
        for tag in unseen {
            self.report(now, "tag_never_seen", &tag, Notice::NeverSeen { tag: tag.clone() });
        }
        self.send(first)
    }
}
