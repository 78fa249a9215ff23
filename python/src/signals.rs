//! Signals that shut a pool down, or cancel a scope: core's handler, beside those of the interpreter.
//!
//! ```text
//! signal --> core's handler (signal-hook's) --> `host` --> the interpreter's, which marks it for the main thread
//!                        \--> duly-signals: the drain, the token
//! ```
//!
//! Keeps true:
//! 1. A signal reaches pools and scopes whatever the main thread does; nothing of that waits for the interpreter.
//! 2. Handlers that were there still run, before, each once: what `signal.signal` was given, and KeyboardInterrupt. Whoever
//!    binds, or waits, finds those that `signal.signal` has set since, and has them run beside core's from then on. A handler
//!    that others installed over core's is left alone: it calls what it found there, and would be called by that for ever.
//! 3. System calls are interrupted, or not, as by the host's handler, also one that came later, and as by the interpreter's own
//!    where there was none: with SA_RESTART the main thread would sleep on in a lock or a read, and hear of Ctrl-C when it wakes.
//! 4. What stands here is changed by threads that hold the interpreter; handlers only read it.

use std::ffi::{c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use duly::{CancellationToken, ShutdownError, ShutdownOnSignal, Signal, SignalError};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::{errors, wait};

/// The signals that an argument names: one, or several.
pub(crate) fn read(signals: &Bound<'_, PyAny>) -> PyResult<Vec<Signal>> {
    if let Ok(number) = signals.extract::<c_int>() {
        return Ok(vec![known(signals.py(), number)?]);
    }
    let wrong = |what: &Bound<'_, PyAny>| {
        let kind = errors::kind_of(what);
        errors::type_error(&format!("signals must be signals, e.g. [signal.SIGTERM], not {kind}"))
    };
    let mut read = Vec::new();
    for number in signals.try_iter().map_err(|_| wrong(signals))? {
        let number = number?;
        read.push(known(
            signals.py(),
            number.extract::<c_int>().map_err(|_| wrong(&number))?,
        )?);
    }
    Ok(read)
}

fn known(py: Python<'_>, number: c_int) -> PyResult<Signal> {
    let known = Signal::ALL.into_iter().find(|known| known.number() == number);
    known.ok_or_else(|| {
        let all = "SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2";
        errors::invalid_argument(py, &format!("nothing can be bound to signal {number}, only to {all}"))
    })
}

/// From now on one of these signals cancels the token.
pub(crate) fn cancel_on(py: Python<'_>, token: &CancellationToken, signals: &[Signal]) -> PyResult<()> {
    chained(py, signals, || token.cancel_on(signals))
}

// ---- a pool's binding ----

struct OnSignal {
    signals: Vec<Signal>,
    until: ShutdownOnSignal,
}

/// What a pool is bound to. Its lock is a leaf, and not touched in a forked child.
#[derive(Default)]
pub(crate) struct Binding(Mutex<Option<Arc<OnSignal>>>);

impl Binding {
    fn lock(&self) -> MutexGuard<'_, Option<Arc<OnSignal>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Binds the pool to these signals instead of those before. A new binding is there before the old one goes.
    pub(crate) fn bind(
        &self,
        py: Python<'_>,
        pool: &duly::Pool,
        signals: Vec<Signal>,
        grace: Duration,
    ) -> PyResult<()> {
        let fresh = if signals.is_empty() {
            None
        } else {
            let until = chained(py, &signals, || pool.shut_down_on(&signals, grace))?;
            Some(Arc::new(OnSignal { signals, until }))
        };
        let old = std::mem::replace(&mut *self.lock(), fresh);
        drop(old);
        Ok(())
    }

    /// The number of the signal that came first.
    pub(crate) fn received(&self) -> Option<i32> {
        self.lock().as_ref().and_then(|bound| bound.until.received())
    }

