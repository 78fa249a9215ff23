//! From a Python call to a task of core: the one path of all submits.
//!
//! Keeps true:
//! 1. What is refused has been checked before anything is captured: callables only, no coroutine functions.
//! 2. A submit that waits for room keeps its place in the line of producers however often it looks for signals.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use duly::{CancellationToken, Options, Overflow};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCFunction, PyDict, PyFunction, PyString, PyTuple, PyWeakrefMethods, PyWeakrefReference};

use crate::admission::{Admission, Answer, Refused, Submitted};
use crate::callback::{Aside, Callback, Captured, Extras, Raised, Value};
use crate::driven::{Driven, Then};
use crate::future::FutureCall;
use crate::native::{NativeCallback, NativeRepeated};
use crate::periodic::{Periodic, Repeated};
use crate::pool::Shared;
use crate::task::Task;
use crate::{context, copied, errors, native, scope, wait};

/// The options of a submit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Choices {
    pub(crate) label: Option<Arc<str>>,
    pub(crate) limit: Limit,
    pub(crate) submit_timeout: Option<Duration>,
    pub(crate) delay: Option<Duration>,
    pub(crate) detached: bool,
    pub(crate) interrupt: bool,
    pub(crate) token: Option<CancellationToken>,
    pub(crate) queue: Option<duly::Queue>,
    /// The hash of the task's key.
    pub(crate) key: Option<isize>,
    /// None: what the queue's is.
    pub(crate) overflow: Option<Overflow>,
}

/// Until when a task must have its outcome.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Limit {
    /// By the pool's default_timeout.
    #[default]
    Default,
    None,
    Timeout(Duration),
    Deadline(Instant),
}

/// A callback as `submit(callback, /, *args, **kwargs)` gets it.
pub(crate) struct Request<'a, 'py> {
    /// What its task is called, unless its options say otherwise.
    label: Arc<str>,
    /// The callback first: as `Context.run` takes them.
    args: &'a Bound<'py, PyTuple>,
    kwargs: Option<&'a Bound<'py, PyDict>>,
}

impl<'a, 'py> Request<'a, 'py> {
    /// What is refused here has not been captured (1).
    pub(crate) fn new(
        native: bool,
        args: &'a Bound<'py, PyTuple>,
        kwargs: Option<&'a Bound<'py, PyDict>>,
    ) -> PyResult<Self> {
        let Ok(callback) = args.get_item(0) else {
            return Err(errors::type_error(
                "a callback is missing: submit(callback, /, *args, **kwargs)",
            ));
        };
        let label = if native {
            if kwargs.is_some() {
                let text = "a native callback takes its data and no keyword arguments";
                return Err(errors::type_error(text));
            }
            native::check(args)?;
            name_of(&callback)
        } else {
            known(&callback)?
        };
        Ok(Request { label, args, kwargs })
    }
}

/// What core is given: a callback and how its task is called.
struct Prepared {
    callback: Captured,
    aside: Arc<Aside>,
    label: Arc<str>,
    token: Option<CancellationToken>,
}

fn prepare(py: Python<'_>, pool: &Shared, choices: &Choices, request: &Request<'_, '_>) -> PyResult<Prepared> {
    let label = Arc::clone(choices.label.as_ref().unwrap_or(&request.label));
    let aside = Arc::new(Aside::default());
    let (callback, token) = captured(py, pool, choices, request, Arc::clone(&aside), None)?;
    Ok(Prepared {
        callback,
        aside,
        label,
        token,
    })
}

/// The callback with what it captures, and the token that it is submitted under. `aside` is its own; `tells`: see `Extras`.
pub(crate) fn captured(
    py: Python<'_>,
    pool: &Shared,
    choices: &Choices,
    request: &Request<'_, '_>,
    aside: Arc<Aside>,
    tells: Option<Arc<Aside>>,
) -> PyResult<(Captured, Option<CancellationToken>)> {
    let (scope, token) = under(py, choices)?;
    if pool.native() {
        return Ok((Captured::Native(Box::new(NativeCallback::new(request.args)?)), token));
    }
    let context = copied::current(py)?;
    let scope = scope.map(Bound::unbind);
    let extras = Extras {
        interrupt: choices.interrupt,
        tells,
    };
    let callback = Callback::new(context, request.args, request.kwargs, scope, aside, extras);
    Ok((Captured::Python(callback), token))
}

