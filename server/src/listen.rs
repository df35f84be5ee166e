//! The listeners and their thread.

use crate::config::ServerConfig;
use crate::limits::{ACCEPT_PAUSE, CONNECTION_WAIT, CONNECTIONS, HEAD_BYTES, HEAD_WAIT, STOP_WAIT};
use crate::routes;
use crate::socket::{self, SocketFile};
use axum::Router;
use engine::control::Desk;
use engine::metrics::Board;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{sleep, timeout};

/// The listeners of a running stream. Dropping it stops them.
#[derive(Debug)]
pub struct Server {
    metrics_addr: Option<SocketAddr>,
    socket: Option<SocketFile>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Why the listeners could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The port can't be had.
    #[error("can't listen on {addr} for metrics: {source}{}", port_advice(source))]
    Port {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The system has no room for the path of a socket.
    #[error(
        "{}: too long for a socket ({bytes} bytes with the private name that it is made under; the system takes about \
         100): choose a shorter path for `[server] control`",
        path.display()
    )]
    PathTooLong {
        /// The socket.
        path: PathBuf,
        /// The longest name that is needed.
        bytes: usize,
    },
    /// Somebody answers there.
    #[error(
        "{}: another truegauge is running there; stop it, or choose another path for `[server] control`",
        path.display()
    )]
    SocketTaken {
        /// The socket.
        path: PathBuf,
    },
    /// Something else has the name.
    #[error("{}: is there and is not a socket; choose another path for `[server] control`", path.display())]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// The socket can't be made.
    #[error("can't open the control socket {}: {source}{}", path.display(), socket_advice(source))]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system has no thread or no event queue left.
    #[error("can't start the server: {source}")]
    Runtime {
        /// What the system said.
        source: io::Error,
    },
}

fn port_advice(source: &io::Error) -> &'static str {
    match source.kind() {
        ErrorKind::AddrInUse => "; another program has this port: choose another for `[server] metrics`",
        ErrorKind::PermissionDenied => "; ports below 1024 need a privilege: choose a higher one",
        _ => "",
    }
}

fn socket_advice(source: &io::Error) -> &'static str {
    match source.kind() {
        ErrorKind::NotFound => "; its directory must be there already",
        ErrorKind::PermissionDenied => "; its directory must be writable for this user",
        _ => "",
    }
}

impl Server {
    /// Opens the listeners that `config` names and serves them from a thread of its own; with none, there is no thread.
    ///
    /// A relative path of the socket is taken from the working directory: resolve it before. Port 0 takes a free one,
    /// see [`Server::metrics_addr`].
    ///
    /// # Errors
    /// [`ServerError`], when a listener can't be opened; none is open then.
    pub fn start(config: &ServerConfig, board: Arc<Board>, desk: Desk) -> Result<Server, ServerError> {
        let port = match config.metrics {
            Some(metrics) => Some(bind_port(metrics.addr())?),
            None => None,
        };
        let metrics_addr = port.as_ref().map(|(_, addr)| *addr);
        let (listener, socket) = config.control.as_deref().map(socket::open).transpose()?.unzip();
        let mut server = Server { metrics_addr, socket, stop: None, thread: None };
        if port.is_none() && listener.is_none() {
            return Ok(server);
        }
        let failed = |source| ServerError::Runtime { source };
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(CONNECTIONS as usize)
            .build()
            .map_err(failed)?;
        let (port, listener) = {
            let _inside = runtime.enter();
            let port = port.map(|(port, _)| TcpListener::from_std(port)).transpose().map_err(failed)?;
            let listener = listener.map(from_std).transpose().map_err(failed)?;
            (port, listener)
        };
        let (stop, stopped) = oneshot::channel();
        let serve = move || serve(runtime, port, listener, (board, desk), stopped);
        server.thread = Some(std::thread::Builder::new().name("server".into()).spawn(serve).map_err(failed)?);
        server.stop = Some(stop);
        Ok(server)
    }

    /// Where `/metrics` is served, with the port that was taken.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics_addr
    }

    /// Stops within a second: the socket's file goes first, requests under way are answered if they can be.
    ///
    /// Drop the tray of the desk before, so that those who wait for an answer hear that the stream has ended.
    pub fn stop(self) {}
}

impl Drop for Server {
    fn drop(&mut self) {
        self.socket = None;
        if let Some(stop) = self.stop.take() {
            // A thread that has ended already needs no telling.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            // It has told of its panic itself.
            let _ = thread.join();
        }
    }
}

fn bind_port(addr: SocketAddr) -> Result<(std::net::TcpListener, SocketAddr), ServerError> {
    let failed = |source| ServerError::Port { addr, source };
    let listener = std::net::TcpListener::bind(addr).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let addr = listener.local_addr().map_err(failed)?;
    Ok((listener, addr))
}

fn from_std(listener: std::os::unix::net::UnixListener) -> io::Result<UnixListener> {
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// The thread: until `stopped`, then as long as requests are under way, at most [`STOP_WAIT`].
fn serve(
    runtime: Runtime,
    port: Option<TcpListener>,
    socket: Option<UnixListener>,
    (board, desk): (Arc<Board>, Desk),
    stopped: oneshot::Receiver<()>,
) {
    let free = [(); 2].map(|()| Arc::new(Semaphore::new(CONNECTIONS as usize)));
    let [shown, steered] = free.clone();
    runtime.block_on(async move {
        let shown_routes = routes::shown(board.clone());
        let port = port.map(|port| {
            let accept = async move || port.accept().await.map(|(stream, _)| stream);
            tokio::spawn(accept_all(accept, shown_routes, shown))
        });
        let steered_routes = routes::steered(board, desk);
        let socket = socket.map(|socket| {
            let accept = async move || socket.accept().await.map(|(stream, _)| stream);
            tokio::spawn(accept_all(accept, steered_routes, steered))
        });
        // A dropped sender means the same as a message.
        let _ = stopped.await;
        for task in [port, socket].into_iter().flatten() {
            task.abort();
        }
        let under_way = async {
            for free in free {
                let _ = free.acquire_many(CONNECTIONS).await;
            }
        };
        let _ = timeout(STOP_WAIT, under_way).await;
    });
    // A command that waits for its answer in a blocking thread must not hold up the end.
    runtime.shutdown_background();
}

/// Accepts while there is room for a connection; the others wait in the system's queue.
async fn accept_all<S>(accept: impl AsyncFn() -> io::Result<S>, routes: Router, free: Arc<Semaphore>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    while let Ok(place) = free.clone().acquire_owned().await {
        match accept().await {
            Ok(stream) => {
                let routes = routes.clone();
                tokio::spawn(async move {
                    converse(stream, routes).await;
                    drop(place);
                });
            }
            // The client left, or no file descriptor is left: both pass.
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// One request and its answer.
async fn converse<S>(stream: S, routes: Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT)
        .max_buf_size(HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    // A broken or slow connection concerns its client only.
    let _ = timeout(CONNECTION_WAIT, connection).await;
}