    /// Waits for the end of the pool; None: the wait timed out.
    pub(crate) fn wait(
        &self,
        py: Python<'_>,
        pool: &duly::Pool,
        limit: Option<Duration>,
    ) -> PyResult<Option<duly::ShutdownReport>> {
        let Some(bound) = self.lock().clone() else {
            let text = format!(
                "pool {:?} is not bound to signals: shutdown_on(...) does that",
                pool.name()
            );
            return Err(errors::invalid_argument(py, &text));
        };
        chained(py, &bound.signals, || Ok(()))?;
        let ended: OnceLock<Result<Option<duly::ShutdownReport>, ShutdownError>> = OnceLock::new();
        wait::until(py, limit, |slice| match bound.until.wait_timeout(slice) {
            Ok(None) => false,
            answer => ended.set(answer).is_ok(),
        })?;
        match ended.into_inner() {
            Some(answer) => answer.map_err(|error| errors::shutdown(py, &error, pool.name())),
            None => Ok(None),
        }
    }
}

// ---- handlers beside each other ----

/// The address of core's handler, from when it was installed for the first time.
static CORE: AtomicUsize = AtomicUsize::new(0);

/// The address of the interpreter's handler, one for all signals. 0: not known.
static INTERPRETER: AtomicUsize = AtomicUsize::new(0);

/// Finds the interpreter's handler: on the main thread only, where `signal.signal` can be called.
fn find_interpreters(py: Python<'_>) -> PyResult<()> {
    if INTERPRETER.load(Ordering::Relaxed) != 0 {
        return Ok(());
    }
    let module = py.import("_signal")?;
    let (default, some) = (module.getattr("SIG_DFL")?, module.getattr("default_int_handler")?);
    // One that nobody uses, for a moment.
    for number in (libc::SIGRTMIN()..=libc::SIGRTMAX()).rev() {
        if !module.call_method1("getsignal", (number,))?.eq(&default)? {
            continue;
        }
        match module.call_method1("signal", (number, &some)) {
            Err(error) if error.is_instance_of::<PyValueError>(py) => return Ok(()),
            set => drop(set?),
        }
        let found = handled(number);
        // What another signal's handler raises, here, comes before anything is done.
        let undo = || module.call_method1("signal", (number, &default)).map(drop);
        if let Err(error) = undo() {
            undo()?;
            return Err(error);
        }
        INTERPRETER.store(found.map_or(0, |found| found.sa_sigaction), Ordering::Relaxed);
        return Ok(());
    }
    Ok(())
}

/// What the host does with a signal.
struct Host {
    /// The address of its handler. 0: it has none.
    handler: AtomicUsize,
    /// How system calls fare.
    flags: AtomicI32,
    /// Core's handler is there, and calls...
    installed: AtomicBool,
    /// ... `host`; otherwise it calls nobody, and `host` calls it.
    below: AtomicBool,
}

static HOSTS: [Host; Signal::ALL.len()] = [const {
    Host {
        handler: AtomicUsize::new(0),
        flags: AtomicI32::new(0),
        installed: AtomicBool::new(false),
        below: AtomicBool::new(false),
    }
}; Signal::ALL.len()];

/// What a handler is.
type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);

fn call(address: usize, signal: c_int, info: *mut libc::siginfo_t, data: *mut c_void) {
    let address = std::ptr::with_exposed_provenance::<c_void>(address);
    // SAFETY: the address of a handler, as sigaction gave it. The kernel, too, calls each with three arguments, also
    // those that take one.
    let handler = unsafe { std::mem::transmute::<*const c_void, Handler>(address) };
    handler(signal, info, data);
}

/// Calls the host's handler; and core's, if that does not call this one.
extern "C" fn host(signal: c_int, info: *mut libc::siginfo_t, data: *mut c_void) {
    let Some(host) = Signal::ALL
        .iter()
        .position(|known| known.number() == signal)
        .map(|index| &HOSTS[index])
    else {
        return;
    };
    let theirs = host.handler.load(Ordering::Acquire);
    if theirs != 0 {
        call(theirs, signal, info, data);
    }
    if host.installed.load(Ordering::Acquire) && !host.below.load(Ordering::Acquire) {
        call(CORE.load(Ordering::Acquire), signal, info, data);
    }
}

