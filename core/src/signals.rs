//! Signals of the process: they shut pools down and cancel tokens.
//!
//! ```text
//! handler --a byte, the signal's number--> pipe --> duly-signals --> begin the drain, cancel the token
//! ```
//!
//! Invariants:
//! 1. The handler runs beside those that the host had: signal-hook calls them first. It writes a byte and does nothing
//!    else, and not even that in a forked child, where the pipe is the parent's.
//! 2. The thread, the pipe and the handlers are there while somebody is registered: the thread ends when the last end to
//!    write to is closed, which the last handler owns. Both ends close on exec.
//! 3. A signal that did what it does by default before the first was registered does so again when nobody is registered
//!    for it any more, and in a forked child.
//! 4. In a forked child there is another hub, and nobody is registered.
//! 5. Where the host had a handler, system calls are interrupted, or not, as by that alone, and the signals that it blocks
//!    while it runs are blocked; and whoever brings a stack for handlers, as Go's threads do, has them run on it.
//!
//! Lock order: the hub's lock is a leaf. What a signal does is done after it is let go.

use crate::cancel::{CancellationToken, WeakToken};
use crate::clock;
use crate::error::{CancelReason, ShutdownError};
use crate::fork::{self, Renewed, renewed};
use crate::pool::{Pool, Shutdown};
use crate::report::ShutdownReport;
use crate::shared::Shared;
use crate::slot::say;
use crate::sync::{Arc, AtomicBool, AtomicU32, Mutex, Ordering, array, global, thread};
use signal_hook::SigId;
use signal_hook::low_level;
use slab::Slab;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// A signal that asks a process to end, or to do something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Signal {
    /// `SIGTERM`: end.
    Terminate,
    /// `SIGINT`: Ctrl-C.
    Interrupt,
    /// `SIGHUP`: the terminal is gone.
    Hangup,
    /// `SIGQUIT`: Ctrl-\.
    Quit,
    /// `SIGUSR1`.
    User1,
    /// `SIGUSR2`.
    User2,
}

impl Signal {
    /// All that something can be bound to.
    pub const ALL: [Signal; 6] = [
        Signal::Terminate,
        Signal::Interrupt,
        Signal::Hangup,
        Signal::Quit,
        Signal::User1,
        Signal::User2,
    ];

