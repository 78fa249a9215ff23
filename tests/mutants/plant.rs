//! Finding the one place of a mutant in its file.
//!
//! Keeps true: a text that is not there exactly once changes nothing. White space counts as white space, however much
//! of it, so that formatting code anew does not lose a mutant.

use crate::table::Mutant;
use anyhow::{Context, Result, bail};
use std::fs;
use std::ops::Range;
use std::path::Path;

/// The file of a mutant with the bug in it.
pub(crate) fn planted(root: &Path, mutant: &Mutant) -> Result<String> {
    let path = root.join(&mutant.file);
    let text = fs::read_to_string(&path).with_context(|| format!("{}: {}", mutant.name, mutant.file.display()))?;
    let place = place(&text, mutant).with_context(|| format!("{}, in {}", mutant.name, mutant.file.display()))?;
    Ok(format!(
        "{}{}{}",
        &text[..place.start],
        mutant.replace.trim(),
        &text[place.end..]
    ))
}

/// Whether it can be planted.
pub(crate) fn check(root: &Path, mutant: &Mutant) -> Result<()> {
    planted(root, mutant).map(drop)
}

fn place(text: &str, mutant: &Mutant) -> Result<Range<usize>> {
    let within = match &mutant.inside {
        Some(item) => item_of(text, once(text, item).context("`inside`")?),
        None => 0..text.len(),
    };
    let found = once(&text[within.clone()], &mutant.find).context("`find`")?;
    Ok(within.start + found.start..within.start + found.end)
}

fn once(text: &str, wanted: &str) -> Result<Range<usize>> {
    let places = places(text, wanted);
    match &places[..] {
        [place] => Ok(place.clone()),
        [] => bail!(
            "is not there: {:?}. The code has changed: adapt the entry, so that it breaks the same",
            wanted.trim()
        ),
        many => bail!(
            "is there {} times: {:?}. Say more of it, or where (`inside`)",
            many.len(),
            wanted.trim()
        ),
    }
}

/// Where `wanted` stands.
fn places(text: &str, wanted: &str) -> Vec<Range<usize>> {
    let words: Vec<_> = wanted.split_whitespace().collect();
    let Some(first) = words.first() else { return Vec::new() };
    text.match_indices(first)
        .filter_map(|(start, _)| {
            let mut rest = &text[start..];
            for (index, word) in words.iter().enumerate() {
                if index > 0 {
                    let trimmed = rest.trim_start();
                    if trimmed.len() == rest.len() {
                        return None;
                    }
                    rest = trimmed;
                }
                rest = rest.strip_prefix(word)?;
            }
            Some(start..text.len() - rest.len())
        })
        .collect()
}

/// The item that begins in the line of `head`: up to the first brace that stands alone below its first letter.
fn item_of(text: &str, head: Range<usize>) -> Range<usize> {
    let start = text[..head.start].rfind('\n').map_or(0, |at| at + 1);
    let line = &text[start..];
    let indent = &line[..line.len() - line.trim_start().len()];
    let close = format!("\n{indent}}}");
    let end = text[head.end..]
        .find(&close)
        .map_or(text.len(), |at| head.end + at + close.len());
    head.start..end
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "impl A {\n    fn one(&self) {\n        self.go(1);\n        stop();\n    }\n\n    fn two(&self) {\n        self.go(1);\n    }\n}\n";

    fn found(inside: Option<&str>, find: &str) -> Result<String> {
        let mutant = Mutant {
            inside: inside.map(str::to_owned),
            find: find.to_owned(),
            ..toml::from_str(
                "name = 'm'\npromise = 'P1'\nbreaks = 'x'\nfile = 'x'\nfind = ''\nreplace = ''\n\
                 caught_by = { target = 'lib', test = 't' }",
            )
            .unwrap()
        };
        place(TEXT, &mutant).map(|place| TEXT[place].to_owned())
    }

    #[test]
    fn finds_what_is_there_once_whatever_the_white_space() {
        assert_eq!(
            found(None, "self.go(1);\n  stop();").unwrap(),
            "self.go(1);\n        stop();"
        );
        assert!(
            found(None, "self.go(1);stop();").is_err(),
            "white space must be there where it is asked for"
        );
    }

    #[test]
    fn what_is_not_there_exactly_once_is_an_error() {
        let error = format!("{:#}", found(None, "self.go(1);").unwrap_err());
        assert!(error.contains("2 times"), "{error}");
        let error = format!("{:#}", found(None, "self.go(2);").unwrap_err());
        assert!(error.contains("is not there"), "{error}");
        assert!(found(Some("fn three"), "self.go(1);").is_err());
    }

    #[test]
    fn inside_looks_into_one_item_only() {
        assert_eq!(found(Some("fn two"), "self.go(1);").unwrap(), "self.go(1);");
        assert!(found(Some("fn two"), "stop();").is_err());
        assert!(found(Some("fn one"), "stop();").is_ok());
    }
}
