//! The driver in a simulated world: a log that grows as a clock goes on, a sink that stalls and forgets, a store that keeps only what was
//! made durable, and a crash at any call of any port, before it or after it.

use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use engine::checkpoint::Checkpoint;
use engine::control::{Command, Refusal};
use engine::driver::{
    Ack, Clock, Driver, DriverError, Fetched, Inlet, Input, Notice, Origin, Outlet, Settings, Store, recover,
};
use engine::journal::{Script, parse};
use engine::metrics::Metric;
use engine::payload::{Channel, Message, messages};
use engine::{Outputs, Pipeline, Plan, Span};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

mod group;

use group::Group;

const SECOND: i64 = 1_000_000_000;
const START: i64 = 1_700_000_000 * SECOND;

/// A crash, or what a broken disk says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Fault {
    #[error("crashed")]
    Crash,
    #[error("no space left on device")]
    Full,
}

/// A record of the log: when it arrives, and its rows (ts, tag, value); no rows: it can't be decoded.
#[derive(Debug, Clone)]
struct Record {
    arrives: i64,
    rows: Vec<(i64, &'static str, f64)>,
}

/// Everything outside of the driver.
#[derive(Default)]
struct World {
    logs: Vec<(Origin, Vec<Record>)>,
    now: Cell<i64>,
    random: Cell<u64>,
    calls: Cell<u64>,
    /// The call at which it crashes: 2k before the k-th, 2k + 1 after it.
    crash: Cell<Option<u64>>,
    until_end: Cell<bool>,
    /// The end was reached once: what is asked for afterwards would change what the end has said already.
    ended: Cell<bool>,
    checkpoints: RefCell<BTreeMap<String, VecDeque<Vec<u8>>>>,
    journals: RefCell<BTreeMap<String, Vec<u8>>>,
    spills: RefCell<BTreeMap<(String, u64), Vec<u8>>>,
    arrived: RefCell<Vec<Message>>,
    committed: RefCell<BTreeMap<Origin, i64>>,
    dead_sink: Cell<bool>,
    dead_disk: Cell<bool>,
    /// The broker is away between these times.
    away: Cell<(i64, i64)>,
    group: RefCell<Group>,
    /// Which member has the state of a partition.
    locks: RefCell<BTreeMap<String, usize>>,
}

impl World {
    fn is_away(&self) -> bool {
        (self.away.get().0..self.away.get().1).contains(&self.now.get())
    }

    fn random(&self, n: u64) -> u64 {
        let x =
            self.random.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.random.set(x);
        (x >> 33) % n.max(1)
    }

