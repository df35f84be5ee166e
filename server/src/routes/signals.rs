//! `GET /v1/signals`: the signals as they stand. Socket only.
//!
//! Answers `200` and `[{"signal": "boiler1.pressure", "partition": 0, "state": "normal"}]`.

use crate::reply::json;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use engine::metrics::Board;
use std::sync::Arc;

pub(crate) const PATH: &str = "/v1/signals";

pub(super) fn route(board: Arc<Board>) -> Router {
    Router::new().route(PATH, get(list)).with_state(board)
}

async fn list(State(board): State<Arc<Board>>) -> Response {
    json(StatusCode::OK, &board.read().signals)
}
