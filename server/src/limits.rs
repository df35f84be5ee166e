//! Every bound of the server, and how they relate. Full means: the next client waits in the system's queue.

use std::time::Duration;

/// Connections served at once on each listener.
pub(crate) const CONNECTIONS: u32 = 64;
/// Most bytes of a request's body.
pub(crate) const BODY_BYTES: usize = 16 * 1024;
/// Most bytes of a request's head.
pub(crate) const HEAD_BYTES: usize = 16 * 1024;
/// Most bytes of an answer that the client reads: some hundred thousand signals.
pub(crate) const ANSWER_BYTES: usize = 32 * 1024 * 1024;
/// How long a client may take to send the head of its request.
pub(crate) const HEAD_WAIT: Duration = Duration::from_secs(5);
/// How long it may take to send the body.
pub(crate) const BODY_WAIT: Duration = Duration::from_secs(5);
/// How long a command may take to be applied.
pub(crate) const ASK_WAIT: Duration = Duration::from_secs(5);
/// The whole life of a connection, which serves one request: also who does not read the answer is let go.
pub(crate) const CONNECTION_WAIT: Duration = Duration::from_secs(20);
/// How long the client waits for an answer.
pub(crate) const CLIENT_WAIT: Duration = Duration::from_secs(10);
/// How long a stop waits for the requests under way.
pub(crate) const STOP_WAIT: Duration = Duration::from_millis(800);
/// A pause after the system could not accept (no file descriptors left).
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const _: () = assert!(
    HEAD_WAIT.as_millis() + BODY_WAIT.as_millis() + ASK_WAIT.as_millis() < CONNECTION_WAIT.as_millis(),
    "a request that uses its time is answered before its connection ends"
);
const _: () = assert!(
    ASK_WAIT.as_millis() < CLIENT_WAIT.as_millis(),
    "the client hears that a command was not applied in time"
);
