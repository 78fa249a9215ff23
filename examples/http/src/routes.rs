//! The paths of the service. A handler awaits [`run`]: when its client leaves, axum drops the handler, that drops the
//! future, and that cancels the task.

use crate::answer::NoValue;
use crate::pages::Pages;
use crate::work;
use axum::Router;
use axum::extract::{FromRequestParts, Query, State};
use axum::http::request::Parts;
use axum::response::Json;
use axum::routing::get;
use duly::{Context, Interrupted, Pool};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::time::Duration;

const HELP: &str = "GET /hash?text=T&rounds=N   N rounds of SHA-256 over T
GET /wait?ms=N              a call that blocks for N ms
GET /page?name=N&ms=M       a page that takes M ms to make: once for all who ask, then kept for a minute
GET /stats                  the books of the pool
Header x-timeout-ms: N      answered within N ms, with 504 if need be
";

pub(crate) fn router(pool: &Pool) -> Router {
    Router::new()
        .route("/", get(|| async { HELP }))
        .route("/hash", get(hash))
        .route("/wait", get(wait))
        .route("/stats", get(stats))
        .with_state(pool.clone())
        .merge(Router::new().route("/page", get(page)).with_state(Pages::new(pool)))
}

/// What is left of the request's time.
struct Timeout(Duration);

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_TIMEOUT: Duration = Duration::from_secs(30);

impl<S: Sync> FromRequestParts<S> for Timeout {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let asked = parts
            .headers
            .get("x-timeout-ms")
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map_or(DEFAULT_TIMEOUT, Duration::from_millis);
        Ok(Timeout(asked.min(MAX_TIMEOUT)))
    }
}

/// Runs `work` in the pool for as long as the client waits and the request has time.
#[track_caller]
fn run<T, W>(
    pool: &Pool,
    timeout: Duration,
    label: &'static str,
    work: W,
) -> impl Future<Output = Result<T, NoValue>> + use<T, W>
where
    W: FnOnce(&Context) -> Result<T, Interrupted> + Send + 'static,
    T: Send + 'static,
{
    let answer = pool.options().label(label).timeout(timeout).run(work);
    async { Ok(answer.await?) }
}

#[derive(Deserialize)]
struct Hash {
    text: String,
    rounds: u32,
}

async fn hash(State(pool): State<Pool>, timeout: Timeout, Query(asked): Query<Hash>) -> Result<String, NoValue> {
    run(&pool, timeout.0, "hash", move |ctx| {
        work::hash(ctx, &asked.text, asked.rounds)
    })
    .await
}

#[derive(Deserialize)]
struct Wait {
    ms: u64,
}

async fn wait(State(pool): State<Pool>, timeout: Timeout, Query(asked): Query<Wait>) -> Result<String, NoValue> {
    run(&pool, timeout.0, "wait", move |ctx| {
        work::wait(ctx, Duration::from_millis(asked.ms))
    })
    .await
}

#[derive(Deserialize)]
struct Page {
    name: String,
    #[serde(default)]
    ms: u64,
}

async fn page(State(pages): State<Pages>, timeout: Timeout, Query(asked): Query<Page>) -> Result<String, NoValue> {
    pages.get(asked.name, Duration::from_millis(asked.ms), timeout.0).await
}

/// The books of the pool, for a dashboard.
#[derive(Serialize)]
struct Books {
    submitted: u64,
    succeeded: u64,
    failed: u64,
    panicked: u64,
    cancelled: u64,
    deadline_exceeded: u64,
    shed: u64,
    abandoned: u64,
    queued: u64,
    running: u64,
    refused: u64,
    overdue: u64,
    late: u64,
}

async fn stats(State(pool): State<Pool>) -> Json<Books> {
    let stats = pool.stats();
    Json(Books {
        submitted: stats.submitted,
        succeeded: stats.succeeded,
        failed: stats.failed,
        panicked: stats.panicked,
        cancelled: stats.cancelled,
        deadline_exceeded: stats.deadline_exceeded,
        shed: stats.shed,
        abandoned: stats.abandoned,
        queued: stats.queued,
        running: stats.running,
        refused: stats.refused,
        overdue: stats.overdue,
        late: stats.late,
    })
}
