//! The other end of the control socket, for the commands of the command line.
//!
//! Absent: async on the outside (each call has a small runtime of its own), TCP, retries (a command that was not
//! answered may have been applied; a person decides).

use crate::limits::{ANSWER_BYTES, CLIENT_WAIT};
use crate::reply::ProblemBody;
use crate::routes::{COMMANDS, SIGNALS};
use axum::body::Bytes;
use axum::http::{Method, Request, StatusCode, header};
use engine::control::{Accepted, Command};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::runtime::Builder;
use tokio::time::timeout;

/// A signal as the stream tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// The signal.
    pub signal: String,
    /// Partition that serves it.
    pub partition: u32,
    /// The word of its state.
    pub state: String,
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody is there.
    #[error("{}: nobody answers; is `truegauge run` running there?", socket.display())]
    NotRunning {
        /// The socket.
        socket: PathBuf,
    },
    /// The socket is another user's.
    #[error(
        "{}: permission denied; only the user who started `truegauge run` may steer it",
        socket.display()
    )]
    Denied {
        /// The socket.
        socket: PathBuf,
    },
    /// The stream refused it; its own words.
    #[error("{message}")]
    Refused {
        /// The status of the answer, as HTTP has them.
        status: u16,
        /// What the stream said.
        message: String,
    },
    /// No answer came. The command may still be applied.
    #[error("{}: no answer within {wait:?}; it may still be applied", socket.display())]
    NoAnswer {
        /// The socket.
        socket: PathBuf,
        /// How long it was waited for.
        wait: Duration,
    },
    /// The connection broke.
    #[error("{}: {source}", socket.display())]
    Socket {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The other side does not speak HTTP, or broke off.
    #[error("{}: {source}; is it the socket of a truegauge?", socket.display())]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// What went wrong.
        source: hyper::Error,
    },
    /// The answer is not what this version understands.
    #[error("{}: the answer can't be read: {reason}", socket.display())]
    Answer {
        /// The socket.
        socket: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Sends a command, and waits until it has been applied.
///
/// # Errors
/// [`ClientError`], when nobody is there, or the command was refused or not answered.
pub fn send(socket: &Path, command: &Command) -> Result<Accepted, ClientError> {
    let body = serde_json::to_vec(command).map_err(|error| unreadable(socket, &error))?;
    exchange(socket, Method::POST, COMMANDS, body)
}

/// The signals as they stand.
///
/// # Errors
/// As [`send`].
pub fn signals(socket: &Path) -> Result<Vec<Signal>, ClientError> {
    exchange(socket, Method::GET, SIGNALS, Vec::new())
}

/// One request and its answer.
fn exchange<T: serde::de::DeserializeOwned>(
    socket: &Path,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> Result<T, ClientError> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| unreadable(socket, &error))?;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| ClientError::Socket { socket: socket.into(), source })?;
    let (status, answer) = runtime
        .block_on(async { timeout(CLIENT_WAIT, talk(socket, request)).await })
        .unwrap_or_else(|_| Err(ClientError::NoAnswer { socket: socket.into(), wait: CLIENT_WAIT }))?;
    if status.is_success() {
        return serde_json::from_slice(&answer).map_err(|error| unreadable(socket, &error));
    }
    let message = match serde_json::from_slice(&answer) {
        Ok(ProblemBody { error }) => error,
        Err(_) => format!("refused with status {status}"),
    };
    Err(ClientError::Refused { status: status.as_u16(), message })
}

async fn talk(socket: &Path, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), ClientError> {
    let broken = |source| ClientError::Broken { socket: socket.into(), source };
    let stream = UnixStream::connect(socket).await.map_err(|source| unreached(socket, source))?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // It ends when the answer is whole; what breaks it is told by the request.
    tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(broken)?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES).collect().await;
    let body = body.map_err(|error| unreadable(socket, error.as_ref()))?;
    Ok((status, body.to_bytes()))
}

fn unreached(socket: &Path, source: io::Error) -> ClientError {
    let socket = socket.into();
    match source.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => ClientError::NotRunning { socket },
        ErrorKind::PermissionDenied => ClientError::Denied { socket },
        _ => ClientError::Socket { socket, source },
    }
}

fn unreadable(socket: &Path, error: &dyn std::error::Error) -> ClientError {
    ClientError::Answer { socket: socket.into(), reason: error.to_string() }
}
