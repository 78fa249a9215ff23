//! From what the pool says to what HTTP says.
//!
//! Keeps true: every way a task or a submit can end has a status, and its body names the task and the reason.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use duly::{FlightError, RunError, SubmitErrorKind, TaskError};
use std::fmt::Display;

/// Why there is no value.
#[derive(Debug)]
pub(crate) struct NoValue {
    status: StatusCode,
    why: String,
}

/// A second: about what a full queue of small tasks needs.
const RETRY_AFTER: &str = "1";

impl<F, E: Display> From<RunError<F, E>> for NoValue {
    fn from(error: RunError<F, E>) -> Self {
        let status = match &error {
            RunError::Refused(refused) => of_refusal(refused.kind()),
            RunError::Task(task) => of_task(task),
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        NoValue {
            status,
            why: error.to_string(),
        }
    }
}

impl<E: Display> From<FlightError<E>> for NoValue {
    fn from(error: FlightError<E>) -> Self {
        let status = match &error {
            FlightError::Refused(refused) => of_refusal(refused.kind()),
            FlightError::Task(task) => of_task(task),
            FlightError::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        NoValue {
            status,
            why: error.to_string(),
        }
    }
}

fn of_refusal(kind: SubmitErrorKind) -> StatusCode {
    match kind {
        SubmitErrorKind::DeadlineExceeded | SubmitErrorKind::SubmitTimedOut => StatusCode::GATEWAY_TIMEOUT,
        // queue_full, shut_down, and what else says "not now".
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn of_task<E>(error: &TaskError<E>) -> StatusCode {
    match error {
        TaskError::Failed(_) => StatusCode::UNPROCESSABLE_ENTITY,
        TaskError::DeadlineExceeded(_) => StatusCode::GATEWAY_TIMEOUT,
        TaskError::Cancelled(_) | TaskError::Shed(_) | TaskError::Abandoned(_) => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl IntoResponse for NoValue {
    fn into_response(self) -> Response {
        let body = self.why + "\n";
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            (self.status, [(header::RETRY_AFTER, RETRY_AFTER)], body).into_response()
        } else {
            (self.status, body).into_response()
        }
    }
}