/// The ambient scope, and the token that a task is submitted under.
fn under<'py>(py: Python<'py>, choices: &Choices) -> PyResult<(Option<Bound<'py, PyAny>>, Option<CancellationToken>)> {
    let scope = if choices.detached { None } else { scope::ambient(py)? };
    let token = match (&choices.token, &scope) {
        (Some(token), _) => Some(token.clone()),
        (None, Some(scope)) if !context::brought(scope) => Some(scope::token_of(scope)?),
        _ => None,
    };
    Ok((scope, token))
}

pub(crate) fn options<'p>(
    pool: &'p Shared,
    choices: &Choices,
    label: &Arc<str>,
    token: Option<&CancellationToken>,
) -> Options<'p> {
    let mut options = pool.pool.options().label(Arc::clone(label));
    options = match choices.limit {
        Limit::Default => options,
        Limit::None => options.no_deadline(),
        Limit::Timeout(timeout) => options.timeout(timeout),
        Limit::Deadline(deadline) => options.deadline(deadline),
    };
    if let Some(timeout) = choices.submit_timeout {
        options = options.submit_timeout(timeout);
    }
    if let Some(delay) = choices.delay {
        options = options.delay(delay);
    }
    if let Some(queue) = &choices.queue {
        options = options.queue(queue);
    }
    if let Some(key) = &choices.key {
        options = options.key(key);
    }
    if let Some(overflow) = choices.overflow {
        options = options.overflow(overflow);
    }
    if choices.detached {
        options = options.detached();
    }
    if let Some(token) = token {
        options = options.token(token);
    }
    options
}

/// Submits and waits for room by the overflow policy.
pub(crate) fn submit(
    py: Python<'_>,
    pool: &Shared,
    choices: &Choices,
    request: &Request<'_, '_>,
) -> PyResult<Py<Task>> {
    if on_loop(py)? {
        let text = format!(
            "submit may wait, and an event loop runs on this thread: use `await pool.asubmit(...)` or \
             `await pool.run(...)`, or try_submit, which never waits (task {:?})",
            request.label
        );
        return Err(errors::not_here(&text));
    }
    let Prepared {
        callback,
        aside,
        label,
        token,
    } = prepare(py, pool, choices, request)?;
    let options = options(pool, choices, &label, token.as_ref());
    let accepted = wait_for_room(py, &options, move |context: &duly::Context| callback.run(context))?;
    answer(py, pool, accepted, aside, label)?.object(py)
}

/// Submits without waiting.
pub(crate) fn try_submit(
    py: Python<'_>,
    pool: &Shared,
    choices: &Choices,
    request: &Request<'_, '_>,
) -> PyResult<Py<Task>> {
    let Prepared {
        callback,
        aside,
        label,
        token,
    } = prepare(py, pool, choices, request)?;
    let options = options(pool, choices, &label, token.as_ref());
    let accepted = options.try_submit(move |context: &duly::Context| callback.run(context));
    answer(py, pool, accepted.map_err(Refused::from), aside, label)?.object(py)
}

/// Submits without holding the thread: a Task, or the Admission of one that waits for room. Then what `waiting()` gives is
/// told of it.
pub(crate) fn admit(
    py: Python<'_>,
    pool: &Shared,
    choices: &Choices,
    request: &Request<'_, '_>,
    waiting: &Bound<'_, PyAny>,
) -> PyResult<Py<PyAny>> {
    let Prepared {
        callback,
        aside,
        label,
        token,
    } = prepare(py, pool, choices, request)?;
    let options = options(pool, choices, &label, token.as_ref());
    let submit = options.submit_async(move |context: &duly::Context| callback.run(context));
    stand_in_line(py, pool, submit, || waiting.call0(), label, aside)
}

/// What `Pool.every` was asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rhythm {
    pub(crate) period: Duration,
    pub(crate) missed: duly::Missed,
    pub(crate) overlap: bool,
    pub(crate) max_failures: Option<u64>,
    pub(crate) jitter: Duration,
}

