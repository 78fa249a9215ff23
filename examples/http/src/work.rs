//! What the service does: work that takes a while and looks now and then whether anybody still wants it.

use duly::{Context, Interrupted};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::time::Duration;

/// So many rounds of SHA-256, as a password hash would make them.
pub(crate) fn hash(context: &Context, text: &str, rounds: u32) -> Result<String, Interrupted> {
    let mut digest = Sha256::digest(text);
    for round in 0..rounds {
        if round % 1024 == 0 {
            context.check()?;
        }
        digest = Sha256::digest(digest);
    }
    Ok(digest.iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    }))
}

/// Stands for a call that blocks: a slow disk, a lock, another service.
pub(crate) fn wait(context: &Context, span: Duration) -> Result<String, Interrupted> {
    context.sleep(span)?;
    Ok("done".to_owned())
}