    /// One call of a port.
    fn call<T>(&self, act: impl FnOnce() -> T) -> Result<T, Fault> {
        let n = self.calls.get();
        self.calls.set(n + 1);
        if self.crash.get() == Some(2 * n) {
            return Err(Fault::Crash);
        }
        let done = act();
        if self.crash.get() == Some(2 * n + 1) { Err(Fault::Crash) } else { Ok(done) }
    }
}

struct SimInlet {
    world: Rc<World>,
    at: Vec<usize>,
    /// As a member of a group, and the partitions that it reads.
    member: Option<usize>,
    reads: BTreeSet<u32>,
}

impl SimInlet {
    fn heard(&mut self) -> Option<Input> {
        let input = self.world.group.borrow_mut().unheard.get_mut(&self.member?)?.pop_front();
        if let Some(Input::Revoked(partitions)) = &input {
            self.reads.retain(|p| !partitions.contains(p));
        }
        input
    }
}

impl Inlet for SimInlet {
    type Error = Fault;
    fn partitions(&self) -> Vec<Origin> {
        self.world.logs.iter().map(|(origin, _)| origin.clone()).collect()
    }
    fn start(&self, partition: u32) -> Option<i64> {
        Some(self.at[partition as usize] as i64)
    }
    fn grouped(&self) -> bool {
        self.member.is_some()
    }
    fn idle(&mut self) -> Result<Input, Fault> {
        let world = self.world.clone();
        world.call(|| self.heard().unwrap_or(Input::Nothing))
    }
    fn begin(&mut self, partitions: &[(u32, Option<i64>)]) -> Result<Vec<u32>, Fault> {
        let world = self.world.clone();
        world.call(|| {
            let mut begun = Vec::new();
            for (partition, wanted) in partitions {
                if world.random(4) > 0 {
                    let origin = &world.logs[*partition as usize].0;
                    let committed = world.committed.borrow().get(origin).copied();
                    self.at[*partition as usize] = wanted.or(committed).unwrap_or(0) as usize;
                    begun.push(*partition);
                }
            }
            self.reads.extend(&begun);
            begun
        })
    }
    fn release(&mut self, partitions: &[u32]) -> Result<(), Fault> {
        let world = self.world.clone();
        world.call(|| {
            self.reads.retain(|p| !partitions.contains(p));
            if let Some(member) = self.member {
                world.group.borrow_mut().released(member, partitions);
            }
        })
    }
    fn poll(&mut self, _wait: Duration) -> Result<Input, Fault> {
        let world = self.world.clone();
        world.call(|| {
            if let Some(input) = self.heard() {
                return input;
            }
            world.now.set(world.now.get() + world.random(SECOND as u64 / 2) as i64);
            if world.is_away() {
                return Input::Nothing;
            }
            let n = world.logs.len();
            let first = world.random(n as u64) as usize;
            for step in 0..n {
                let p = (first + step) % n;
                if self.member.is_some() && !self.reads.contains(&(p as u32)) {
                    continue;
                }
                let log = &world.logs[p].1;
                let here = log[self.at[p]..].iter().take_while(|r| r.arrives <= world.now.get()).count();
                let take = here.min(1 + world.random(5) as usize);
                if take > 0 {
                    let fetched = fetch(&world, p, self.at[p], take);
                    self.at[p] += take;
                    return Input::Rows(fetched);
                }
            }
            let all = (0..n).all(|p| self.at[p] == world.logs[p].1.len());
            if !(all && world.until_end.get()) {
                return Input::Nothing;
            }
            world.ended.set(true);
            Input::End
        })
    }
    fn at_end(&mut self, partition: u32) -> Option<bool> {
        if self.world.is_away() {
            return None;
        }
        let (log, at) = (&self.world.logs[partition as usize].1, self.at[partition as usize]);
        Some(log.get(at).is_none_or(|r| r.arrives > self.world.now.get()))
    }
    fn lost(&mut self) -> Vec<String> {
        Vec::new()
    }
    fn trouble(&self) -> Option<String> {
        self.world.is_away().then(|| "no route to host".into())
    }
    fn commit(&mut self, next: &BTreeMap<Origin, i64>, _wait: bool) -> Result<(), Fault> {
        self.world.call(|| self.world.committed.borrow_mut().extend(next.clone()))
    }
}

fn batch(rows: &[(i64, &'static str, f64)]) -> RecordBatch {
    let ts: TimestampNanosecondArray = rows.iter().map(|r| Some(r.0)).collect();
    let columns: [(&str, ArrayRef); 3] = [
        ("ts", Arc::new(ts.with_timezone("UTC"))),
        ("tag", Arc::new(rows.iter().map(|r| Some(r.1)).collect::<StringArray>())),
        ("value", Arc::new(rows.iter().map(|r| Some(r.2)).collect::<Float64Array>())),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn fetch(world: &World, p: usize, from: usize, take: usize) -> Fetched {
    let (origin, log) = &world.logs[p];
    let (mut rows, mut spans, mut dead) = (Vec::new(), Vec::new(), Vec::new());
    for (i, record) in log[from..from + take].iter().enumerate() {
        let offset = (from + i) as i64;
        if record.rows.is_empty() {
            let place = (origin.topic.as_str(), origin.partition, offset, None);
            let headers = engine::payload::dead_headers(place, "broken", "not JSON");
            let payload = b"{".to_vec();
            dead.push((1, Message { channel: Channel::DeadLetters, key: Vec::new(), payload, headers }));
            continue;
        }
        spans.push(Span { rows: record.rows.len(), offset, first_index: 0, record_ts: None });
        rows.extend(&record.rows);
    }
    Fetched { partition: p as u32, batch: batch(&rows), spans, dead, next: (from + take) as i64 }
}

struct SimOutlet {
    world: Rc<World>,
    queue: VecDeque<(u64, Message)>,
}

impl Outlet for SimOutlet {
    type Error = Fault;
    fn offer(&mut self, ticket: u64, message: &Message) -> Result<bool, Fault> {
        let world = self.world.clone();
        world.call(|| {
            let takes = self.queue.len() < 8;
            if takes {
                self.queue.push_back((ticket, message.clone()));
            }
            takes
        })
    }
    fn collect(&mut self, wait: Duration, acks: &mut Vec<Ack>) -> Result<(), Fault> {
        let world = self.world.clone();
        world.call(|| {
            world.now.set(world.now.get() + wait.as_nanos() as i64);
            let n = self.queue.len() as u64;
            for _ in 0..world.random(n + 2).min(n) {
                let Some((ticket, message)) = self.queue.pop_front() else { return };
                if world.dead_sink.get() && message.channel == Channel::Events {
                    self.queue.push_back((ticket, message));
                } else if world.random(10) == 0 {
                    // It arrived and nobody says so, or it did not.
                    if world.random(2) == 0 {
                        world.arrived.borrow_mut().push(message);
                    }
                    acks.push(Ack::Again(ticket, "timed out".into()));
                } else {
                    world.arrived.borrow_mut().push(message);
                    acks.push(Ack::Done(ticket));
                }
            }
        })
    }
}

struct SimStore(Rc<World>, usize);

impl SimStore {
    /// Nobody writes the state of a partition that another member has.
    fn locked(&self, name: &str) {
        let locks = self.0.locks.borrow();
        assert!(
            self.1 == ALONE || locks.get(name) == Some(&self.1),
            "member {} writes {name}: {locks:?}",
            self.1
        );
    }
}

/// The number of a process that is no member of a group.
const ALONE: usize = usize::MAX;

impl Store for SimStore {
    type Error = Fault;
    fn keeps(&self) -> bool {
        true
    }
    fn claim(&mut self, name: &str) -> Result<bool, Fault> {
        self.0.call(|| *self.0.locks.borrow_mut().entry(name.into()).or_insert(self.1) == self.1)
    }
    fn release(&mut self, name: &str) -> Result<(), Fault> {
        self.0.call(|| self.0.locks.borrow_mut().retain(|locked, by| locked != name || *by != self.1))
    }
    fn names(&mut self) -> Result<Vec<String>, Fault> {
        Ok(self.0.checkpoints.borrow().keys().cloned().collect())
    }
    fn checkpoints(&mut self, name: &str) -> Result<Vec<Vec<u8>>, Fault> {
        Ok(self.0.checkpoints.borrow().get(name).into_iter().flatten().cloned().collect())
    }
    fn publish(&mut self, name: &str, bytes: &[u8]) -> Result<(), Fault> {
        if self.0.dead_disk.get() {
            return Err(Fault::Full);
        }
        self.locked(name);
        self.0.call(|| {
            let mut all = self.0.checkpoints.borrow_mut();
            let kept = all.entry(name.into()).or_default();
            kept.push_front(bytes.to_vec());
            kept.truncate(2);
        })
    }
    fn set_aside(&mut self, name: &str) -> Result<(), Fault> {
        self.0.checkpoints.borrow_mut().get_mut(name).and_then(VecDeque::pop_front);
        Ok(())
    }
    fn journal(&mut self, name: &str) -> Result<Vec<u8>, Fault> {
        Ok(self.0.journals.borrow().get(name).cloned().unwrap_or_default())
    }
    fn append(&mut self, name: &str, line: &[u8]) -> Result<(), Fault> {
        if self.0.dead_disk.get() {
            return Err(Fault::Full);
        }
        self.locked(name);
        self.0.call(|| self.0.journals.borrow_mut().entry(name.into()).or_default().extend(line))
    }
    fn trim(&mut self, _: &str, _: &[u8]) -> Result<(), Fault> {
        Ok(())
    }
    fn spill(&mut self, name: &str, generation: u64, at: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.0.call(|| {
            let mut all = self.0.spills.borrow_mut();
            let file = all.entry((name.into(), generation)).or_default();
            file.resize(at as usize, 0);
            file.extend(bytes);
        })
    }
    fn unspill(&mut self, name: &str, generation: u64, at: u64, len: usize) -> Result<Vec<u8>, Fault> {
        let all = self.0.spills.borrow();
        let file = all.get(&(name.to_string(), generation)).map_or(&[][..], Vec::as_slice);
        let from = (at as usize).min(file.len());
        Ok(file[from..(from + len).min(file.len())].to_vec())
    }
    fn forget(&mut self, name: &str, generation: u64) -> Result<(), Fault> {
        self.0.call(|| {
            self.0.spills.borrow_mut().remove(&(name.to_string(), generation));
        })
    }
}

struct SimClock(Rc<World>);

impl Clock for SimClock {
    fn now_ns(&self) -> i64 {
        self.0.now.get()
    }
    fn elapsed(&self) -> Duration {
        Duration::from_nanos((self.0.now.get() - START) as u64)
    }
}

const CONFIG: &str = r#"
[time]
max_delay = "1s"
grace = "3s"
[[rule]]
id = "range"
tags = ["*"]
detect.range = { fail = [0.0, 10.0] }
alert = { on = "fail", for = "2s", keep_firing_for = "2s" }
[[rule]]
id = "gap"
tags = ["*"]
detect.gap = { max = "6s" }
alert = { on = "fail" }
[[rule]]
id = "base"
tags = ["*"]
detect.ewma = { alpha = 0.2, suspect = 3.0, warm_up = 8 }
alert = { on = "suspect" }
[[group]]
id = "p"
members = ["p.a", "p.b", "p.c"]
tick = { period = "1s" }
max_skew = "3s"
vote.mid_value = { tolerance = { abs = 0.5 } }
fallback = [{ hold = { max_horizon = "8s" } }]
confirm = 2
alert = { on = "fail" }
"#;

/// Two partitions: three redundant tags, and two others; faults, silences, broken records, late rows.
fn world(seed: u64) -> Rc<World> {
    let world = World::default();
    world.random.set(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    world.now.set(START);
    world.until_end.set(true);
    let mut logs = Vec::new();
    for (p, tags) in [["p.a", "p.b", "p.c"].as_slice(), &["t", "u"]].into_iter().enumerate() {
        let (mut log, mut arrives) = (Vec::new(), START);
        let mut s = 0i64;
        while s < 60 {
            if world.random(20) == 0 {
                s += 4 + world.random(9) as i64;
            }
            let mut rows = Vec::new();
            for tag in tags {
                if world.random(8) > 0 {
                    let late = if world.random(12) == 0 { 3 * SECOND / 2 } else { 0 };
                    let wrong = if world.random(10) == 0 { 20.0 } else { 0.0 };
                    let value = 5.0 + world.random(100) as f64 / 1_000.0 + wrong;
                    rows.push((START + s * SECOND - late, *tag, value));
                }
            }
            // Every row arrives within a second of its time, so clock ticks with three seconds of grace are honest.
            arrives = arrives.max(START + s * SECOND + world.random(SECOND as u64) as i64);
            while !rows.is_empty() {
                let some = rows.drain(..(1 + world.random(3) as usize).min(rows.len())).collect();
                log.push(Record { arrives, rows: some });
            }
            if world.random(15) == 0 {
                log.push(Record { arrives, rows: Vec::new() });
            }
            s += 1;
        }
        logs.push((Origin { topic: "plant".into(), partition: p as i32 }, log));
    }
    Rc::new(World { logs, ..world })
}

type Sim = Driver<SimInlet, SimOutlet, SimStore, SimClock>;
type SimError = DriverError<Fault, Fault, Fault>;

fn plan() -> Arc<Plan> {
    Arc::new(Plan::parse(CONFIG, None).unwrap())
}

fn start(world: &Rc<World>, pending_events: usize) -> Result<Sim, SimError> {
    start_from(world, pending_events, 0)
}

/// The same; partitions without a checkpoint begin at an offset.
fn start_from(world: &Rc<World>, pending_events: usize, first: usize) -> Result<Sim, SimError> {
    let mut store = SimStore(world.clone(), ALONE);
    let kept = recover(&mut store)?;
    let at = |(origin, _): &(Origin, Vec<Record>)| {
        kept.get(origin).map_or(first, |k| k.checkpoint.next.offset as usize)
    };
    let at = world.logs.iter().map(at).collect();
    let inlet = SimInlet { world: world.clone(), at, member: None, reads: BTreeSet::new() };
    let outlet = SimOutlet { world: world.clone(), queue: VecDeque::new() };
    let ports = (inlet, outlet, store, SimClock(world.clone()));
    Driver::new(plan(), settings(pending_events), ports, kept)
}

fn settings(pending_events: usize) -> Settings {
    Settings { checkpoint_every: Duration::from_secs(3), clock_ticks: true, pending_events, pending_bulk: 50 }
}

/// Runs to the end, starting anew after a crash; commands now and then, before the first crash: one that is given while
/// a restart catches up acts at a place that had been judged without it.
fn run(world: &Rc<World>, commands: bool) {
    let mut crashes = 0;
    loop {
        match go(world, commands && crashes == 0) {
            Ok(()) => return,
            Err(error) => {
                assert!(error.to_string().contains("crashed"), "{error}");
                crashes += 1;
                assert!(crashes < 10, "crashes again and again");
                world.crash.set(None);
            }
        }
    }
}

fn go(world: &Rc<World>, commands: bool) -> Result<(), SimError> {
    let mut driver = start(world, 6)?;
    while driver.step(Duration::from_millis(100))? {
        if commands && !world.ended.get() && world.random(25) == 0 {
            let signal = "p".to_string();
            let all = [
                Command::Hold { signal: signal.clone() },
                Command::Release { signal },
                Command::Rebaseline { rule: "base".into(), tag: "u".into() },
            ];
            match driver.ask(&all[world.random(3) as usize])? {
                Ok(accepted) => assert!(!accepted.entries.is_empty()),
                Err(Refusal::Nowhere | Refusal::Journal { .. } | Refusal::Unknown { what: "tag", .. }) => {}
                Err(refusal) => panic!("{refusal}"),
            }
            // A journal that can't be written in a crash is a crash.
            if world.crash.get().is_some_and(|c| c / 2 < world.calls.get()) {
                return Err(DriverError::Store(Fault::Crash));
            }
        }
    }
    for pipeline in driver.pipelines() {
        assert!(pipeline.counters().balanced());
    }
    Ok(())
}

/// What arrived, without repetitions.
fn arrived(world: &World) -> BTreeSet<(u8, Vec<u8>, Vec<u8>)> {
    let all = world.arrived.borrow();
    // What the program tells of its own work is not in a replay.
    let told =
        |m: &&Message| !m.payload.windows(21).any(|w| w == b"\"event\":\"operational\"".get(..21).unwrap());
    all.iter().filter(told).map(portable).collect()
}

fn portable(m: &Message) -> (u8, Vec<u8>, Vec<u8>) {
    let place =
        m.headers.iter().filter(|(k, _)| k == "offset" || k == "partition").flat_map(|(_, v)| v.clone());
    (m.channel as u8, m.payload.clone(), place.collect())
}

/// The same logs with the journal that was left, judged in one go.
fn replayed(world: &World) -> BTreeSet<(u8, Vec<u8>, Vec<u8>)> {
    let plan = plan();
    let (mut out, mut all) = (Outputs::default(), Vec::new());
    let mut pipelines = Vec::new();
    for (p, (origin, log)) in world.logs.iter().enumerate() {
        let mut pipeline = Pipeline::new(plan.clone(), p as u32);
        let journals = world.journals.borrow();
        let text = journals.get(&origin.to_string()).map_or(&[][..], Vec::as_slice);
        let numbers: Vec<u64> = parse(text).unwrap().iter().map(|r| r.entry.number).collect();
        assert_eq!(
            numbers,
            (1..=numbers.len() as u64).collect::<Vec<_>>(),
            "a number of the journal is used twice"
        );
        let mut script =
            Script::new(parse(journals.get(&origin.to_string()).map_or(&[][..], Vec::as_slice)).unwrap(), 0);
        let fetched = fetch(world, p, 0, log.len());
        script.push(&mut pipeline, &fetched.batch, &fetched.spans, &mut out).unwrap();
        script.apply_all(&mut pipeline, &mut out);
        let origin = (origin.topic.as_str(), origin.partition);
        messages(&plan, &pipeline, origin, &mut out, &mut all);
        all.extend(fetched.dead.into_iter().map(|(_, letter)| letter));
        pipelines.push((origin, pipeline));
    }
    let whole = pipelines.iter().filter_map(|(_, p)| p.progress()).max();
    for (origin, pipeline) in &mut pipelines {
        pipeline.end(whole, &mut out);
        messages(&plan, pipeline, *origin, &mut out, &mut all);
    }
    all.iter().map(portable).collect()
}

/// What was said of times well before the end of every partition.
fn early(world: &World, said: BTreeSet<(u8, Vec<u8>, Vec<u8>)>) -> BTreeSet<(u8, Vec<u8>, Vec<u8>)> {
    let ends = world.logs.iter().filter_map(|(_, log)| log.iter().flat_map(|r| &r.rows).map(|r| r.0).max());
    let end = ends.min().unwrap_or(i64::MAX) - 10 * SECOND;
    let before = |(_, payload, _): &(u8, Vec<u8>, Vec<u8>)| {
        let Ok(value) = serde_json::from_slice::<serde_json::Value>(payload) else { return true };
        value["at"].as_i64().or(value["ts"].as_i64()).is_none_or(|at| at <= end)
    };
    said.into_iter().filter(before).collect()
}

fn same(a: &BTreeSet<(u8, Vec<u8>, Vec<u8>)>, b: &BTreeSet<(u8, Vec<u8>, Vec<u8>)>) -> Result<(), String> {
    let show = |only: Vec<&(u8, Vec<u8>, Vec<u8>)>| {
        only.iter().take(5).map(|m| format!("{} {}", m.0, String::from_utf8_lossy(&m.1))).collect::<Vec<_>>()
    };
    let (left, right): (Vec<_>, Vec<_>) = (a.difference(b).collect(), b.difference(a).collect());
    if left.is_empty() && right.is_empty() {
        return Ok(());
    }
    Err(format!("only live: {:#?}\nonly replayed: {:#?}", show(left), show(right)))
}

fn seeds(few: u64) -> u64 {
    few * std::env::var("LAW_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}

/// Given a stream with clock ticks and no crash, when its logs are replayed without a journal, then both say the same:
/// honest ticks change nothing.
#[test]
fn a_live_run_equals_its_replay() {
    let mut compared = 0;
    for seed in 0..seeds(60) {
        let live = world(seed);
        if seed % 2 == 1 {
            // A backlog after an outage is no silence.
            live.away.set((START + 15 * SECOND, START + 35 * SECOND));
        }
        run(&live, false);
        assert!(live.journals.borrow().values().any(|j| !j.is_empty()), "the clock moved nothing");
        same(&arrived(&live), &replayed(&live)).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        live.journals.borrow_mut().clear();
        // The clock went on a little beyond the last rows; a replay without it can't know.
        let (a, b) = (early(&live, arrived(&live)), early(&live, replayed(&live)));
        compared += a.len();
        same(&a, &b).unwrap_or_else(|why| panic!("seed {seed}, no journal: {why}"));
    }
    assert!(compared > 1_000, "{compared}");
}

/// Given a stream that crashes before or after any call of any port, and starts anew, then what arrived is what a replay
/// of the logs with the journal says: nothing is lost, and nothing is different the second time.
#[test]
fn a_crash_anywhere_loses_nothing() {
    for seed in 0..seeds(12) {
        let whole = world(seed);
        run(&whole, true);
        let calls = whole.calls.get();
        assert!(calls > 300, "{calls}");
        for k in 0..seeds(50).min(2 * calls) {
            let crashed = world(seed);
            crashed.crash.set(Some(whole.random(2 * calls)));
            run(&crashed, true);
            same(&arrived(&crashed), &replayed(&crashed))
                .unwrap_or_else(|why| panic!("seed {seed}, crash {k}: {why}"));
        }
    }
}

/// Given a sink that takes no events, when rows go on coming, then detection and checkpoints go on, events go to the
/// spill, survive a stop, and all arrive when the sink is back.
#[test]
fn a_dead_sink_stops_nothing() {
    for seed in 0..seeds(10) {
        let live = world(seed);
        live.dead_sink.set(true);
        live.until_end.set(false);
        let mut driver = start(&live, 6).unwrap();
        while live.now.get() < START + 90 * SECOND {
            driver.step(Duration::from_millis(100)).unwrap();
        }
        let read: i64 = driver
            .readout()
            .readings
            .iter()
            .filter(|r| r.metric == Metric::NextOffset)
            .map(|r| r.value as i64)
            .sum();
        assert_eq!(read, live.logs.iter().map(|(_, log)| log.len() as i64).sum::<i64>());
        assert!(driver.tallies().spilled > 0 && driver.tallies().checkpoints > 3);
        assert!(driver.notices().iter().any(|n| matches!(n, Notice::SinkStalled(_))));
        driver.stop(Duration::from_secs(2)).unwrap();
        drop(driver);
        live.dead_sink.set(false);
        live.until_end.set(true);
        run(&live, false);
        same(&arrived(&live), &replayed(&live)).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
}

/// Given a disk that is full, then no checkpoint is made and nothing is committed, but the stream goes on.
#[test]
fn a_full_disk_is_told_and_tried_again() {
    let live = world(1);
    live.dead_disk.set(true);
    live.until_end.set(false);
    let mut driver = start(&live, 100).unwrap();
    while live.now.get() < START + 30 * SECOND {
        driver.step(Duration::from_millis(100)).unwrap();
    }
    let notices = driver.notices();
    assert!(notices.iter().any(|n| matches!(n, Notice::NoCheckpoint(_))));
    assert!(live.committed.borrow().is_empty());
    // What can't be written to the journal is not done either.
    let before = driver.readout().signals;
    let refused = driver.ask(&Command::Hold { signal: "p".into() }).unwrap();
    assert!(matches!(refused, Err(Refusal::Journal { .. })), "{refused:?}");
    assert_eq!(driver.readout().signals, before);
    live.dead_disk.set(false);
    driver.stop(Duration::from_secs(5)).unwrap();
    assert_eq!(live.committed.borrow().len(), 2);
}

/// Given a newest checkpoint that is damaged, then the one before is used, and said so; an unknown version is refused.
#[test]
fn a_damaged_checkpoint_falls_back() {
    let live = world(2);
    live.until_end.set(false);
    let mut driver = start(&live, 100).unwrap();
    while live.now.get() < START + 30 * SECOND {
        driver.step(Duration::from_millis(100)).unwrap();
    }
    driver.stop(Duration::from_secs(5)).unwrap();
    drop(driver);
    let name = "plant-0";
    live.checkpoints.borrow_mut().get_mut(name).unwrap()[0][70] ^= 1;
    let mut driver = start(&live, 100).unwrap();
    assert!(driver.notices().iter().any(|n| matches!(n, Notice::UsedPrevious { .. })));
    drop(driver);
    live.until_end.set(true);
    run(&live, false);
    same(&arrived(&live), &replayed(&live)).unwrap();
    live.checkpoints.borrow_mut().get_mut(name).unwrap()[0][8] = 99;
    let refused = start(&live, 100).map(drop).unwrap_err().to_string();
    assert!(refused.contains("format version 99"), "{refused}");
}

/// Given a group whose members come from two partitions, then its signal fails in both, and says so.
#[test]
fn a_split_group_fails_loudly() {
    let row = |s: i64, tag| Record { arrives: START, rows: vec![(START + s * SECOND, tag, 5.0)] };
    let log = |tags: &[&'static str]| {
        (0..20).flat_map(|s| tags.iter().map(move |t| row(s, *t)).collect::<Vec<_>>()).collect()
    };
    let origin = |partition| Origin { topic: "plant".into(), partition };
    let logs = vec![(origin(0), log(&["p.a", "p.b", "t"])), (origin(1), log(&["p.c", "t"]))];
    let live = Rc::new(World { logs, ..World::default() });
    live.now.set(START);
    live.random.set(7);
    live.until_end.set(true);
    let mut driver = start(&live, 100).unwrap();
    while driver.step(Duration::from_millis(100)).unwrap() {}
    let notices = driver.notices();
    assert!(notices.contains(&Notice::Split { signal: "p".into() }), "{notices:?}");
    assert!(notices.iter().any(|n| matches!(n, Notice::Moved { tag, .. } if tag == "t")), "{notices:?}");
    let told =
        |code: &str| live.arrived.borrow().iter().any(|m| String::from_utf8_lossy(&m.payload).contains(code));
    assert!(told("group_split") && told("tag_moved"));
    let states: Vec<_> = driver.readout().signals.iter().map(|s| s.state).collect();
    assert_eq!(states, ["failed", "failed"]);
    let text: Vec<String> =
        live.arrived.borrow().iter().map(|m| String::from_utf8_lossy(&m.payload).into()).collect();
    assert!(text.iter().any(|t| t.contains("members come from two partitions")), "{text:#?}");
    same(&arrived(&live), &replayed(&live)).unwrap();
}

/// Given a changed configuration, when a partition goes on from its checkpoint, then rules that did not change go on as
/// if nothing had happened, and the alerts of the others end with the reason.
#[test]
fn a_changed_rule_leaves_the_others_alone() {
    let live = world(3);
    live.until_end.set(false);
    let mut driver = start(&live, 100).unwrap();
    while live.now.get() < START + 40 * SECOND {
        driver.step(Duration::from_millis(100)).unwrap();
    }
    driver.stop(Duration::from_secs(5)).unwrap();
    let bytes = live.checkpoints.borrow()["plant-1"][0].clone();
    let snapshot = Checkpoint::from_bytes(&bytes).unwrap().pipeline;
    let restore = |config: &str| {
        let plan = Arc::new(Plan::parse(config, None).unwrap());
        let mut out = Outputs::default();
        let pipeline = Pipeline::restore(plan, 1, &snapshot, &mut out).unwrap();
        (pipeline, out)
    };
    // A row that fires the range rule, so that there is an alert to end.
    let (mut before, mut out) = restore(CONFIG);
    let rows: Vec<_> = (0..8).map(|s| (START + (100 + s) * SECOND, "t", 99.0)).collect();
    before.push_rows(&batch(&rows), &[], &mut out).unwrap();
    let snapshot = before.snapshot();
    let changes = [
        (CONFIG.replace("fail = [0.0, 10.0]", "fail = [0.0, 11.0]"), "rule changed"),
        (CONFIG.replace("id = \"range\"", "id = \"limits\""), "rule removed"),
    ];
    for (config, reason) in changes {
        let plan = Arc::new(Plan::parse(&config, None).unwrap());
        let mut out = Outputs::default();
        let after = Pipeline::restore(plan, 1, &snapshot, &mut out).unwrap();
        let events: Vec<String> = out.events.iter().map(|e| serde_json::to_string(e).unwrap()).collect();
        assert_eq!(events.len(), 1, "{events:#?}");
        assert!(events[0].contains(reason) && events[0].contains("resolved"), "{events:#?}");
        // What the baseline learned is there, with its counts.
        assert_eq!(after.flags()["base"], before.flags()["base"]);
        assert_ne!(after.flags().get("range"), before.flags().get("range"));
        assert_eq!(after.counters(), before.counters());
    }
    // Another severity leaves what the detector learned; another parameter does not.
    let tag = (0..before.tag_count() as u32).find(|t| before.tag_name(*t) == "t").unwrap();
    let again = |config: String| {
        let plan = Arc::new(Plan::parse(&config, None).unwrap());
        Pipeline::restore(plan, 1, &snapshot, &mut Outputs::default()).unwrap().warming(2, tag)
    };
    assert_eq!(again(CONFIG.into()), None);
    assert_eq!(again(CONFIG.replace("on = \"suspect\"", "on = \"suspect\", severity = \"info\"")), None);
    assert_eq!(again(CONFIG.replace("alpha = 0.2", "alpha = 0.3")), Some(8));
}

/// Given limits from a catalogue and two tags whose alerts fire, when a restart finds another limit for one of them, then its alert ends with
/// the reason and under the id that it had, and the other goes on: a new limit gives only its own tag's alerts new ids.
#[test]
fn a_changed_cell_of_the_catalogue_concerns_its_tag() {
    let config = "[[rule]]\nid = \"r\"\ntags = [\"*\"]\ndetect.range = { from_tags = { fail = [\"lo\", \"hi\"] } }\n\
                  alert = { on = \"fail\" }\n";
    let plan = |hi: [f64; 2]| {
        let columns = [("lo", vec![0.0, 0.0]), ("hi", hi.to_vec())];
        Arc::new(Plan::parse(config, Some(engine::Catalogue::new(&["t", "u"], &columns))).unwrap())
    };
    let at =
        |s: i64, value: f64| batch(&[(START + s * SECOND, "t", value), (START + s * SECOND, "u", value)]);
    let ids = |out: &Outputs| -> BTreeSet<(String, String)> {
        let alerts = out.events.iter().filter_map(|e| match &e.what {
            engine::What::Alert { alert, target, .. } => Some((target.clone(), alert.clone())),
            _ => None,
        });
        alerts.collect()
    };
    let mut out = Outputs::default();
    let mut pipeline = Pipeline::new(plan([10.0, 10.0]), 0);
    pipeline.push_rows(&at(0, 99.0), &[], &mut out).unwrap();
    let before = ids(&out);
    assert_eq!(before.len(), 2);
    let snapshot = pipeline.snapshot();
    let mut out = Outputs::default();
    let mut after = Pipeline::restore(plan([10.0, 11.0]), 0, &snapshot, &mut out).unwrap();
    let ended: Vec<String> = out.events.iter().map(|e| serde_json::to_string(e).unwrap()).collect();
    assert!(ended.len() == 1 && ended[0].contains("rule changed"), "{ended:#?}");
    assert!(ids(&out).is_subset(&before) && ids(&out).iter().all(|(tag, _)| tag == "u"), "{ended:#?}");
    let mut out = Outputs::default();
    after.push_rows(&at(1, 99.0), &[], &mut out).unwrap();
    assert!(ids(&out).iter().all(|id| id.0 == "u" && !before.contains(id)) && ids(&out).len() == 1);
    let mut out = Outputs::default();
    after.push_rows(&at(2, 5.0), &[], &mut out).unwrap();
    assert!(ids(&out).iter().any(|id| before.contains(id) && id.0 == "t"), "{:?}", ids(&out));
}

/// Given a declared tag that a `gap` rule watches, when it is never seen, then that is told once; those that are seen are not.
#[test]
fn a_declared_tag_that_never_comes_is_told() {
    let mut logs = world(5).logs.clone();
    for record in &mut logs[0].1 {
        record.rows.retain(|(_, tag, _)| *tag != "p.c");
    }
    let live = Rc::new(World { logs, ..World::default() });
    live.now.set(START);
    live.random.set(7);
    let mut driver = start(&live, 100).unwrap();
    while live.now.get() < START + 90 * SECOND {
        driver.step(Duration::from_millis(100)).unwrap();
    }
    let unseen: Vec<Notice> =
        driver.notices().into_iter().filter(|n| matches!(n, Notice::NeverSeen { .. })).collect();
    assert_eq!(unseen, [Notice::NeverSeen { tag: "p.c".into() }]);
    let arrived = live.arrived.borrow();
    let told: Vec<_> =
        arrived.iter().filter(|m| String::from_utf8_lossy(&m.payload).contains("tag_never_seen")).collect();
    assert!(!told.is_empty() && told.iter().all(|m| m.payload == told[0].payload), "{}", told.len());
}

/// A world with these logs, which does not end by itself.
fn quiet(logs: Vec<Vec<Record>>) -> Rc<World> {
    let origin = |p| Origin { topic: "plant".into(), partition: p as i32 };
    let logs = logs.into_iter().enumerate().map(|(p, log)| (origin(p), log)).collect();
    let live = Rc::new(World { logs, ..World::default() });
    live.now.set(START);
    live.random.set(7);
    live
}

/// Given more events at once than are kept in memory, when the input ends, then those in the spill are delivered too, also those that the
/// end itself brought.
#[test]
fn the_end_delivers_what_was_spilled() {
    let tags: Vec<&'static str> = (0..100).map(|t| &*format!("t{t}").leak()).collect();
    let record = |s: i64| {
        let rows = tags.iter().map(|tag| (START + s * SECOND, *tag, 99.0)).collect();
        Record { arrives: START, rows }
    };
    for times in [[0, 3, 6].as_slice(), &[0, 3]] {
        let live = quiet(vec![times.iter().map(|s| record(*s)).collect()]);
        live.until_end.set(true);
        let mut driver = start(&live, 10).unwrap();
        while driver.step(Duration::from_millis(100)).unwrap() {}
        assert_eq!(driver.tallies().fired, 100);
        assert!(driver.tallies().spilled >= 50, "{}", driver.tallies().spilled);
        same(&arrived(&live), &replayed(&live)).unwrap();
    }
}

/// Given a spill that was delivered, when the checkpoint that no longer needs it is damaged, then the one before still finds it, and
/// what is spilled from there on follows it; what no checkpoint needs is removed.
#[test]
fn a_spill_lives_as_long_as_the_checkpoint_before_the_newest() {
    let mut removed = 0;
    for seed in 0..seeds(20) {
        let live = quiet(vec![world(seed).logs[0].1.clone()]);
        let name = "plant-0";
        let newest = |live: &World| -> Option<Vec<u8>> {
            live.checkpoints.borrow().get(name).and_then(VecDeque::front).cloned()
        };
        let spill = |bytes: &[u8]| Checkpoint::from_bytes(bytes).unwrap().spill;
        live.dead_sink.set(true);
        let mut driver = start(&live, 2).unwrap();
        while live.now.get() < START + 25 * SECOND {
            driver.step(Duration::from_millis(100)).unwrap();
        }
        while !driver.checkpoint(Duration::from_secs(1)).unwrap() {}
        // Each checkpoint with what had arrived when it was made.
        let mut last = (newest(&live).unwrap(), live.arrived.borrow().clone());
        let mut before = last.clone();
        let generation = spill(&last.0).generation;
        assert!(spill(&last.0).from < spill(&last.0).to, "seed {seed}: nothing was spilled");
        live.dead_sink.set(false);
        while spill(&last.0).generation == generation {
            assert!(live.now.get() < START + 500 * SECOND, "seed {seed}: the spill is never drained");
            driver.step(Duration::from_millis(100)).unwrap();
            let now = newest(&live).unwrap();
            if now != last.0 {
                before = std::mem::replace(&mut last, (now, live.arrived.borrow().clone()));
            }
        }
        drop(driver);
        let kept = |generation| live.spills.borrow().contains_key(&(name.to_string(), generation));
        assert!(kept(generation), "seed {seed}: the checkpoint before has lost its spill");

        live.checkpoints.borrow_mut().get_mut(name).unwrap()[0][70] ^= 1;
        *live.arrived.borrow_mut() = before.1;
        live.dead_sink.set(seed % 2 == 0);
        let mut driver = start(&live, 2).unwrap();
        assert!(driver.notices().iter().any(|n| matches!(n, Notice::UsedPrevious { .. })));
        let until = live.now.get() + 12 * SECOND;
        while live.now.get() < until {
            driver.step(Duration::from_millis(100)).unwrap();
        }
        while !driver.checkpoint(Duration::from_secs(1)).unwrap() {}
        for bytes in &live.checkpoints.borrow()[name] {
            assert!(Checkpoint::from_bytes(bytes).is_ok(), "seed {seed}: a damaged checkpoint was kept");
        }
        drop(driver);
        live.dead_sink.set(false);
        live.until_end.set(true);
        run(&live, false);
        same(&arrived(&live), &replayed(&live)).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        removed += u32::from(!kept(generation));
    }
    assert!(removed > 0);
}

/// Given a source that does not answer, then that is told once when it has lasted, and that it is back; a short while is not told.
#[test]
fn a_source_that_is_away_for_long_is_told() {
    for (seconds, told) in [(30, true), (6, false)] {
        let live = world(1);
        live.until_end.set(false);
        live.away.set((START + 10 * SECOND, START + (10 + seconds) * SECOND));
        let mut driver = start(&live, 100).unwrap();
        while live.now.get() < START + 60 * SECOND {
            driver.step(Duration::from_millis(100)).unwrap();
        }
        let mut notices = driver.notices();
        notices.retain(|n| matches!(n, Notice::SourceAway(_) | Notice::SourceBack));
        let expected = [Notice::SourceAway("no route to host".into()), Notice::SourceBack];
        assert_eq!(notices, if told { &expected[..] } else { &[] }, "{seconds} s");
    }
}

/// Given a record every second that can't be decoded, then the first is told at once and the others once a minute, with how many there
/// were.
#[test]
fn refused_records_are_told_once_a_minute() {
    let live =
        quiet(vec![(0..150).map(|s| Record { arrives: START + s * SECOND, rows: Vec::new() }).collect()]);
    let mut driver = start(&live, 100).unwrap();
    let (mut told, mut times) = (0, Vec::new());
    while live.now.get() < START + 170 * SECOND {
        driver.step(Duration::from_millis(100)).unwrap();
        let refused: u64 = driver.pipelines().map(|p| p.counters().dead_letters).sum();
        for notice in driver.notices() {
            let Notice::DeadLetters { count, first } = notice else { continue };
            assert_eq!(first, format!("not JSON (broken) at plant-0 offset {told}"));
            told += count;
            assert_eq!(told, refused);
            times.push(live.now.get());
        }
    }
    assert_eq!(times.len(), 3, "{times:?}");
    // A step takes a while, and the time is that of its end.
    let apart = times.windows(2).all(|w| w[1] - w[0] >= 59 * SECOND);
    assert!(times[0] < START + 5 * SECOND && apart, "{times:?}");
}

/// Given a stream that begins at the end of its log, also of an empty one, when it stops or crashes before its first row, then the next
/// start reads what came meanwhile.
#[test]
fn a_stream_that_never_saw_a_row_starts_where_it_began() {
    for (first, stops) in [(5, true), (5, false), (0, true), (0, false)] {
        let live = world(1);
        live.until_end.set(false);
        live.away.set((START, START + SECOND));
        let mut driver = start_from(&live, 100, first).unwrap();
        if stops {
            driver.stop(Duration::from_secs(5)).unwrap();
        } else {
            driver.step(Duration::from_millis(100)).unwrap();
        }
        drop(driver);
        live.away.set((0, 0));
        live.now.set(START + 80 * SECOND);
        // Now the log ends elsewhere.
        let end = live.logs.iter().map(|(_, log)| log.len()).min().unwrap();
        let mut driver = start_from(&live, 100, end).unwrap_or_else(|e| panic!("{first} {stops}: {e}"));
        for _ in 0..500 {
            driver.step(Duration::from_millis(100)).unwrap();
        }
        let read: usize = driver.pipelines().map(|p| p.counters().rows_in as usize).sum();
        let rows = |(_, log): &(Origin, Vec<Record>)| -> usize {
            log[first..].iter().map(|r| r.rows.len().max(1)).sum()
        };
        assert_eq!(read, live.logs.iter().map(rows).sum::<usize>(), "{first} {stops}");
    }
}
