//! The Kafka source and sink against a mock broker.
#![cfg(feature = "kafka")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_ipc::writer::StreamWriter;
use connectors::{
    BadRecord, Source, SourceError, Span,
    sink::kafka::{KafkaSink, KafkaSinkConfig, Offer, Outcome, TopicKind},
    source::kafka::{Change, KafkaConfig, KafkaSource, Offsets, mock::MockBroker},
};

const WAIT: Duration = Duration::from_secs(10);

fn config(brokers: &[String], topics: &[&str], more: &str) -> KafkaConfig {
    let (brokers, topics) = (serde_json::to_string(brokers).unwrap(), serde_json::to_string(topics).unwrap());
    serde_json::from_str(&format!(r#"{{"brokers":{brokers},"topics":{topics}{more}}}"#)).unwrap()
}

#[derive(Default)]
struct Read {
    rows: BTreeMap<u32, usize>,
    spans: Vec<(u32, Span)>,
    bad: Vec<BadRecord>,
}

fn read_all(source: &mut KafkaSource) -> Read {
    let mut read = Read::default();
    while let Some(polled) = source.poll(WAIT).unwrap() {
        assert_eq!(polled.spans.iter().map(|span| span.rows).sum::<usize>(), polled.batch.num_rows());
        assert!(polled.bad.iter().all(|bad| bad.before_row <= polled.batch.num_rows()));
        *read.rows.entry(polled.partition).or_default() += polled.batch.num_rows();
        read.spans.extend(polled.spans.iter().map(|span| (polled.partition, *span)));
        read.bad.extend(polled.bad);
    }
    read
}

const JSON: &str = r#","decode":{"json":{"ts_unit":"ms"}}"#;

/// Given rows, arrays and junk in three partitions of two topics, when read until the end, then
/// every row and every bad record is there once, in log order; a second read begins where told.
#[test]
fn rows_arrays_and_junk_are_all_counted() {
    let broker = MockBroker::start(&[("b", 1), ("a", 2)]).unwrap();
    for i in 0..1000 {
        let row = format!(r#"{{"ts":{i},"tag":"x","value":{i}.5}}"#);
        broker.send("a", i % 2, b"k", row.as_bytes()).unwrap();
        let array = format!(r#"[{row},{{"ts":{i}}},{row}]"#);
        broker.send("b", 0, b"k", if i % 10 == 0 { b"junk" } else { array.as_bytes() }).unwrap();
    }
    broker.flush().unwrap();
    let config = config(&broker.brokers(), &["b", "a"], JSON);
    let mut source = KafkaSource::open(&config, &Offsets::new(), true).unwrap();
    assert_eq!(source.partitions(), [("a".to_owned(), 0), ("a".to_owned(), 1), ("b".to_owned(), 0)]);
    let read = read_all(&mut source);
    assert_eq!(read.rows, BTreeMap::from([(0, 500), (1, 500), (2, 1800)]));
    let codes = |code| read.bad.iter().filter(|bad| bad.code == code).count();
    assert_eq!((codes("json_syntax"), codes("missing_field")), (100, 900));
    assert!(read.bad.iter().all(|bad| bad.origin == "b" && bad.key.as_deref() == Some(b"k")));
    let offsets: Vec<i64> =
        read.spans.iter().filter(|(partition, _)| *partition == 1).map(|(_, span)| span.offset).collect();
    assert_eq!(offsets, (0..500).collect::<Vec<i64>>());
    assert!(read.spans.iter().all(|(_, span)| span.record_ts.is_some()));

    source.commit(&Offsets::from([(("a".to_owned(), 0), 500)]), true).unwrap();
    let start = Offsets::from([(("a".to_owned(), 0), 490), (("a".to_owned(), 1), 500)]);
    let mut again = KafkaSource::open(&config, &start, true).unwrap();
    assert_eq!(read_all(&mut again).rows, BTreeMap::from([(0, 10), (2, 1800)]));
}

/// Given a record of two batches, when polled, then all its rows come at once: who has read them may go on behind the record.
#[test]
fn a_record_of_several_batches_is_read_whole() {
    let broker = MockBroker::start(&[("a", 1)]).unwrap();
    let batch = |times: &[i64]| {
        let columns: [(&str, ArrayRef); 3] = [
            ("ts", Arc::new(Int64Array::from(times.to_vec()))),
            ("tag", Arc::new(StringArray::from(vec!["x"; times.len()]))),
            ("value", Arc::new(Float64Array::from(vec![1.0; times.len()]))),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    };
    let mut writer = StreamWriter::try_new(Vec::new(), &batch(&[]).schema()).unwrap();
    writer.write(&batch(&[1, 2, 3])).unwrap();
    writer.write(&batch(&[4, 5])).unwrap();
    let record = writer.into_inner().unwrap();
    broker.send("a", 0, b"", &record).unwrap();
    broker.send("a", 0, b"", &record).unwrap();
    broker.flush().unwrap();
    let config = config(&broker.brokers(), &["a"], r#","decode":{"ipc":{"ts_unit":"ms"}}"#);
    let mut source = KafkaSource::open(&config, &Offsets::new(), true).unwrap();
    for offset in 0..2 {
        let polled = source.poll(WAIT).unwrap().unwrap();
        assert_eq!(polled.batch.num_rows(), 5);
        let places: Vec<_> = polled.spans.iter().map(|s| (s.offset, s.first_index, s.rows)).collect();
        assert_eq!(places, [(offset, 0, 5)]);
    }
    assert!(source.poll(WAIT).unwrap().is_none());
}

/// Given a live source, when nothing comes, then an empty batch; when the broker was away and a row
/// comes after it, then that row.
#[test]
fn a_live_source_outlasts_its_broker() {
    let broker = MockBroker::start(&[("a", 1)]).unwrap();
    let more = format!(r#"{JSON},"properties":{{"reconnect.backoff.max.ms":"200"}}"#);
    let mut source =
        KafkaSource::open(&config(&broker.brokers(), &["a"], &more), &Offsets::new(), false).unwrap();
    assert_eq!(source.poll(Duration::from_millis(20)).unwrap().unwrap().batch.num_rows(), 0);
    broker.set_reachable(false).unwrap();
    assert_eq!(source.poll(Duration::from_millis(200)).unwrap().unwrap().batch.num_rows(), 0);
    assert!(source.last_error().is_some());
    broker.set_reachable(true).unwrap();
    broker.send("a", 0, b"", br#"{"ts":1,"tag":"x","value":1}"#).unwrap();
    broker.flush().unwrap();
    assert_eq!(source.poll(WAIT).unwrap().unwrap().batch.num_rows(), 1);
}

/// Given an unknown topic, no broker, or a secret in the open, when opened, then the error says so.
#[test]
fn what_cannot_be_read_is_said_at_start() {
    let broker = MockBroker::start(&[("a", 1)]).unwrap();
    let open = |config: &KafkaConfig| KafkaSource::open(config, &Offsets::new(), true).err().unwrap();
    let error = open(&config(&broker.brokers(), &["nope"], ""));
    assert!(error.to_string().contains("no topic `nope`; the brokers have: a"), "{error}");
    let error = open(&config(&broker.brokers(), &["a"], r#","assign":"group""#));
    assert!(error.to_string().contains("assign"), "{error}");
    let error = open(&config(&["127.0.0.1:1".to_owned()], &["a"], r#","connect_timeout":"300ms""#));
    assert!(error.to_string().contains("no answer from 127.0.0.1:1"), "{error}");
    for name in [
        "sasl.username",
        "sasl.password",
        "sasl.oauthbearer.config",
        "sasl.oauthbearer.client.secret",
        "sasl.oauthbearer.client.credentials.client.secret",
        "sasl.oauthbearer.assertion.private.key.passphrase",
        "sasl.oauthbearer.assertion.private.key.pem",
        "ssl.key.pem",
        "ssl_key",
        "ssl.key.password",
        "ssl.keystore.password",
    ] {
        let error =
            open(&config(&broker.brokers(), &["a"], &format!(r#","properties":{{"{name}":"hush"}}"#)));
        let refused = matches!(&error, SourceError::Config { field: "properties", got, .. } if got == name);
        assert!(refused && !error.to_string().contains("hush"), "{name}: {error}");
    }
}

/// Given a reader that falls behind what the broker keeps, when it reads on, then what it missed is counted.
#[test]
fn what_is_dropped_before_it_is_read_is_counted() {
    fall_behind("earliest");
}

/// Given the same with `from = "latest"`, then it reads on at the oldest record kept: `from` is for the beginning only.
#[test]
fn a_reader_that_fell_behind_misses_nothing_that_is_kept() {
    fall_behind("latest");
}

fn fall_behind(from: &str) {
    let broker = MockBroker::start(&[("a", 1)]).unwrap();
    let pad = "x".repeat(900_000);
    let send = |i: i64| {
        let row = format!(r#"{{"ts":{i},"tag":"x","value":1,"pad":"{pad}"}}"#);
        broker.send("a", 0, b"", row.as_bytes()).unwrap();
        broker.flush().unwrap();
    };
    send(0);
    let more = format!(
        r#"{JSON},"from":"{from}","properties":{{"queued.min.messages":"1","queued.max.messages.kbytes":"1","fetch.message.max.bytes":"1000"}}"#
    );
    let start = Offsets::from([(("a".to_owned(), 0), 0)]);
    let mut source = KafkaSource::open(&config(&broker.brokers(), &["a"], &more), &start, false).unwrap();
    let mut read = Vec::new();
    let mut read_on = |source: &mut KafkaSource, last: i64| {
        let until = Instant::now() + WAIT;
        while read.last() != Some(&last) {
            assert!(Instant::now() < until, "{read:?}");
            let polled = source.poll(Duration::from_millis(100)).unwrap().unwrap();
            read.extend(polled.spans.iter().map(|span| span.offset));
        }
        read.clone()
    };
    assert_eq!(read_on(&mut source, 0), [0]);
    (1..20).for_each(send);
    let read = read_on(&mut source, 19);
    let missed: i64 = source.skipped().iter().map(|skipped| skipped.oldest - skipped.wanted).sum();
    assert!(missed > 0 && missed == 20 - read.len() as i64, "{read:?} {:?}", source.skipped());
}

/// Given a checkpoint behind the end of the log, when opened, then it is refused; one at the end is not.
#[test]
fn a_checkpoint_ahead_of_the_log_is_refused() {
    let broker = MockBroker::start(&[("a", 1)]).unwrap();
    for i in 0..3 {
        broker.send("a", 0, b"", format!(r#"{{"ts":{i},"tag":"x","value":1}}"#).as_bytes()).unwrap();
    }
    broker.flush().unwrap();
    let config = config(&broker.brokers(), &["a"], JSON);
    let at = |offset| Offsets::from([(("a".to_owned(), 0), offset)]);
    for until_end in [true, false] {
        assert!(KafkaSource::open(&config, &at(3), until_end).is_ok());
        let error = KafkaSource::open(&config, &at(77), until_end).err().unwrap();
        assert!(matches!(error, SourceError::Kafka { .. }));
        let text = error.to_string();
        let parts = ["a-0", "offset 77", "ends at 3", "ahead of the log", "empty state directory"];
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    }
}

/// Given messages sent through the sink, when its topic is read, then they are there with headers.
#[test]
fn what_the_sink_sends_can_be_read() {
    let broker = MockBroker::start(&[("alerts", 1)]).unwrap();
    let settings = KafkaSinkConfig { alerts: Some("alerts".to_owned()), ..KafkaSinkConfig::default() };
    let sink = KafkaSink::open(&settings, &broker.brokers()).unwrap();
    for i in 0..500 {
        let row = format!(r#"{{"ts":{i},"value":1}}"#);
        let headers = [("unit".to_owned(), b"u1".to_vec())];
        assert_eq!(sink.offer(i, TopicKind::Alerts, b"k", row.as_bytes(), &headers).unwrap(), Offer::Queued);
    }
    assert_eq!(sink.offer(500, TopicKind::Late, b"k", b"{}", &[]).unwrap(), Offer::NoTopic);
    let mut delivered = std::collections::BTreeSet::new();
    while delivered.len() < 500 {
        let some = sink.deliveries(WAIT);
        assert!(!some.is_empty(), "{} of 500", delivered.len());
        assert!(some.iter().all(|d| d.outcome == Outcome::Delivered));
        delivered.extend(some.iter().map(|d| d.ticket));
    }
    assert_eq!(sink.pending(), 0);
    let more = r#","decode":{"json":{"ts_unit":"ms","tag_template":"{header:unit}.{key}"}}"#;
    let mut source =
        KafkaSource::open(&config(&broker.brokers(), &["alerts"], more), &Offsets::new(), true).unwrap();
    let read = read_all(&mut source);
    assert_eq!((read.rows[&0], read.bad.len()), (500, 0));
}

/// Given a topic that is not there, when messages are offered to it, then each delivery fails and says the topic; when it is there,
/// then what is offered again arrives.
#[test]
fn a_topic_that_is_not_there_is_waited_for() {
    let broker = MockBroker::start(&[("alerts", 1)]).unwrap();
    broker.set_known("alerts", false).unwrap();
    let quick = [("topic.metadata.propagation.max.ms", "0"), ("topic.metadata.refresh.interval.ms", "100")];
    let properties = quick.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let settings =
        KafkaSinkConfig { alerts: Some("alerts".to_owned()), properties, ..KafkaSinkConfig::default() };
    let sink = KafkaSink::open(&settings, &broker.brokers()).unwrap();
    let send = |ticket| {
        assert_eq!(sink.offer(ticket, TopicKind::Alerts, b"", b"{}", &[]).unwrap(), Offer::Queued);
        let until = Instant::now() + WAIT;
        loop {
            if let Some(delivery) = sink.deliveries(Duration::from_millis(50)).pop() {
                assert_eq!(delivery.ticket, ticket);
                return delivery.outcome;
            }
            assert!(Instant::now() < until, "no word of {ticket}");
        }
    };
    assert!(matches!(send(0), Outcome::Failed(_)));
    assert!(matches!(send(1), Outcome::Failed(why) if why.contains("alerts")));
    broker.set_known("alerts", true).unwrap();
    let until = Instant::now() + WAIT;
    while send(2) != Outcome::Delivered {
        assert!(Instant::now() < until, "the topic is back and nothing arrives");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Given a member of a group that is alone, when it is told where to begin, must not read for a while, and joins again, then every
/// row comes once, from there on, by either protocol; without a place it begins where the group committed. (The mock does not bring
/// two members to terms; the tests with a real broker do.)
#[test]
fn a_member_of_a_group_reads_from_where_it_is_told() {
    for strategy in ["range", "cooperative-sticky"] {
        let broker = MockBroker::start(&[("t", 2)]).unwrap();
        let properties = format!(
            r#","assign":"group","batch_rows":7,"group":"{strategy}","properties":{{"partition.assignment.strategy":"{strategy}"}}"#
        );
        let config = config(&broker.brokers(), &["t"], &format!("{JSON}{properties}"));
        let send = |from: i64| {
            for i in from..from + 100 {
                let row = format!(r#"{{"ts":{i},"tag":"x","value":1}}"#);
                broker.send("t", (i % 2) as i32, b"k", row.as_bytes()).unwrap();
            }
            broker.flush().unwrap();
        };
        let mut source = KafkaSource::open(&config, &Offsets::new(), false).unwrap();
        let until = Instant::now() + Duration::from_secs(30);
        let mut read = Vec::new();
        let take = |source: &mut KafkaSource, read: &mut Vec<(u32, i64)>| {
            let polled = source.poll(Duration::from_millis(20)).unwrap().unwrap();
            read.extend(polled.spans.iter().map(|span| (polled.partition, span.offset)));
            assert!(Instant::now() < until, "{strategy}: {} rows", read.len());
        };
        send(0);
        let mut assigned = Vec::new();
        while assigned.len() < 2 {
            take(&mut source, &mut read);
            if let Some(Change::Assigned(partitions)) = source.next_change().unwrap() {
                assigned.extend(partitions);
            }
        }
        take(&mut source, &mut read);
        assert_eq!((assigned, read.len()), (vec![0, 1], 0), "rows before anybody said from where");
        assert_eq!(source.begin(&[(1, Some(10))]).unwrap(), [1]);
        while read.len() < 40 {
            take(&mut source, &mut read);
        }
        // What is paused goes on when another begins.
        source.idle().unwrap();
        assert_eq!(source.begin(&[(0, None)]).unwrap(), [0]);
        while read.len() < 90 {
            take(&mut source, &mut read);
        }
        send(100);
        for _ in 0..if strategy == "range" { 0 } else { 10 } {
            source.idle().unwrap();
        }
        while read.len() < 190 {
            take(&mut source, &mut read);
        }
        read.sort_unstable();
        let all = (0..100).map(|offset| (0, offset)).chain((10..100).map(|offset| (1, offset)));
        assert_eq!(read, all.collect::<Vec<_>>(), "{strategy}");
        source.commit(&Offsets::from([(("t".to_owned(), 0), 70)]), true).unwrap();
        source.release(&[0, 1]).unwrap();
        assert_eq!(source.begin(&[(0, None)]).unwrap(), [0]);
        assert_eq!(source.next_offset(0), Some(70));
    }
}

/// Given an output whose topic is not there, when topics are looked for, then it is named, and asking did not make it; given brokers
/// that are away, then it is an error.
#[test]
fn topics_that_are_not_there_are_named_and_not_made() {
    let broker = MockBroker::start(&[("alerts", 1), ("late", 1)]).unwrap();
    broker.set_known("late", false).unwrap();
    let topic = |name: &str| Some(name.to_owned());
    let settings = KafkaSinkConfig {
        alerts: topic("alerts"),
        signals: topic("elsewhere"),
        late: topic("late"),
        ..KafkaSinkConfig::default()
    };
    let sink = KafkaSink::open(&settings, &broker.brokers()).unwrap();
    for _ in 0..2 {
        let missing = sink.missing_topics(WAIT).unwrap();
        assert_eq!(missing, [(TopicKind::Signals, "elsewhere"), (TopicKind::Late, "late")]);
    }
    broker.set_reachable(false).unwrap();
    let error = sink.missing_topics(Duration::from_millis(200)).unwrap_err().to_string();
    assert!(error.contains("look for the topics of [sink.kafka]"), "{error}");
}

/// Given outputs that go to a topic that is read, then it is found, unless the brokers are others.
#[test]
fn an_output_that_would_be_read_again_is_found() {
    let brokers = ["one".to_owned(), "two".to_owned()];
    let source = config(&brokers, &["a", "b"], JSON);
    let sink = |own: Option<&str>, late: &str| KafkaSinkConfig {
        brokers: own.map(|own| vec![own.to_owned()]),
        alerts: Some("c".to_owned()),
        late: Some(late.to_owned()),
        ..KafkaSinkConfig::default()
    };
    assert_eq!(sink(None, "b").output_that_is_read(&source), Some((TopicKind::Late, "b")));
    assert_eq!(sink(Some("two"), "b").output_that_is_read(&source), Some((TopicKind::Late, "b")));
    assert_eq!(sink(Some("three"), "b").output_that_is_read(&source), None);
    assert_eq!(sink(None, "d").output_that_is_read(&source), None);
}
