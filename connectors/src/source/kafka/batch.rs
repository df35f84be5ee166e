//! librdkafka's batch call, which the safe binding lacks.
#![expect(unsafe_code, reason = "one foreign call and reading the messages it hands out")]

use std::{
    ffi::{CStr, c_int},
    ptr, slice,
    time::Duration,
};

use rdkafka::{
    bindings::{self as rd, rd_kafka_resp_err_t as Code},
    consumer::Consumer,
};

use super::context::Client;
use crate::decode::rows::Headers;

/// The queue on which a consumer's messages arrive. Must be dropped before the consumer.
pub(super) struct Queue {
    queue: ptr::NonNull<rd::rd_kafka_queue_t>,
    slots: Vec<*mut rd::rd_kafka_message_t>,
}

// SAFETY: librdkafka queues may be used from any thread, and `consume` takes `&mut self`. The slots
// are empty between calls.
unsafe impl Send for Queue {}

impl Queue {
    /// The queue of a consumer that has a group id (all of ours have).
    pub(super) fn of(consumer: &Client) -> Self {
        // SAFETY: the handle is live as long as `consumer`; the returned reference is counted and is
        // given back in `drop`.
        let queue = unsafe { rd::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) };
        let queue = ptr::NonNull::new(queue).expect("a consumer with a group id has a queue");
        Self { queue, slots: Vec::new() }
    }

    /// Takes up to `limit` messages, waiting until there are so many or `wait` is over.
    pub(super) fn consume(&mut self, wait: Duration, limit: usize, mut take: impl FnMut(&Fetched)) -> usize {
        self.slots.resize(limit, ptr::null_mut());
        // Rounded up, so that a wait below a millisecond does not spin.
        let wait_ms = c_int::try_from(wait.as_micros().div_ceil(1_000)).unwrap_or(c_int::MAX);
        // SAFETY: the queue is live; `slots` has room for `limit` pointers.
        let got = unsafe {
            rd::rd_kafka_consume_batch_queue(self.queue.as_ptr(), wait_ms, self.slots.as_mut_ptr(), limit)
        };
        let got = usize::try_from(got).unwrap_or(0).min(limit);
        // Owned before the first is looked at: all are given back even if `take` panics.
        let messages: Vec<Fetched> =
            self.slots[..got].iter().filter_map(|slot| ptr::NonNull::new(*slot).map(Fetched)).collect();
        self.slots.clear();
        messages.iter().for_each(&mut take);
        got
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: gives back the reference that `of` took; the client still lives (see the type).
        unsafe { rd::rd_kafka_queue_destroy(self.queue.as_ptr()) }
    }
}

/// One message, given back when dropped. Everything it lends lives as long as it.
pub(super) struct Fetched(ptr::NonNull<rd::rd_kafka_message_t>);

impl Fetched {
    fn message(&self) -> &rd::rd_kafka_message_t {
        // SAFETY: the batch call handed the message over; it is live until `drop`.
        unsafe { self.0.as_ref() }
    }

    pub(super) fn topic(&self) -> &str {
        let topic = self.message().rkt;
        if topic.is_null() {
            return "";
        }
        // SAFETY: the topic is live as long as the message; its name is a C string.
        unsafe { CStr::from_ptr(rd::rd_kafka_topic_name(topic)) }.to_str().unwrap_or("")
    }

    pub(super) fn partition(&self) -> i32 {
        self.message().partition
    }

    pub(super) fn offset(&self) -> i64 {
        self.message().offset
    }

    /// True for the notice that the end of a partition was reached.
    pub(super) fn is_end(&self) -> bool {
        self.message().err == Code::RD_KAFKA_RESP_ERR__PARTITION_EOF
    }

    /// What went wrong, if this is a complaint instead of a message.
    pub(super) fn error(&self) -> Option<String> {
        if self.message().err == Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            return None;
        }
        // SAFETY: returns a C string that lives as long as the message, or null.
        let text = unsafe { rd::rd_kafka_message_errstr(self.0.as_ptr()) };
        if text.is_null() {
            return Some(format!("{:?}", self.message().err));
        }
        // SAFETY: not null, see above.
        Some(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
    }

    pub(super) fn payload(&self) -> &[u8] {
        let message = self.message();
        // SAFETY: `payload` points to `len` bytes that live as long as the message, or is null.
        unsafe { bytes(message.payload.cast(), message.len) }.unwrap_or_default()
    }

    pub(super) fn key(&self) -> Option<&[u8]> {
        let message = self.message();
        // SAFETY: as for the payload.
        unsafe { bytes(message.key.cast(), message.key_len) }
    }

    pub(super) fn timestamp_ms(&self) -> Option<i64> {
        // SAFETY: the message is live; a null pointer for the type is allowed.
        let ms = unsafe { rd::rd_kafka_message_timestamp(self.0.as_ptr(), ptr::null_mut()) };
        (ms >= 0).then_some(ms)
    }

    /// Calls `visit` with each header, in order.
    fn each_header<'m>(&'m self, mut visit: impl FnMut(&'m str, &'m [u8])) {
        let mut headers = ptr::null_mut();
        // SAFETY: the message is live; its headers are parsed on the first call and owned by it.
        let code = unsafe { rd::rd_kafka_message_headers(self.0.as_ptr(), &raw mut headers) };
        if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            return;
        }
        for i in 0.. {
            let (mut name, mut value, mut len) = (ptr::null(), ptr::null(), 0);
            // SAFETY: `headers` is valid, and an index behind the last is answered with an error.
            let code = unsafe {
                rd::rd_kafka_header_get_all(headers, i, &raw mut name, &raw mut value, &raw mut len)
            };
            if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                return;
            }
            // SAFETY: name is a C string and value points to `len` bytes or is null; both live as
            // long as the message.
            let (name, value) = unsafe { (CStr::from_ptr(name), bytes(value.cast(), len)) };
            visit(name.to_str().unwrap_or(""), value.unwrap_or_default());
        }
    }
}

impl Headers for Fetched {
    fn get(&self, name: &str) -> Option<&[u8]> {
        let mut found = None;
        self.each_header(|key, value| {
            if key == name {
                found = Some(value);
            }
        });
        found
    }

    fn to_vec(&self) -> Vec<(String, Vec<u8>)> {
        let mut headers = Vec::new();
        self.each_header(|key, value| headers.push((key.to_owned(), value.to_vec())));
        headers
    }
}

impl Drop for Fetched {
    fn drop(&mut self) {
        // SAFETY: the message is ours and is given back once.
        unsafe { rd::rd_kafka_message_destroy(self.0.as_ptr()) }
    }
}

/// # Safety
/// `start` is null or points to `len` bytes that live for `'m`.
unsafe fn bytes<'m>(start: *const u8, len: usize) -> Option<&'m [u8]> {
    if start.is_null() {
        return None;
    }
    // SAFETY: see above.
    Some(unsafe { slice::from_raw_parts(start, len) })
}
