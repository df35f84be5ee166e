//! Assembly of truegauge: configuration file, wiring of sources to partitions, run directory, subcommands.
//!
//! Absent: detection (crate `detectors`), order and state (`engine`), formats and transports (`connectors`).

pub mod cmd;
pub mod config;
pub mod control;
pub mod live;
pub mod run_dir;
pub mod view;
pub mod wiring;
