//! What a running stream shows and how it is steered: metrics over a loopback port, commands over a local socket.
//!
//! Absent, and why: detection, Kafka and the configuration file (the stream is seen only through `engine::control` and
//! `engine::metrics`, plain data on both sides, so nothing here can slow or change a judgement); tokens, roles and TLS
//! (so the port is loopback only and just reads, and the socket belongs to the user who started the stream);
//! `axum::serve` (it has neither a bound on connections nor a timeout). tokio lives here and nowhere else: one thread.

pub mod client;
mod config;
mod limits;
mod listen;
mod reply;
mod routes;
mod socket;

pub use config::{Loopback, LoopbackError, ServerConfig};
pub use listen::{Server, ServerError};