/// Has a callback run again and again.
pub(crate) fn every(
    py: Python<'_>,
    pool: &Shared,
    choices: &Choices,
    request: &Request<'_, '_>,
    rhythm: Rhythm,
) -> PyResult<Periodic> {
    let label = Arc::clone(choices.label.as_ref().unwrap_or(&request.label));
    let (scope, token) = under(py, choices)?;
    let options = options(pool, choices, &label, token.as_ref());
    let mut every = options
        .every(rhythm.period)
        .missed(rhythm.missed)
        .overlap(rhythm.overlap)
        .jitter(rhythm.jitter);
    if let Some(most) = rhythm.max_failures {
        every = every.max_failures(most);
    }
    let begun = if pool.native() {
        let repeated = NativeRepeated::new(request.args)?;
        let begun = every.submit(move |context: &duly::Context| repeated.run(context));
        begun.map_err(|refused| refused.kind())
    } else {
        let (context, scope) = (copied::current(py)?, scope.map(Bound::unbind));
        let repeated = Repeated::new(context, request.args, request.kwargs, scope, choices.interrupt);
        let begun = every.submit(move |context: &duly::Context| repeated.run(context));
        begun.map_err(|refused| refused.kind())
    };
    match begun {
        Ok(periodic) => Ok(Periodic { periodic, label }),
        Err(kind) => Err(errors::refused(py, kind, &label, &pool.name)),
    }
}

/// Submits a call that ends in a future of `concurrent.futures`: a Task, or the Admission of one that waits for room
/// while an event loop runs on this thread.
pub(crate) fn submit_future(py: Python<'_>, pool: &Shared, args: &Bound<'_, PyTuple>) -> PyResult<Py<PyAny>> {
    let (future, function) = (args.get_item(0)?, args.get_item(1)?);
    let call = FutureCall::new(&future, &function, args.get_item(2)?.cast()?, args.get_item(3)?.cast()?);
    let run = move |context: &duly::Context| call.run(context);
    let label = name_of(&function);
    let choices = Choices::default();
    let options = options(pool, &choices, &label, None);
    if on_loop(py)? {
        let told = || future.getattr(intern!(py, "_admitted"));
        return stand_in_line(py, pool, options.submit_async(run), told, label, Arc::default());
    }
    let accepted = wait_for_room(py, &options, run)?;
    let task = answer(py, pool, accepted, Arc::default(), label)?;
    Ok(task.object(py)?.into_any())
}

fn wait_for_room<F>(py: Python<'_>, options: &Options<'_>, run: F) -> PyResult<Answer>
where
    F: FnOnce(&duly::Context) -> Result<Value, Raised> + Send + 'static,
{
    let accepted = if !options.waits_for_room() {
        // No other policy waits, and callers that run do so attached.
        options.submit(run)
    } else if context::inside() && wait::in_one_piece(py)? {
        // In a callback core may have to lend this worker's place to another, or to refuse the wait.
        py.detach(|| options.submit(run))
    } else {
        // A future is made where there is no room, or another reason to refuse.
        let run = match options.submit_if_room(run) {
            Ok(task) => return Ok(Ok(task)),
            Err(refused) => refused.into_callback(),
        };
        let mut submit = options.submit_async(run);
        match Pin::new(&mut submit).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(accepted) => accepted,
            Poll::Pending if wait::in_one_piece(py)? => {
                wait::poll(py, |waker| Pin::new(&mut submit).poll(&mut Context::from_waker(waker)))?
            }
            Poll::Pending => return in_line(py, async move { submit.await.map_err(Refused::from) }),
        }
    };
    Ok(accepted.map_err(Refused::from))
}

