//! `GET /healthz`: whether the process answers. Says nothing of the stream: that is for `/metrics` and its alerts.
//!
//! Answers `200` and `ok`.

use axum::Router;
use axum::routing::get;

const PATH: &str = "/healthz";

pub(super) fn route() -> Router {
    Router::new().route(PATH, get(async || "ok\n"))
}
