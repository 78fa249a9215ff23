//! The C ABI of duly. `include/duly.h` is generated from this crate and is the manual; the conventions stand at its top.
//!
//! What every function here keeps true:
//! 1. No unwinding leaves it: its body runs inside `boundary`.
//! 2. A pointer is used only after `handle::borrow` or a null check; a handle of another copy of the library is refused.
//! 3. Outputs are written only when the status is OK, and last.
//! 4. User code (run, drop) is called with no lock of this crate held.
//! 5. Nothing is kept per thread: there is no "last error".
//!
//! One file a C type: `pool`, `queue`, `task`, `periodic`, `token`, `group`, `stream`, `flight`, `completions`, `call`, `report`,
//! `leaks`, `stats`, `options`, `status`, `board`, `worker`; `submit` is the way from the first to the third, `room` that
//! way without a thread that waits, `wait` waits for several; `carry`, `hooks`, `log` and `signals` are what a host ties in; `handle`, `boundary`, `foreign`, `lazy`, `settled`,
//! `text` and `ticket` are the machinery under them.
#![expect(non_camel_case_types, reason = "the names are those of the C header")]
#![expect(
    clippy::missing_safety_doc,
    reason = "each function's Ownership and Thread-safety lines, which become the header, say what the caller owes"
)]

// The machinery.
mod boundary;
mod foreign;
mod handle;
mod lazy;
mod settled;
mod text;
mod ticket;

// One file a C type, in the order in which the header tells of them.
mod version;

mod status;

mod options;

mod pool;

mod submit;

mod room;

mod queue;

mod token;

mod completions;

mod task;

mod wait;

mod group;

mod stream;

mod flight;

mod call;

mod carry;

mod hooks;

mod periodic;

mod leaks;

mod signals;

mod log;
mod notices;

mod stats;

mod report;

mod board;

mod worker;

pub use board::*;
pub use call::*;
pub use carry::{duly_capture_fn, duly_enter_fn, duly_exit_fn, duly_release_fn};
pub use completions::*;
pub use flight::*;
pub use foreign::{duly_drop_fn, duly_outcome_fn, duly_run_fn};
pub use group::*;
pub use hooks::*;
pub use leaks::*;
pub use log::*;
pub use options::*;
pub use periodic::*;
pub use pool::*;
pub use queue::*;
pub use report::*;
pub use room::*;
pub use signals::*;
pub use stats::*;
pub use status::*;
pub use stream::*;
pub use submit::*;
pub use task::*;
pub use token::*;
pub use version::*;
pub use wait::*;
pub use worker::*;
