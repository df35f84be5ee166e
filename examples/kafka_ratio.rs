//! What `truegauge run` makes of a Kafka topic beside the least that any reader of it must do: consuming the same messages
//! and parsing them with serde_json into columns. The broker is in the process, so one run compares both on one machine.
//!
//! Usage: `cargo run --release --example kafka_ratio [-- ROUNDS]`
//!
//! Four judgements run: limits, rate, z-score and one vote a partition. Both sides are timed from opening the client to the
//! last message, alternating; the rounds' own ratios tell how steady the machine is.
#![allow(missing_docs, reason = "an example")]
#![expect(unsafe_code, reason = "librdkafka's batch call, which the safe binding lacks")]

use clap::Parser;
use connectors::source::kafka::mock::MockBroker;
use rdkafka::bindings as rd;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::collections::HashMap;
use std::error::Error;
use std::fmt::Write as _;
use std::time::{Duration, Instant};
use truegauge::cmd::run::{Args, stream};

#[path = "../benches/plant/mod.rs"]
mod plant;

const PARTITIONS: usize = 40;
const TAGS: usize = 25;
/// For both sides alike: much is fetched at a time, so that reading is the limit and not the waiting for the broker.
const CLIENT: [(&str, &str); 4] = [
    ("queued.min.messages", "1000000"),
    ("queued.max.messages.kbytes", "262144"),
    ("fetch.message.max.bytes", "4194304"),
    ("fetch.wait.max.ms", "2"),
];

const FIRST_MS: i64 = 1_700_000_000_000;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn tag(partition: usize, i: usize) -> String {
    format!("unit{partition:02}.temp{i:04}")
}

/// Rows of one partition, scan by scan.
fn rows(partition: usize, rows: usize) -> impl Iterator<Item = String> {
    let mut noise = partition as u64 + 7;
    (0..rows).map(move |i| {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let value = 50.0 + (noise >> 40) as f64 / (1u64 << 24) as f64;
        plant::message(FIRST_MS + (i / TAGS) as i64 * 6_000, &tag(partition, i % TAGS), value)
    })
}

fn config(brokers: &[String], topic: &str) -> String {
    let mut text = format!(
        "[source.kafka]\nbrokers = {brokers:?}\ntopics = [{topic:?}]\ndecode.json = {{ ts_unit = \"ms\" }}\n\
         [source.kafka.properties]\n"
    );
    for (name, value) in CLIENT {
        let _ = writeln!(text, "\"{name}\" = \"{value}\"");
    }
    plant::judgements(&mut text, (0..PARTITIONS).map(|p| [tag(p, 0), tag(p, 1), tag(p, 2)]));
    text
}

/// Consumes and parses; gives the rows.
fn bare(brokers: &[String], topic: &str, messages: usize, array: bool) -> Result<usize, Box<dyn Error>> {
    let mut client = ClientConfig::new();
    for (name, value) in CLIENT {
        client.set(name, value);
    }
    let consumer: BaseConsumer = client
        .set("bootstrap.servers", brokers.join(","))
        .set("group.id", "bare")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .create()?;
    // As any reader does that looks whether the topic is there; without it the first assignment waits half a second.
    consumer.fetch_metadata(Some(topic), Duration::from_secs(10))?;
    let mut list = TopicPartitionList::new();
    for p in 0..PARTITIONS as i32 {
        list.add_partition_offset(topic, p, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let (mut ids, mut got) = (HashMap::<String, u32>::new(), 0);
    let (mut ts, mut tag, mut value, mut quality) = (vec![], vec![], vec![], vec![]);
    // SAFETY: the handle lives as long as `consumer`; the reference is given back below.
    let queue = unsafe { rd::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) };
    let mut slots = vec![std::ptr::null_mut::<rd::rd_kafka_message_t>(); 8_192];
    let mut take = |row: plant::Row<'_>| {
        ts.push(row.ts);
        let next = ids.len() as u32;
        let id = ids.get(row.tag).copied().unwrap_or_else(|| {
            ids.insert(row.tag.to_owned(), next);
            next
        });
        tag.push(id);
        value.push(row.value);
        quality.push(row.quality);
    };
    let (mut failed, mut wanted) = (None, 1);
    while got < messages && failed.is_none() {
        // Waits for one message, then takes what else is there: the call waits for as many as it is asked for.
        let wait = if wanted == 1 { 100 } else { 0 };
        // SAFETY: the queue is live, `slots` has room for `wanted`.
        let n = unsafe { rd::rd_kafka_consume_batch_queue(queue, wait, slots.as_mut_ptr(), wanted) };
        wanted = if n > 0 { slots.len() } else { 1 };
        for slot in &slots[..usize::try_from(n).unwrap_or(0)] {
            // SAFETY: a message that the call handed over; it is given back once, after its last use.
            unsafe {
                let message = &**slot;
                if message.err == rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                    got += 1;
                    let bytes = std::slice::from_raw_parts(message.payload.cast::<u8>(), message.len);
                    let parsed = if array {
                        serde_json::from_slice::<Vec<plant::Row<'_>>>(bytes)
                            .map(|rows| rows.into_iter().for_each(&mut take))
                    } else {
                        serde_json::from_slice::<plant::Row<'_>>(bytes).map(&mut take)
                    };
                    failed = failed.or(parsed.err());
                }
                rd::rd_kafka_message_destroy(*slot);
            }
        }
    }
    // SAFETY: gives back the reference that was taken; the client still lives.
    unsafe { rd::rd_kafka_queue_destroy(queue) };
    failed.map_or(Ok(()), Err)?;
    std::hint::black_box((&ts, &tag, &value, &quality));
    Ok(ts.len())
}

