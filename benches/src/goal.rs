//! What a goal says, as it stands in rows.toml: `FIGURE <= 75`, `FIGURE <= 0.45x PEER`, `FIGURE <= 1.2x PEER ROW`,
//! `FIGURE <= ROW + 15`.
//!
//! Kept true: a goal is printed in the words it was read from, so the file, the table and `list` agree.

use crate::peers::Peer;
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde::Deserialize;
use std::fmt;

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Goal {
    pub(crate) figure: String,
    pub(crate) limit: f64,
    pub(crate) against: Against,
    text: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Against {
    /// The figure is at most `limit`.
    Fixed,
    /// The figure is at most `limit` times that of this peer, in this row (`None`: in the goal's own row).
    Times(Peer, Option<String>),
    /// The figure is at most `limit` more than duly's own in this row.
    Plus(String),
}

impl TryFrom<String> for Goal {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        let (figure, bound) = text.split_once(" <= ").context("a goal is FIGURE <= BOUND")?;
        let words: Vec<&str> = bound.split_whitespace().collect();
        let peer = |name: &str| Peer::from_str(name, false).map_err(anyhow::Error::msg);
        let (limit, against) = match *words.as_slice() {
            [row, "+", more] => (more, Against::Plus(row.into())),
            [number] => (number, Against::Fixed),
            [factor, name] => (number_before_x(factor)?, Against::Times(peer(name)?, None)),
            [factor, name, row] => (number_before_x(factor)?, Against::Times(peer(name)?, Some(row.into()))),
            _ => bail!("\"{bound}\" is none of: 75, 0.45x PEER, 1.2x PEER ROW, ROW + 15"),
        };
        let limit = limit.parse().with_context(|| format!("{limit} is no number"))?;
        Ok(Self {
            figure: figure.into(),
            limit,
            against,
            text: format!("<= {bound}"),
        })
    }
}

fn number_before_x(factor: &str) -> Result<&str> {
    factor
        .strip_suffix('x')
        .with_context(|| format!("{factor} is not a factor, as 0.45x"))
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Goal> {
        text.to_owned().try_into()
    }

    #[test]
    fn the_four_forms() {
        let against = |text| read(text).map(|goal| (goal.limit, goal.against)).expect("a goal");
        assert_eq!(against("bytes <= 75"), (75.0, Against::Fixed));
        assert_eq!(against("ns <= 0.45x go"), (0.45, Against::Times(Peer::Go, None)));
        assert_eq!(
            against("ns <= 1.2x tokio-spawn W1"),
            (1.2, Against::Times(Peer::TokioSpawn, Some("W1".into())))
        );
        assert_eq!(against("ns <= W1 + 15"), (15.0, Against::Plus("W1".into())));
    }

    #[test]
    fn what_is_no_goal_is_refused() {
        for text in [
            "bytes < 75",
            "bytes <= ",
            "bytes <= 0.4 go",
            "bytes <= 0.4x nobody",
            "bytes <= x go",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