    /// The system's number for it.
    pub const fn number(self) -> i32 {
        match self {
            Signal::Terminate => libc::SIGTERM,
            Signal::Interrupt => libc::SIGINT,
            Signal::Hangup => libc::SIGHUP,
            Signal::Quit => libc::SIGQUIT,
            Signal::User1 => libc::SIGUSR1,
            Signal::User2 => libc::SIGUSR2,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(low_level::signal_name(self.number()).unwrap_or("a signal"))
    }
}

/// Why nothing was bound to signals.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignalError {
    /// No signal was named.
    #[error("no signal was named: name at least one, e.g. Signal::Terminate")]
    NoSignal,
    /// The pool is of the process that forked this one.
    #[error("the pool was inherited through fork, and is shut down: bind a pool of this process")]
    ShutDown,
    /// The handler could not be installed.
    #[error("no handler for {signal} could be installed: {source}")]
    Handler {
        /// Of this signal.
        signal: Signal,
        /// What the system says.
        source: std::io::Error,
    },
    /// The thread that listens, or its pipe, could not be created.
    #[error("the thread that listens to signals, or its pipe, could not be created: {0}")]
    Thread(#[source] std::io::Error),
}

/// Kept of the grace for callbacks that return promptly when they are abandoned, and for the threads' ends.
const KEPT: Duration = Duration::from_millis(50);

// ---- who is registered ----

global! {
    static HUB: Renewed<Mutex<Hub>> = renewed!(Mutex::new(Hub {
        registered: Slab::new(),
        handlers: [const { Handler { users: 0, id: None } }; Signal::ALL.len()],
        pipe: None,
    }));
    /// For each signal the process in which somebody is registered for it. Told by its number: a signal may reach a forked
    /// child before the handler does that counts generations.
    static WANTED: [AtomicU32; Signal::ALL.len()] = array![AtomicU32::new(0); Signal::ALL.len()];
    /// Whether invariant 3 has a handler.
    static BY_DEFAULT: [AtomicBool; Signal::ALL.len()] = array![AtomicBool::new(false); Signal::ALL.len()];
}

struct Hub {
    registered: Slab<Entry>,
    handlers: [Handler; Signal::ALL.len()],
    /// To write to; the thread lives as long as it is open.
    pipe: Option<Arc<OwnedFd>>,
}

struct Entry {
    signals: Vec<Signal>,
    target: Target,
}

struct Handler {
    users: usize,
    id: Option<SigId>,
}

#[derive(Clone)]
enum Target {
    Pool(Arc<Bound>),
    Token(WeakToken),
}

/// A pool that signals shut down.
struct Bound {
    shared: Arc<Shared>,
    grace: Duration,
    /// The signal that came first.
    first: AtomicU32,
    /// When it came.
    began: crate::sync::AtomicU64,
}

/// Somebody's place in the hub.
struct Registration {
    key: usize,
    born: u32,
}

impl Registration {
    fn new(signals: &[Signal], target: Target) -> Result<Registration, SignalError> {
        fork::watch();
        if signals.is_empty() {
            return Err(SignalError::NoSignal);
        }
        let mut signals = signals.to_vec();
        signals.sort_by_key(|signal| *signal as usize);
        signals.dedup();
        let mut hub = HUB.get().lock();
        let pipe = match &hub.pipe {
            Some(pipe) => pipe.clone(),
            None => start().map_err(SignalError::Thread)?,
        };
        hub.pipe = Some(pipe.clone());
        let key = hub.registered.insert(Entry {
            signals: Vec::new(),
            target,
        });
        for signal in signals {
            let handler = &mut hub.handlers[signal as usize];
            let added = if handler.users == 0 {
                handle(signal, &pipe).map(|id| handler.id = Some(id))
            } else {
                Ok(())
            };
            if let Err(source) = added {
                WANTED[signal as usize].store(0, Ordering::Relaxed);
                hub.remove(key);
                return Err(SignalError::Handler { signal, source });
            }
            handler.users += 1;
            hub.registered[key].signals.push(signal);
        }
        Ok(Registration {
            key,
            born: fork::generation(),
        })
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // In a forked child there is nothing to be undone.
        if self.born == fork::generation() {
            let gone = HUB.get().lock().remove(self.key);
            drop(gone);
        }
    }
}

impl Hub {
    /// Takes somebody out. What it held is dropped by the caller, after the lock is let go.
    fn remove(&mut self, key: usize) -> (Entry, Option<Arc<OwnedFd>>) {
        let entry = self.registered.remove(key);
        for signal in &entry.signals {
            let handler = &mut self.handlers[*signal as usize];
            handler.users -= 1;
            if handler.users == 0 {
                // When this returns, the handler does not run and never will; its end of the pipe is closed.
                handler.id.take().map(low_level::unregister);
                // Only now: a signal whose byte has been read may still be on its way through the handlers.
                WANTED[*signal as usize].store(0, Ordering::Release);
            }
        }
        let pipe = if self.registered.is_empty() {
            self.pipe.take()
        } else {
            None
        };
        (entry, pipe)
    }
}

// ---- the handler ----

/// Has a signal written into the pipe.
fn handle(signal: Signal, pipe: &Arc<OwnedFd>) -> io::Result<SigId> {
    let here = this_process();
    let index = signal as usize;
    let host = action(signal)?;
    let was_default = host.sa_sigaction == libc::SIG_DFL;
    let pipe = pipe.clone();
    let write = move || {
        if this_process() == here {
            let byte = index as u8;
            // SAFETY: the descriptor is open as long as this closure lives. The pipe does not block; is it full, the thread
            // has many of the same to read. `errno` is put back by signal-hook.
            unsafe { libc::write(pipe.as_raw_fd(), (&raw const byte).cast(), 1) };
        }
    };
    WANTED[index].store(here, Ordering::Relaxed);
    // SAFETY: what the handler does is async-signal-safe: two system calls.
    let id = unsafe { low_level::register(signal.number(), write) }?;
    if let Err(error) = keep_manners(signal, &host) {
        low_level::unregister(id);
        return Err(error);
    }
    if was_default && !BY_DEFAULT[index].swap(true, Ordering::Relaxed) {
        let by_default = move || {
            if WANTED[index].load(Ordering::Relaxed) != this_process() {
                let _ = low_level::emulate_default_handler(signal.number());
            }
        };
        // SAFETY: async-signal-safe: loads of statics, and a function that is.
        if let Err(error) = unsafe { low_level::register(signal.number(), by_default) } {
            BY_DEFAULT[index].store(false, Ordering::Relaxed);
            low_level::unregister(id);
            return Err(error);
        }
    }
    Ok(id)
}

/// The number of this process.
fn this_process() -> u32 {
    // SAFETY: a system call that cannot fail.
    unsafe { libc::getpid() as u32 }
}

/// What is done with a signal now.
fn action(signal: Signal) -> io::Result<libc::sigaction> {
    let mut now = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: asks only; `now` has room for the answer.
    if unsafe { libc::sigaction(signal.number(), std::ptr::null(), now.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: written by the call.
    Ok(unsafe { now.assume_init() })
}

/// Invariant 5: signal-hook's handler, if it was just put before the host's, has system calls go on whatever that did.
fn keep_manners(signal: Signal, host: &libc::sigaction) -> io::Result<()> {
    let mut now = action(signal)?;
    if now.sa_sigaction == host.sa_sigaction {
        return Ok(());
    }
    now.sa_flags |= libc::SA_ONSTACK;
    if !matches!(host.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN) {
        now.sa_flags = now.sa_flags & !libc::SA_RESTART | host.sa_flags & libc::SA_RESTART;
        now.sa_mask = host.sa_mask;
    }
    // SAFETY: the handler that is there already.
    match unsafe { libc::sigaction(signal.number(), &raw const now, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

// ---- the thread ----

/// Makes the pipe, and the thread that reads from it.
fn start() -> io::Result<Arc<OwnedFd>> {
    let mut ends = [0; 2];
    // SAFETY: room for both ends.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both were just opened, and are nobody else's.
    let [read, write] = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
    // SAFETY: an open descriptor; flags of its own end only.
    if unsafe { libc::fcntl(write.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) } != 0 {
        return Err(io::Error::last_os_error());
    }
    thread::Builder::new()
        .name("duly-signals".into())
        .spawn(move || listen(File::from(read)))?;
    Ok(Arc::new(write))
}

/// Reads until the last end to write to is closed.
fn listen(mut pipe: File) {
    let mut bytes = [0; 64];
    #[cfg(feature = "systemd")]
    let mut watchdog = crate::systemd::Watchdog::new();
    loop {
        #[cfg(feature = "systemd")]
        if let Some(watchdog) = &mut watchdog
            && !readable(&pipe, watchdog.left())
        {
            watchdog.turn(&pools());
            continue;
        }
        match pipe.read(&mut bytes) {
            Ok(0) => return,
            Ok(count) => {
                for byte in &bytes[..count] {
                    if let Some(signal) = Signal::ALL.get(usize::from(*byte)) {
                        came(*signal);
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                say(
                    log::Level::Error,
                    format_args!("signals can not be read any more: {error}"),
                );
                return;
            }
        }
    }
}

/// Whether there is something to read before the time is up.
#[cfg(feature = "systemd")]
fn readable(pipe: &File, left: Duration) -> bool {
    let mut what = libc::pollfd {
        fd: pipe.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let millis = i32::try_from(left.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: one entry, which is valid for writes.
    unsafe { libc::poll(&mut what, 1, millis) > 0 }
}

/// The pools that are bound.
#[cfg(feature = "systemd")]
fn pools() -> Vec<Arc<Shared>> {
    let hub = HUB.get().lock();
    let pools = hub.registered.iter().filter_map(|(_, entry)| match &entry.target {
        Target::Pool(bound) => Some(bound.shared.clone()),
        Target::Token(_) => None,
    });
    pools.collect()
}

/// A signal has come.
fn came(signal: Signal) {
    let targets: Vec<Target> = {
        let hub = HUB.get().lock();
        let wants = |entry: &&Entry| entry.signals.contains(&signal);
        hub.registered
            .iter()
            .map(|(_, entry)| entry)
            .filter(wants)
            .map(|entry| entry.target.clone())
            .collect()
    };
    for target in targets {
        match target {
            Target::Token(token) => {
                if let Some(token) = token.upgrade() {
                    token.cancel_with(CancelReason::Signal(signal.number()));
                }
            }
            Target::Pool(bound) => bound.signalled(signal),
        }
    }
}

impl Bound {
    fn signalled(&self, signal: Signal) {
        let now = clock::now();
        let first = self
            .first
            .compare_exchange(0, signal.number() as u32, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok();
        if first {
            self.began.store(now, Ordering::Release);
            self.shared.begin_drain(clock::after(self.grace.saturating_sub(KEPT)));
            #[cfg(feature = "systemd")]
            crate::systemd::stopping();
        } else {
            self.shared.begin_drain(now);
        }
    }
}

// ---- the public face ----

impl Pool {
    /// The first of these signals that comes begins the drain, the next one abandons what is left: after the first, the pool
    /// has come to its end, and the process is ready to exit, within `grace`.
    ///
    /// Handlers that the host had still run, before; that a signal ends the process by default is held back while the
    /// binding lives, and comes back with its end. Several pools and tokens may be bound to the same signal. The binding
    /// does not keep the pool open.
    ///
    /// In a forked child nobody is bound: the signals do what they did before. Bind the child's own pools.
    ///
    /// # Errors
    /// No signal is named, the pool was inherited through a fork, or the system has no thread, descriptor or handler left.
    ///
    /// ```no_run
    /// use duly::Signal;
    /// use std::time::Duration;
    ///
    /// let pool = duly::Pool::new()?;
    /// let stop = pool.shut_down_on(&[Signal::Terminate, Signal::Interrupt], Duration::from_secs(30))?;
    /// // … serve …
    /// let report = stop.wait()?; // the pool's end, within 30 s of the signal
    /// println!("{report}");
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn shut_down_on(&self, signals: &[Signal], grace: Duration) -> Result<ShutdownOnSignal, SignalError> {
        if self.is_inherited() {
            return Err(SignalError::ShutDown);
        }
        let bound = Arc::new(Bound {
            shared: self.shared().clone(),
            grace,
            first: AtomicU32::new(0),
            began: crate::sync::AtomicU64::new(0),
        });
        let registration = Registration::new(signals, Target::Pool(bound.clone()))?;
        Ok(ShutdownOnSignal { bound, registration })
    }
}

/// A pool's binding to signals: see [`Pool::shut_down_on`]. Dropping it unbinds the pool; a drain that has begun goes on.
#[must_use = "the binding ends when this is dropped"]
pub struct ShutdownOnSignal {
    bound: Arc<Bound>,
    #[expect(dead_code, reason = "its end is the binding's")]
    registration: Registration,
}

impl ShutdownOnSignal {
    /// The number of the signal that came first, if one has come. Never blocks.
    pub fn received(&self) -> Option<i32> {
        match self.bound.first.load(Ordering::Acquire) {
            0 => None,
            number => Some(number as i32),
        }
    }

    /// Blocks until the pool has come to its end, by a signal or by another shutdown. From a callback of the pool it is an
    /// error.
    pub fn wait(&self) -> Result<ShutdownReport, ShutdownError> {
        match self.wait_until(clock::NEVER)? {
            Some(report) => Ok(report),
            None => unreachable!("a wait without end has ended"),
        }
    }

    /// [`wait`](Self::wait) for at most `timeout`. `None`: the pool goes on.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Option<ShutdownReport>, ShutdownError> {
        self.wait_until(clock::after(timeout))
    }

    fn wait_until(&self, until: u64) -> Result<Option<ShutdownReport>, ShutdownError> {
        let shared = &self.bound.shared;
        if !shared.is_inherited() && crate::context::inside(shared) {
            return Err(ShutdownError::FromWorker);
        }
        Ok(shared.wait_done_until(until).then(|| shared.report(self.began())))
    }

    /// Completes when the pool has come to its end, by a signal or by another shutdown.
    pub fn ended(&self) -> Shutdown {
        Shutdown::of(self.bound.shared.clone())
    }

    /// When the first signal came; now, if none has.
    fn began(&self) -> u64 {
        match self.bound.began.load(Ordering::Acquire) {
            0 => clock::now(),
            began => began,
        }
    }
}

impl fmt::Debug for ShutdownOnSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShutdownOnSignal")
            .field("pool", &self.bound.shared.config.name)
            .field("received", &self.received())
            .finish_non_exhaustive()
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if self.shared.is_inherited() {
            fork::keep(&self.shared);
        }
    }
}

impl CancellationToken {
    /// A token without parent that is cancelled, with reason [`Signal`](CancelReason::Signal), when one of these signals
    /// comes: a root to put everything under. While it or a child lives, the signals do not end the process; see
    /// [`Pool::shut_down_on`] for the rest.
    ///
    /// # Errors
    /// No signal is named, or the system has no thread, descriptor or handler left.
    pub fn cancelled_on(signals: &[Signal]) -> Result<CancellationToken, SignalError> {
        let token = CancellationToken::new();
        token.cancel_on(signals)?;
        Ok(token)
    }

    /// From now on one of these signals cancels this token, with reason [`Signal`](CancelReason::Signal), as long as it or a
    /// child lives: [`cancelled_on`](Self::cancelled_on) for a token that is there already. May be called several times.
    ///
    /// One of a process that forked this one is cancelled as it is, and nothing is bound.
    ///
    /// # Errors
    /// As [`cancelled_on`](Self::cancelled_on).
    pub fn cancel_on(&self, signals: &[Signal]) -> Result<(), SignalError> {
        if signals.is_empty() {
            return Err(SignalError::NoSignal);
        }
        if !self.is_of_this_process() {
            return Ok(());
        }
        self.hold(Box::new(Registration::new(signals, Target::Token(self.downgrade()))?));
        Ok(())
    }
}
