//! From messages to the rows of their partitions.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use rdkafka::{
    Message,
    message::{BorrowedMessage, Headers as _},
};

use super::{batch::Fetched, context::Client, offsets::Skipped};
use crate::{
    Polled,
    decode::{
        ipc::IpcDecoder,
        json::JsonDecoder,
        rows::{Headers, RecordContext, RowBuilder},
    },
};

/// Brings messages to their partitions.
pub(super) struct Sorter<'s> {
    pub(super) consumer: &'s Client,
    pub(super) names: &'s [(String, i32)],
    pub(super) partitions: &'s mut [Partition],
    pub(super) decoder: &'s mut Decoder,
    pub(super) last_error: &'s mut Option<String>,
    pub(super) skipped: &'s mut Vec<Skipped>,
    /// Partition of the message before, which mostly is that of the next.
    pub(super) last: usize,
}

pub(super) enum Decoder {
    Json(Box<JsonDecoder>),
    Ipc(IpcDecoder),
}

/// What is known of a partition, and its rows that are not handed on yet.
pub(super) struct Partition {
    pub(super) rows: RowBuilder,
    pub(super) ready: VecDeque<Polled>,
    pub(super) waiting_since: Option<Instant>,
    pub(super) next_offset: Option<i64>,
    /// Whether it is read: in a group only from [`begin`](super::KafkaSource::begin) on.
    pub(super) read: bool,
    /// The group takes it away: no more of its rows.
    pub(super) leaving: bool,
    /// High watermark at start, when reading until the end.
    pub(super) end: Option<i64>,
    pub(super) ended: bool,
    /// Offsets that no message came for, from and up to: the most since the broker was asked about them.
    pub(super) gap: Option<(i64, i64)>,
    pub(super) asked: Option<Instant>,
}

impl Sorter<'_> {
    fn find(&mut self, topic: &str, number: i32) -> Option<usize> {
        if self.names.get(self.last).is_some_and(|(t, n)| *n == number && t == topic) {
            return Some(self.last);
        }
        let found = self.search(topic, number);
        self.last = found.unwrap_or(self.last);
        found
    }

    fn search(&self, topic: &str, number: i32) -> Option<usize> {
        self.names.binary_search_by(|(t, n)| t.as_str().cmp(topic).then(n.cmp(&number))).ok()
    }

    pub(super) fn take(&mut self, message: &Fetched) {
        let Some(at) = self.find(message.topic(), message.partition()) else {
            if let Some(error) = message.error() {
                *self.last_error = Some(error);
            }
            return;
        };
        if message.is_end() {
            let partition = &mut self.partitions[at];
            partition.ended |= partition.end.is_some_and(|end| message.offset() >= end);
            return;
        }
        if let Some(error) = message.error() {
            *self.last_error = Some(error);
            return;
        }
        let ctx = RecordContext {
            offset: message.offset(),
            record_ts: message.timestamp_ms(),
            key: message.key(),
            topic: message.topic(),
            headers: message,
        };
        self.decode(at, message.payload(), ctx);
    }

    pub(super) fn take_polled(&mut self, message: &BorrowedMessage<'_>) {
        let Some(at) = self.find(message.topic(), message.partition()) else { return };
        let headers = PolledHeaders(message);
        let ctx = RecordContext {
            offset: message.offset(),
            record_ts: message.timestamp().to_millis(),
            key: message.key(),
            topic: message.topic(),
            headers: &headers,
        };
        self.decode(at, message.payload().unwrap_or_default(), ctx);
    }

    fn decode(&mut self, at: usize, payload: &[u8], ctx: RecordContext<'_>) {
        let partition = &mut self.partitions[at];
        let beyond = partition.end.is_some_and(|end| ctx.offset >= end);
        let again = partition.next_offset.is_some_and(|next| ctx.offset < next);
        if beyond || again || partition.leaving || !partition.read {
            partition.ended |= beyond;
            return;
        }
        if let Some(next) = partition.next_offset.filter(|next| ctx.offset > *next) {
            if partition.gap.is_none_or(|(from, to)| ctx.offset - next > to - from) {
                partition.gap = Some((next, ctx.offset));
            }
            self.look_into_gap(at);
        }
        let partition = &mut self.partitions[at];
        match self.decoder {
            Decoder::Json(decoder) => {
                decoder.decode(payload, ctx, &mut partition.rows);
                if partition.waiting_since.is_none() && !partition.rows.is_empty() {
                    partition.waiting_since = Some(Instant::now());
                }
            }
            Decoder::Ipc(decoder) => {
                // One record is one `Polled`: its consumer takes the record for read.
                partition.ready.push_back(decoder.decode(partition.rows.partition(), payload, ctx));
            }
        }
        partition.advance(ctx.offset + 1);
        *self.last_error = None;
    }
}

impl Partition {
    pub(super) fn new(number: u32) -> Self {
        Self {
            rows: RowBuilder::new(number),
            ready: VecDeque::new(),
            waiting_since: None,
            next_offset: None,
            read: false,
            leaving: false,
            end: None,
            ended: false,
            gap: None,
            asked: None,
        }
    }

    pub(super) fn take_due(&mut self, now: Instant, batch_rows: usize, max_wait: Duration) -> Option<Polled> {
        if let Some(polled) = self.ready.pop_front() {
            return Some(polled);
        }
        let since = self.waiting_since?;
        let full = self.rows.rows() + self.rows.bad().len() >= batch_rows;
        if !full && !self.ended && now.saturating_duration_since(since) < max_wait {
            return None;
        }
        self.waiting_since = None;
        (!self.rows.is_empty()).then(|| self.rows.finish())
    }

    fn advance(&mut self, next_offset: i64) {
        self.next_offset = Some(next_offset);
        self.ended |= self.end.is_some_and(|end| next_offset >= end);
    }
}

struct PolledHeaders<'m>(&'m BorrowedMessage<'m>);

impl Headers for PolledHeaders<'_> {
    fn get(&self, name: &str) -> Option<&[u8]> {
        let headers = self.0.headers()?;
        let found = (0..headers.count()).rev().map(|i| headers.get(i)).find(|header| header.key == name)?;
        found.value
    }

    fn to_vec(&self) -> Vec<(String, Vec<u8>)> {
        let headers = self.0.headers().into_iter().flat_map(|headers| headers.iter());
        headers.map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec())).collect()
    }
}
