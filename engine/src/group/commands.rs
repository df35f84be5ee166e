//! What a person does to a signal, and what happens when its members come from two partitions.

use super::Group;
use crate::output::{Outputs, State, status};

impl Group {
    /// Takes the signal out of service, or puts it back; acts at the last closed tick.
    pub(crate) fn hold(&mut self, on: bool, number: u64, out: &mut Outputs) {
        let split = self.memory.split && !on;
        if self.memory.held_by_command == on && !split {
            return;
        }
        self.memory.held_by_command = on;
        // Who releases a split signal says that its members come from one partition again.
        self.memory.split &= on;
        (self.next, self.touched) = (None, true);
        let k = self.memory.closed.unwrap_or(0);
        let (to, reason) =
            if on { (State::Held, "held by command") } else { (State::Unknown, "released by command") };
        self.change_state(k, to, reason, Some(number), out);
        self.memory.released = !on && self.memory.closed.is_some();
        if on && self.memory.closed.is_some() {
            self.serve_none(k, State::Held, status::OUT_OF_SERVICE, out);
        }
        // A held signal closes every tick, a failed one only those that have something new to see.
        self.close_due(out);
    }

    /// Fails the signal because its members come from two partitions; acts at the last closed tick.
    pub(crate) fn split(&mut self, number: u64, out: &mut Outputs) {
        if std::mem::replace(&mut self.memory.split, true) {
            return;
        }
        (self.next, self.touched) = (None, true);
        let k = self.memory.closed.or(self.memory.first).unwrap_or(0);
        if !self.memory.held_by_command {
            self.change_state(k, State::Failed, "members come from two partitions", Some(number), out);
            self.serve_none(k, State::Failed, status::NO_COMMUNICATION, out);
            self.follow(k, State::Failed, out);
        }
        self.close_due(out);
    }
}