/// Waits in the line for room where handlers of signals run meanwhile. They may stand in the same line, behind this submit:
/// so it goes on by itself while they wait.
fn in_line(py: Python<'_>, submit: impl Future<Output = Answer> + Send + 'static) -> PyResult<Answer> {
    let line = Arc::new(Mutex::new(InLine::Waiting));
    let told = Arc::clone(&line);
    let here = thread::current();
    let driven = Driven::start(async move {
        let answer = submit.await;
        let then: Then = Box::new(move || {
            let mut line = told.lock().unwrap_or_else(PoisonError::into_inner);
            if matches!(*line, InLine::Left) {
                drop(line);
                leave(answer);
                return;
            }
            *line = InLine::Answered(answer);
            drop(line);
            here.unpark();
        });
        then
    });
    let take = |instead| std::mem::replace(&mut *line.lock().unwrap_or_else(PoisonError::into_inner), instead);
    let waited = wait::poll(py, |_| match take(InLine::Waiting) {
        InLine::Answered(answer) => Poll::Ready(answer),
        _ => Poll::Pending,
    });
    if waited.is_err() {
        // A handler has raised. The answer may have come by now.
        if let InLine::Answered(answer) = take(InLine::Left) {
            leave(answer);
        }
        driven.leave();
    }
    waited
}

/// Where a submit in the line stands.
enum InLine {
    Waiting,
    Answered(Answer),
    Left,
}

/// Nobody will have the handle of what was accepted.
fn leave(answer: Answer) {
    if let Ok(task) = answer {
        task.cancel_with(duly::CancelReason::CallerLeft);
    }
}

fn answer(py: Python<'_>, pool: &Shared, accepted: Answer, aside: Arc<Aside>, label: Arc<str>) -> PyResult<Task> {
    match accepted {
        Ok(task) => Ok(Task::new(task, aside, label, pool.native())),
        Err(refused) => Err(errors::refused(py, refused.kind, &label, &pool.name)),
    }
}

fn stand_in_line<'py, F>(
    py: Python<'py>,
    pool: &Shared,
    mut submit: duly::SubmitFuture<F, Value, Raised>,
    told: impl FnOnce() -> PyResult<Bound<'py, PyAny>>,
    label: Arc<str>,
    aside: Arc<Aside>,
) -> PyResult<Py<PyAny>>
where
    F: FnOnce(&duly::Context) -> Result<Value, Raised> + Send + 'static,
{
    if let Poll::Ready(accepted) = Pin::new(&mut submit).poll(&mut Context::from_waker(Waker::noop())) {
        let task = answer(py, pool, accepted.map_err(Refused::from), aside, label)?;
        return Ok(task.object(py)?.into_any());
    }
    let named = Arc::clone(&label);
    let native = pool.native();
    let handle = Box::new(move |task| Task::new(task, aside, named, native));
    let pool = pool.name.clone();
    let wait = async move {
        let answer = submit.await.map_err(Refused::from);
        Submitted::new(answer, handle, label, pool)
    };
    let admission = Admission::new(wait, &told()?);
    Ok(Py::new(py, admission)?.into_any())
}

/// Whether an event loop of asyncio, or a task of trio, runs on this thread.
pub(crate) fn on_loop(py: Python<'_>) -> PyResult<bool> {
    static ASYNCIO: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static TRIO: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    if let Some(ask) = imported(py, &ASYNCIO, intern!(py, "asyncio.events"), "_get_running_loop")?
        && !ask.call0()?.is_none()
    {
        return Ok(true);
    }
    match imported(py, &TRIO, intern!(py, "trio.lowlevel"), "in_trio_task")? {
        Some(ask) => ask.call0()?.is_truthy(),
        None => Ok(false),
    }
}

/// What a module has, if it was imported: where it never was, nothing of it runs.
fn imported<'py>(
    py: Python<'py>,
    known: &'static PyOnceLock<Py<PyAny>>,
    module: &Bound<'py, PyString>,
    name: &str,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    static MODULES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    if let Some(what) = known.get(py) {
        return Ok(Some(what.bind(py).clone()));
    }
    let modules = MODULES.get_or_try_init(py, || {
        PyResult::Ok(py.import("sys")?.getattr("modules")?.cast_into::<PyDict>()?.unbind())
    })?;
    if !modules.bind(py).contains(module)? {
        return Ok(None);
    }
    // An old version may lack it.
    Ok(known.import(py, &module.to_string(), name).ok().cloned())
}

