//! A consumer group in the simulated world: a coordinator that moves partitions, members that crash, and state that follows.

use super::*;

/// What a group's coordinator knows: whose each partition is, whose it will be, and what each member has not heard yet.
#[derive(Default)]
pub(super) struct Group {
    owner: BTreeMap<u32, usize>,
    next: BTreeMap<u32, usize>,
    pub(super) unheard: BTreeMap<usize, VecDeque<Input>>,
}

impl Group {
    /// Gives a partition to a member; without waiting for the one who has it, if that one is taken for dead.
    fn give(&mut self, partition: u32, to: usize, lost: bool) {
        let from = self.owner.get(&partition).copied().filter(|from| self.unheard.contains_key(from));
        if from == Some(to) || self.next.contains_key(&partition) {
            return;
        }
        if let Some(from) = from {
            self.say(from, Input::Revoked(vec![partition]));
            if !lost {
                self.next.insert(partition, to);
                return;
            }
        }
        self.owner.insert(partition, to);
        self.say(to, Input::Assigned(vec![partition]));
    }

    fn say(&mut self, member: usize, input: Input) {
        self.unheard.entry(member).or_default().push_back(input);
    }

    /// A member gave partitions back.
    pub(super) fn released(&mut self, member: usize, partitions: &[u32]) {
        for partition in partitions {
            if self.owner.get(partition) == Some(&member) {
                self.owner.remove(partition);
                if let Some(next) = self.next.remove(partition) {
                    self.give(*partition, next, false);
                }
            }
        }
    }

    /// A member crashed; another takes its place.
    fn replace(&mut self, dead: usize, by: usize) {
        self.unheard.remove(&dead);
        self.unheard.entry(by).or_default();
        for next in self.next.values_mut().filter(|next| **next == dead) {
            *next = by;
        }
        let orphans: Vec<u32> = self.owner.iter().filter(|(_, o)| **o == dead).map(|(p, _)| *p).collect();
        for partition in orphans {
            let next = self.next.remove(&partition).unwrap_or(by);
            self.give(partition, next, false);
        }
    }
}

/// A member of a group.
fn join(world: &Rc<World>, member: usize) -> Result<Sim, SimError> {
    let at = vec![0; world.logs.len()];
    let inlet = SimInlet { world: world.clone(), at, member: Some(member), reads: BTreeSet::new() };
    let outlet = SimOutlet { world: world.clone(), queue: VecDeque::new() };
    let ports = (inlet, outlet, SimStore(world.clone(), member), SimClock(world.clone()));
    Driver::new(plan(), settings(6), ports, BTreeMap::new())
}

/// Given a group of two members whose partitions move now and then, also without the one who has them knowing it, and members that
/// crash before or after any call of any port, then what arrived is what a replay of the logs with the journals says, and nobody ever
/// writes the state of a partition that another has.
#[test]
fn state_follows_its_partition() {
    let (mut moves, mut waits) = (0, 0);
    for seed in 0..seeds(150) {
        let live = world(seed);
        live.until_end.set(false);
        let mut members = BTreeMap::new();
        for member in 0..2 {
            live.group.borrow_mut().unheard.entry(member).or_default();
            members.insert(member, join(&live, member).unwrap());
            live.group.borrow_mut().give(member as u32, member, false);
        }
        if seed % 3 > 0 {
            live.crash.set(Some(live.random(2 * 1_500)));
        }
        let busy = |members: &BTreeMap<usize, Sim>| {
            let pending = [Metric::EventsPending, Metric::BulkPending];
            let waits =
                |d: &Sim| d.readout().readings.iter().any(|r| pending.contains(&r.metric) && r.value > 0.0);
            let owned: usize = members.values().map(|d| d.pipelines().count()).sum();
            owned < 2 || members.values().any(waits)
        };
        let mut newest = 1;
        while live.now.get() < START + 95 * SECOND || busy(&members) {
            assert!(live.now.get() < START + 1_000 * SECOND, "seed {seed}: nobody goes on");
            let ids: Vec<usize> = members.keys().copied().collect();
            if live.now.get() < START + 80 * SECOND && live.random(30) == 0 {
                let (partition, to) = (live.random(2) as u32, ids[live.random(2) as usize]);
                live.group.borrow_mut().give(partition, to, live.random(3) == 0);
                moves += 1;
            }
            let id = ids[live.random(2) as usize];
            let member = members.get_mut(&id).unwrap();
            match member.step(Duration::from_millis(100)) {
                Ok(more) => assert!(more),
                Err(error) => {
                    assert!(error.to_string().contains("crashed"), "{error}");
                    live.crash.set(None);
                    members.remove(&id);
                    live.locks.borrow_mut().retain(|_, by| *by != id);
                    newest += 1;
                    live.group.borrow_mut().replace(id, newest);
                    members.insert(newest, join(&live, newest).unwrap());
                    continue;
                }
            }
            waits += member.notices().iter().filter(|n| matches!(n, Notice::Awaits { .. })).count();
        }
        for pipeline in members.values().flat_map(Sim::pipelines) {
            assert!(pipeline.counters().balanced());
        }
        let (a, b) = (early(&live, arrived(&live)), early(&live, replayed(&live)));
        same(&a, &b).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        assert!(!a.is_empty());
    }
    assert!(moves > 300 && waits > 10, "{moves} {waits}");
}
