//! The feature `tracing`: a callback's events are in the span of its submitter, and go to the submitter's subscriber.

mod support;

use duly::{Pool, Tracing};
use std::fmt::Write;
use std::sync::{Arc, Mutex};
use support::*;
use tracing::{info, info_span, subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};

/// Keeps each event, with the spans it is in.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber + for<'s> LookupSpan<'s>> Layer<S> for Kept {
    fn on_event(&self, event: &tracing::Event<'_>, ctx: Context<'_, S>) {
        let mut line = String::new();
        for span in ctx.event_scope(event).into_iter().flatten() {
            write!(line, "{} < ", span.name()).unwrap();
        }
        let mut visit = |_: &tracing::field::Field, value: &dyn std::fmt::Debug| write!(line, "{value:?}").unwrap();
        event.record(&mut visit);
        self.0.lock().unwrap().push(line);
    }
}

impl Kept {
    fn subscriber(&self) -> impl tracing::Subscriber + Send + Sync + use<> {
        Registry::default().with(self.clone())
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

#[test]
fn p13_events_are_in_the_span_of_the_submitter() {
    let pool = Pool::builder().workers(1).context(Tracing).build().unwrap();
    let (kept, others) = (Kept::default(), Kept::default());
    let request = subscriber::with_default(kept.subscriber(), || {
        let request = info_span!("request");
        let handled = request.in_scope(|| {
            let task = pool.submit(|ctx| {
                info!("outer");
                let inner = info_span!("step").in_scope(|| ctx.pool().spawn(|| info!("inner")).unwrap());
                Ok::<_, ()>(inner)
            });
            task.unwrap().wait().unwrap()
        });
        handled.wait().unwrap();
        // Outside of the span: nothing of it is left on the worker.
        pool.spawn(|| info!("outside")).unwrap().wait().unwrap();
        request
    });
    assert_eq!(kept.take(), ["request < outer", "step < request < inner", "outside"]);
    // Another subscriber, another thread's: its events go there.
    subscriber::with_default(others.subscriber(), || {
        pool.spawn(|| info!("theirs")).unwrap().wait().unwrap();
    });
    // Nobody listens here.
    pool.spawn(|| info!("lost")).unwrap().wait().unwrap();
    assert_eq!((kept.take(), others.take()), (vec![], vec!["theirs".to_owned()]));
    drop(request);
    end(&pool);
}

#[test]
fn p06_the_span_closes_when_the_callback_is_gone_also_unrun() {
    struct Closed(Arc<Mutex<usize>>);
    impl<S: tracing::Subscriber + for<'s> LookupSpan<'s>> Layer<S> for Closed {
        fn on_close(&self, _: tracing::Id, _: Context<'_, S>) {
            *self.0.lock().unwrap() += 1;
        }
    }
    let closed = Arc::new(Mutex::new(0));
    let (pool, gate, _stuck) = stuck_pool(Pool::builder().context(Tracing), 1);
    let task = subscriber::with_default(Registry::default().with(Closed(closed.clone())), || {
        let _request = info_span!("request").entered();
        pool.spawn(|| ()).unwrap()
    });
    assert_eq!(*closed.lock().unwrap(), 0);
    assert!(task.cancel() && task.released(LONG));
    assert_eq!(*closed.lock().unwrap(), 1);
    gate.open();
    end(&pool);
}
