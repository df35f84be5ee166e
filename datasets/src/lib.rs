//! Seeded data with known faults: a redundant quantity for judging voters and fallbacks, and a small demo plant.
//!
//! - [`Plant`]: several channels of one physical quantity plus four related tags, hard enough that a voter which
//!   has only ever seen clean steps fails on it. Used by tests, benchmarks and drills.
//! - [`demo_plant`]: twenty tags at one sample a second with a repeating script of labelled faults, for a first look.
//! - [`signal`]: families of single signals with labelled events, for judging detectors of one tag; [`Noise`]: rows in
//!   which nothing happens, for counting their false alarms.
//!
//! Equal seeds give equal bytes on every machine: the generator is a counter hash of our own, transcendental
//! functions come from `libm`, and no sum is reassociated. Faults draw from streams of their own, so a faulty and a
//! clean plant of one seed are paired sample by sample.
//!
//! Absent, on purpose: files, clocks, network and any engine type. Whoever needs record batches builds them from
//! [`Row`] or [`Tick`].

mod demo;
mod family;
mod fault;
mod noise;
mod plant;
mod rng;

pub use demo::{DEMO_SCRIPT_TICKS, DEMO_TAGS, DemoFault, DemoLabel, DemoPlant, DemoTag, Row, demo_plant};
pub use family::{CLEAN_ROWS, Family, SIGNAL_ROWS, Signal, signal};
pub use fault::{Fault, FaultKind, Label};
pub use noise::Noise;
pub use plant::{DAY_TICKS, PEERS, Plant, TICK_NS, Tick};
pub use rng::Rng;

/// First timestamp of every generated plant unless told otherwise: 2026-01-01T00:00:00Z, in nanoseconds.
pub const EPOCH_NS: i64 = 1_767_225_600_000_000_000;
