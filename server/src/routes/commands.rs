//! `POST /v1/commands`: steers the stream, and answers when the command has been written to the journal and applied.
//! Socket only.
//!
//! Takes `{"command": "hold", "signal": "boiler1.pressure"}`, answers `200` and
//! `{"entries": [{"partition": 0, "number": 3}]}`. Refusals: `404` no such signal, rule or tag; `409` no partition has
//! it yet; `503` the journal can't be written, or the stream has ended; `504` no answer, and it may still be applied.

use crate::limits::ASK_WAIT;
use crate::reply::{Problem, Sent, json};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;
use engine::control::{Command, Desk, Refusal};
use tokio::task::spawn_blocking;

pub(crate) const PATH: &str = "/v1/commands";

pub(super) fn route(desk: Desk) -> Router {
    Router::new().route(PATH, post(ask)).with_state(desk)
}

async fn ask(State(desk): State<Desk>, Sent(command): Sent<Command>) -> Result<Response, Problem> {
    let asked = spawn_blocking(move || desk.ask(command, ASK_WAIT))
        .await
        .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    match asked {
        Ok(accepted) => Ok(json(StatusCode::OK, &accepted)),
        Err(refusal) => Err(Problem::new(status(&refusal), refusal.to_string())),
    }
}

fn status(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::Unknown { .. } => StatusCode::NOT_FOUND,
        Refusal::Nowhere => StatusCode::CONFLICT,
        Refusal::Journal { .. } | Refusal::Ended => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::NoAnswer(_) => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn every_refusal_has_its_status() {
        let unknown = Refusal::Unknown { what: "signal", name: "x".into(), nearest: None };
        let journal = Refusal::Journal { reason: "disk full".into() };
        for (refusal, code) in [
            (unknown, 404),
            (Refusal::Nowhere, 409),
            (journal, 503),
            (Refusal::Ended, 503),
            (Refusal::NoAnswer(Duration::ZERO), 504),
        ] {
            assert_eq!(status(&refusal).as_u16(), code, "{refusal}");
        }
    }
}
