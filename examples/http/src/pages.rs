//! Pages that are dear to make: kept for a while, and made once, however many ask meanwhile.
//!
//! Keeps true: at most [`MOST`] pages are kept; a client that leaves, or whose time is up, takes the making along only if it was
//! the last that waited.

use crate::answer::NoValue;
use crate::work;
use duly::{Interrupted, Pool, SingleFlight};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const KEPT_FOR: Duration = Duration::from_secs(60);
const MOST: usize = 1000;
/// How long the making of a page may take, whoever waits for it.
const MAKING: Duration = Duration::from_secs(10);

type Kept = HashMap<String, (Instant, Arc<str>)>;

#[derive(Clone)]
pub(crate) struct Pages {
    kept: Arc<Mutex<Kept>>,
    making: SingleFlight<String, Arc<str>, Interrupted>,
}

impl Pages {
    pub(crate) fn new(pool: &Pool) -> Self {
        Pages {
            kept: Arc::default(),
            making: SingleFlight::with(&pool.options().label("page").timeout(MAKING)),
        }
    }

    fn kept<R>(&self, look: impl FnOnce(&mut Kept) -> R) -> R {
        look(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) async fn get(&self, name: String, takes: Duration, timeout: Duration) -> Result<String, NoValue> {
        let kept = self.kept(|kept| kept.get(&name).filter(|(made, _)| made.elapsed() < KEPT_FOR).cloned());
        if let Some((_, page)) = kept {
            return Ok(page.to_string());
        }
        let own = name.clone();
        let page = self.making.call(name.clone()).timeout(timeout).run_async(move |ctx| {
            work::wait(ctx, takes)?;
            Ok(Arc::from(format!("<h1>{own}</h1>\n")))
        });
        let page = page.await?;
        self.kept(|kept| {
            if kept.len() >= MOST {
                kept.retain(|_, (made, _)| made.elapsed() < KEPT_FOR);
            }
            if kept.len() < MOST {
                kept.insert(name, (Instant::now(), page.clone()));
            }
        });
        Ok(page.to_string())
    }
}