/// What the task of a callback is called; an error if it is none. The last function is remembered, by a weak reference: most
/// submits are of the same one as the one before. (Whoever renames it meanwhile sees the old name once more.)
fn known(callback: &Bound<'_, PyAny>) -> PyResult<Arc<str>> {
    static LAST: Mutex<Option<(Py<PyWeakrefReference>, Arc<str>)>> = Mutex::new(None);
    let py = callback.py();
    if let Some((last, label)) = &*LAST.lock().unwrap_or_else(PoisonError::into_inner)
        && last.bind(py).upgrade().is_some_and(|last| last.is(callback))
    {
        return Ok(Arc::clone(label));
    }
    _check_callback(callback)?;
    let label = name_of(callback);
    if (callback.is_exact_instance_of::<PyFunction>() || callback.is_exact_instance_of::<PyCFunction>())
        && let Ok(last) = PyWeakrefReference::new(callback)
    {
        let last = Some((last.unbind(), Arc::clone(&label)));
        // Dropped after the lock is released.
        let _before = std::mem::replace(&mut *LAST.lock().unwrap_or_else(PoisonError::into_inner), last);
    }
    Ok(label)
}

/// An error if it can be nobody's callback.
#[pyfunction]
pub(crate) fn _check_callback(callback: &Bound<'_, PyAny>) -> PyResult<()> {
    if !callback.is_callable() {
        let text = format!("callback must be callable, not {}", errors::kind_of(callback));
        return Err(errors::type_error(&text));
    }
    if is_coroutine_function(callback)? {
        let text = format!(
            "{} is a coroutine function: a worker would only make a coroutine of it and never run it. Submit a plain \
             function; one that calls asyncio.run(...) if it must be",
            name_of(callback)
        );
        return Err(errors::type_error(&text));
    }
    Ok(())
}

fn is_coroutine_function(callback: &Bound<'_, PyAny>) -> PyResult<bool> {
    // CO_COROUTINE and CO_ASYNC_GENERATOR of CPython's code objects; inspect asks the same.
    const ASYNC: u32 = 0x0080 | 0x0200;
    let py = callback.py();
    if callback.is_exact_instance_of::<PyFunction>() {
        let flags: u32 = callback
            .getattr(intern!(py, "__code__"))?
            .getattr(intern!(py, "co_flags"))?
            .extract()?;
        return Ok(flags & ASYNC != 0);
    }
    if callback.is_exact_instance_of::<PyCFunction>() {
        return Ok(false);
    }
    if callback.get_type().is(method_type(py)?) {
        return is_coroutine_function(&callback.getattr(intern!(py, "__func__"))?);
    }
    // Classes, partials, callable objects.
    static ASK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let ask = ASK.import(py, "inspect", "iscoroutinefunction")?;
    if ask.call1((callback,))?.is_truthy()? {
        return Ok(true);
    }
    match callback.get_type().getattr(intern!(py, "__call__")) {
        Ok(call) if call.is_exact_instance_of::<PyFunction>() => is_coroutine_function(&call),
        _ => Ok(false),
    }
}

fn method_type(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static METHOD: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    METHOD.import(py, "types", "MethodType")
}

/// What a task without a label is called: its callback's qualified name. The last one is kept, for most submits are of
/// the same function as the one before.
fn name_of(callback: &Bound<'_, PyAny>) -> Arc<str> {
    static LAST: Mutex<Option<(Py<PyAny>, Arc<str>)>> = Mutex::new(None);
    let py = callback.py();
    let Ok(name) = callback.getattr(intern!(py, "__qualname__")) else {
        return errors::kind_of(callback).into();
    };
    if let Some((last, label)) = &*LAST.lock().unwrap_or_else(PoisonError::into_inner)
        && last.is(&name)
    {
        return Arc::clone(label);
    }
    let Ok(label) = name.extract::<String>() else {
        return errors::kind_of(callback).into();
    };
    let label = Arc::<str>::from(label);
    let last = Some((name.unbind(), Arc::clone(&label)));
    // Dropped after the lock is released.
    let _before = std::mem::replace(&mut *LAST.lock().unwrap_or_else(PoisonError::into_inner), last);
    label
}
