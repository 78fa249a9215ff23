//! The feature `tracing`: the span and the subscriber of the submitter are those of the callback.

use crate::carry::Carry;
use std::fmt;
use tracing::dispatcher::{self, DefaultGuard, Dispatch};
use tracing::span::EnteredSpan;
use tracing::{Span, subscriber::NoSubscriber};

/// Carries `tracing`'s current span and the subscriber that is the default of the submitting thread, so that a callback's
/// events are in the span it was submitted in: for [`PoolBuilder::context`](crate::PoolBuilder::context). With the
/// feature `tracing`.
///
/// The span stays open until the callback and its captured data are gone.
///
/// ```
/// let pool = duly::Pool::builder().workers(1).context(duly::Tracing).build()?;
/// let _request = tracing::info_span!("request", id = 7).entered();
/// pool.spawn(|| tracing::info!("this event is in the span"))?.wait()?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tracing;

/// What [`Tracing`] captures at submit.
#[derive(Debug)]
pub struct Traced {
    span: Span,
    dispatch: Dispatch,
}

/// Leaves the span, then the subscriber.
pub struct InTrace(
    EnteredSpan,
    #[expect(dead_code, reason = "held for its destructor")] DefaultGuard,
);

impl fmt::Debug for InTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("InTrace").field(&self.0).finish_non_exhaustive()
    }
}

impl Carry for Tracing {
    type Captured = Traced;
    type Entered = InTrace;

    fn capture(&self) -> Option<Traced> {
        let dispatch = dispatcher::get_default(Dispatch::clone);
        // Nobody listens.
        (!dispatch.is::<NoSubscriber>()).then(|| Traced {
            span: Span::current(),
            dispatch,
        })
    }

    fn enter(&self, captured: &Traced) -> InTrace {
        let subscriber = dispatcher::set_default(&captured.dispatch);
        InTrace(captured.span.clone().entered(), subscriber)
    }
}