/// Fills the topic, in batches as long as a busy producer makes them.
fn fill(brokers: &[String], topic: &str, messages: usize, per_message: usize) -> Result<(), Box<dyn Error>> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers.join(","))
        .set("linger.ms", "20")
        .set("batch.size", "500000")
        .create()?;
    for p in 0..PARTITIONS {
        let mut rows = rows(p, per_message * messages);
        for _ in 0..messages {
            let rows: Vec<String> = rows.by_ref().take(per_message).collect();
            let text = if per_message == 1 { rows.concat() } else { format!("[{}]", rows.join(",")) };
            let record = BaseRecord::to(topic).partition(p as i32).key("key").payload(&text);
            producer.send(record).map_err(|(error, _)| error)?;
        }
        producer.flush(Duration::from_secs(10))?;
    }
    Ok(())
}

/// Processor seconds of the process so far, in hundredths, the broker's included; none where the system does not tell.
fn processor() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name in brackets: user and system time are the twelfth and thirteenth word.
    let words = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    words.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn main() -> Result<(), Box<dyn Error>> {
    let rounds: usize = std::env::args().nth(1).map_or(Ok(5), |n| n.parse())?;
    let dir = tempfile::tempdir()?;
    // The broker keeps 5 MB a partition.
    for (name, per_message, messages) in [("one row a message", 1, 20_000), ("100 rows a message", 100, 500)]
    {
        let topic = if per_message == 1 { "rows" } else { "arrays" };
        let broker = MockBroker::start(&[(topic, PARTITIONS as i32)])?;
        fill(&broker.brokers(), topic, messages, per_message)?;
        let path = dir.path().join(format!("{topic}.toml"));
        std::fs::write(&path, config(&broker.brokers(), topic))?;
        let line = ["run", "-c", path.to_str().ok_or("a path of text")?, "--until-end", "--json"];
        let args = Cli::try_parse_from(line)?.args;
        let all = PARTITIONS * messages * per_message;
        let (mut ours, mut theirs, mut ratios) = (f64::MAX, f64::MAX, Vec::new());
        for _ in 0..rounds {
            let (began, spent) = (Instant::now(), processor());
            let rows = bare(&broker.brokers(), topic, PARTITIONS * messages, per_message > 1)?;
            let (least, least_spent) = (began.elapsed().as_secs_f64(), processor() - spent);
            assert_eq!(rows, all, "the broker keeps all messages");
            let (began, spent) = (Instant::now(), processor());
            let summary = stream(&args)?;
            let (here, here_spent) = (began.elapsed().as_secs_f64(), processor() - spent);
            assert_eq!(summary.processed as usize, all, "every row is judged");
            println!(
                "  {name}: consume and parse {least:.2} s ({least_spent:.2} s of processor), judged {here:.2} s \
                 ({here_spent:.2} s), ratio {:.2} ({:.2})",
                least / here,
                least_spent / here_spent
            );
            (ours, theirs) = (ours.min(here), theirs.min(least));
            ratios.push(least / here);
        }
        ratios.sort_by(f64::total_cmp);
        let rate = |seconds: f64| all as f64 / seconds / 1e6;
        println!(
            "{name}: {all} rows; consume and parse {:.2} M rows/s, judged {:.2} M rows/s, ratio {:.2} of the best \
             rounds, {:.2} in the middle round",
            rate(theirs),
            rate(ours),
            theirs / ours,
            ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN)
        );
    }
    Ok(())
}
