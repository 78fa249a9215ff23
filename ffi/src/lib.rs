//! The C ABI of duly. `include/duly.h` is generated from this crate and is the manual; the conventions stand at its top.
//!
//! What every function here keeps true:
//! 1. No unwinding leaves it: its body runs inside `boundary`.
//! 2. A pointer is used only after `handle::borrow` or a null check; a handle of another copy of the library is refused.
//! 3. Outputs are written only when the status is OK, and last.
//! 4. User code (run, drop) is called with no lock of this crate held.
//! 5. Nothing is kept per thread: there is no "last error".
//!
//! One file a C type: `pool`, `task`, `call`, `report`, `stats`, `options`, `status`; `handle`, `boundary`, `foreign` and
//! `text` are the machinery under them.
#![expect(non_camel_case_types, reason = "the names are those of the C header")]
#![expect(
    clippy::missing_safety_doc,
    reason = "each function's Ownership and Thread-safety lines, which become the header, say what the caller owes"
)]

// The machinery.
mod boundary;
mod foreign;
mod handle;
mod text;

// One file a C type, in the order in which the header tells of them.
mod version;

mod status;

mod options;

mod pool;

mod task;

mod call;

mod stats;

mod report;

pub use call::*;
pub use foreign::{duly_drop_fn, duly_run_fn};
pub use options::*;
pub use pool::*;
pub use report::*;
pub use stats::*;
pub use status::*;
pub use task::*;
pub use version::*;