impl Host {
    /// Remembers what the host does now.
    fn note(&self, now: &libc::sigaction) {
        let nobody = matches!(now.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN);
        self.handler
            .store(if nobody { 0 } else { now.sa_sigaction }, Ordering::Release);
        // As the interpreter's own handlers, where there is none.
        let flags = if nobody { libc::SA_ONSTACK } else { now.sa_flags };
        self.flags
            .store(flags & (libc::SA_ONSTACK | libc::SA_RESTART), Ordering::Relaxed);
    }

    /// Before core is asked for its handler: it will call what it finds.
    fn before(&self, signal: Signal) -> io::Result<()> {
        if self.installed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let now = handled(signal.number())?;
        if now.sa_sigaction == ours() {
            return Ok(());
        }
        self.note(&now);
        // By default a signal ends the process. That is for core to see.
        let below = self.handler.load(Ordering::Relaxed) != 0;
        self.below.store(below, Ordering::Release);
        if below { self.install(signal, ours()) } else { Ok(()) }
    }

    /// Core's handler has been installed, at some time: it is the one that signals reach, and the host's with it.
    fn after(&self, signal: Signal) -> io::Result<()> {
        let now = handled(signal.number())?;
        let nobody = matches!(now.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN);
        if self.installed.load(Ordering::Relaxed) {
            if !nobody && now.sa_sigaction != INTERPRETER.load(Ordering::Relaxed) {
                return Ok(());
            }
            self.note(&now);
        } else if nobody || now.sa_sigaction == ours() {
            // Nothing was bound: a scope of the process that forked this one.
            return Ok(());
        } else {
            CORE.store(now.sa_sigaction, Ordering::Release);
            self.installed.store(true, Ordering::Release);
        }
        let core = CORE.load(Ordering::Relaxed);
        let calls = self.below.load(Ordering::Relaxed) || self.handler.load(Ordering::Relaxed) == 0;
        self.install(signal, if calls { core } else { ours() })
    }

    fn install(&self, signal: Signal, handler: usize) -> io::Result<()> {
        let mut new = handled(signal.number())?;
        new.sa_sigaction = handler;
        new.sa_flags = self.flags.load(Ordering::Relaxed) | libc::SA_SIGINFO;
        // SAFETY: a handler of three arguments, which may be called whenever a signal comes.
        match unsafe { libc::sigaction(signal.number(), &raw const new, std::ptr::null_mut()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

fn ours() -> usize {
    (host as Handler as *const c_void).expose_provenance()
}

/// What handles a signal now.
fn handled(signal: c_int) -> io::Result<libc::sigaction> {
    let mut now = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: asks only; `now` has room for the answer.
    match unsafe { libc::sigaction(signal, std::ptr::null(), now.as_mut_ptr()) } {
        // SAFETY: written by the call.
        0 => Ok(unsafe { now.assume_init() }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Has core bind something to signals; what the host does with them goes on (2, 3). Attached all the while (4).
fn chained<T>(py: Python<'_>, signals: &[Signal], bind: impl FnOnce() -> Result<T, SignalError>) -> PyResult<T> {
    let hosts = || {
        let index = |signal: &Signal| Signal::ALL.iter().position(|known| known == signal);
        signals
            .iter()
            .filter_map(move |signal| Some((*signal, &HOSTS[index(signal)?])))
    };
    let wrong = |error: SignalError| errors::signal(py, &error);
    let here = |signal| move |source| SignalError::Handler { signal, source };
    find_interpreters(py)?;
    for (signal, host) in hosts() {
        host.before(signal).map_err(here(signal)).map_err(wrong)?;
    }
    let bound = bind().map_err(wrong)?;
    for (signal, host) in hosts() {
        host.after(signal).map_err(here(signal)).map_err(wrong)?;
    }
    Ok(bound)
}
