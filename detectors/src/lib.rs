//! Pure judgement of sensor samples: detectors, voters and fallback models.
//!
//! A *detector* ([`detect`]) gives every sample of one tag a flag; a *voter* ([`vote`]) makes one value of several
//! redundant tags; a *forecast* ([`forecast`]) stands in for a value that cannot be had. Everything is a function of its
//! arguments: parameters, state, samples.
//!
//! # What is absent, and why
//!
//! - No input or output, no threads, no clock, no randomness, no logging: two runs over the same samples give the same
//!   bits, and a replay needs nothing but the samples.
//! - No order in time across tags, no batching, no alerts: that is the engine's work.
//! - No allocation in a judging path, and no `Result` for data: data yields a flag. The one list that may grow is the
//!   caller's list of evidence.
//! - No transcendental function of the standard library: their last bits differ between platforms.

pub mod detect;
pub mod forecast;
pub mod params;
pub mod sample;
pub mod vote;

pub use detect::{Columns, DetectRaw, Detector, Freeze, KINDS, Plain, Stage, TagCommand, Visitor, visit};

pub use forecast::{AnyForecast, Forecast, ForecastRaw};
pub use params::{FalseAlarms, Finite, Limits, ParamError, Positive, Span};
pub use sample::{Evidence, Flag, Samples, Verdicts};
pub use vote::{AnyVoter, Estimate, MAX_MEMBERS, MemberSample, Outcome, Panel, Vote, VoteRaw, Voter};
