//! Configuration: as written ([`raw`]), then checked and bound to tags ([`plan`]).
//!
//! Absent: sources and sinks (the root crate types them), defaults that are not named here.

pub mod catalogue;
pub mod plan;
pub mod raw;
pub mod select;
