//! The list of routes: one file and one entry each. A route holds only what it serves, so one that reads can't steer.

mod commands;
mod healthz;
mod metrics;
mod signals;

pub(crate) use commands::PATH as COMMANDS;
pub(crate) use signals::PATH as SIGNALS;

use crate::reply::{Problem, body_limit};
use axum::Router;
use axum::http::StatusCode;
use engine::control::Desk;
use engine::metrics::Board;
use std::sync::Arc;

/// What everyone on this machine may read: the port.
pub(crate) fn shown(board: Arc<Board>) -> Router {
    bounded(shown_routes(board))
}

/// What the user who started the stream may read and do: the socket.
pub(crate) fn steered(board: Arc<Board>, desk: Desk) -> Router {
    bounded(shown_routes(board.clone()).merge(signals::route(board)).merge(commands::route(desk)))
}

fn shown_routes(board: Arc<Board>) -> Router {
    healthz::route().merge(metrics::route(board))
}

fn bounded(routes: Router) -> Router {
    routes
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "no such path"))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method")
        })
        .layer(body_limit())
}
