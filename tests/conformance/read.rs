//! Reads the table: TOML in, typed cases out.
//!
//! Keeps true: what is not in the format is an error that names the case and the step; nothing is ignored.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use crate::table::{Act, COUNTERS, Case, Common, Step};

/// The fields that every step may have.
const COMMON_FIELDS: [&str; 6] = ["at_least_ms", "at_most_ms", "since", "times", "thread", "child"];

/// The fields that belong to a callback, wherever they stand.
const CALLBACK_FIELDS: [&str; 10] = [
    "run",
    "value",
    "code",
    "message",
    "ms",
    "gate",
    "inner",
    "inner_run",
    "inner_detached",
    "target",
];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    case: Vec<RawCase>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCase {
    name: String,
    why: String,
    needs: Vec<String>,
    pool: Option<Table>,
    steps: Vec<Table>,
    fails_at: Option<usize>,
}

/// The words of `needs`, and what each language lacks: word and reason.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Verbs {
    pub(crate) verbs: BTreeMap<String, String>,
    pub(crate) rust: BTreeMap<String, String>,
    pub(crate) c: BTreeMap<String, String>,
    pub(crate) cpp: BTreeMap<String, String>,
    pub(crate) python: BTreeMap<String, String>,
    pub(crate) go: BTreeMap<String, String>,
}

impl Verbs {
    pub(crate) fn read(path: &Path) -> Result<Verbs, String> {
        let verbs: Verbs = toml::from_str(&text(path)?).map_err(|e| format!("{}: {e}", path.display()))?;
        let languages = [
            ("rust", &verbs.rust),
            ("c", &verbs.c),
            ("cpp", &verbs.cpp),
            ("python", &verbs.python),
            ("go", &verbs.go),
        ];
        for (language, lacks) in languages {
            for (word, reason) in lacks {
                if !verbs.verbs.contains_key(word) {
                    return Err(format!(
                        "verbs.toml: [{language}] lacks {word:?}, which is no word of [verbs]"
                    ));
                }
                if reason.is_empty() {
                    return Err(format!("verbs.toml: [{language}] {word}: the reason is missing"));
                }
            }
        }
        Ok(verbs)
    }
}

fn text(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

/// All cases of a folder, by file name.
pub(crate) fn read_folder(folder: &Path) -> Result<Vec<Case>, String> {
    let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries
        .map(|entry| {
            entry
                .map(|entry| entry.path())
                .map_err(|e| format!("{}: {e}", folder.display()))
        })
        .collect::<Result<_, _>>()?;
    files.sort();
    let mut cases = Vec::new();
    for file in files
        .iter()
        .filter(|file| file.extension().is_some_and(|ext| ext == "toml"))
    {
        cases.extend(read_file(file)?);
    }
    Ok(cases)
}

/// The cases of one file.
pub(crate) fn read_file(path: &Path) -> Result<Vec<Case>, String> {
    parse(&text(path)?).map_err(|e| format!("{}: {e}", path.display()))
}

/// The cases of one file's text.
pub(crate) fn parse(text: &str) -> Result<Vec<Case>, String> {
    let file: RawFile = toml::from_str(text).map_err(|e| e.to_string())?;
    file.case.into_iter().map(case).collect()
}

fn case(raw: RawCase) -> Result<Case, String> {
    let at = |place: String| format!("case {:?}, {place}", raw.name);
    let promise = raw
        .name
        .strip_prefix('p')
        .and_then(|rest| rest.split_once('_'))
        .map_or("", |(number, _)| number);
    if promise.len() != 2 || !promise.bytes().all(|b| b.is_ascii_digit()) {
        return Err(at("name: it starts with its promise, as p02_".to_owned()));
    }
    if raw.why.is_empty() {
        return Err(at("why: it is empty".to_owned()));
    }
    if !raw.needs.is_sorted_by(|a, b| a < b) {
        return Err(at("needs: not sorted, or a word stands twice".to_owned()));
    }
    let mut steps = Vec::new();
    if let Some(mut pool) = raw.pool {
        if pool.contains_key("do") || pool.contains_key("pool") || pool.contains_key("expect") {
            return Err(at("pool: the set-up holds options only".to_owned()));
        }
        pool.insert("do".to_owned(), Value::String("pool".to_owned()));
        steps.push(step(pool).map_err(|e| at(format!("pool: {e}")))?);
    }
    let set_up = steps.len();
    for (index, table) in raw.steps.into_iter().enumerate() {
        steps.push(step(table).map_err(|e| at(format!("step {}: {e}", index + 1)))?);
    }
    Ok(Case {
        name: raw.name,
        needs: raw.needs.into_iter().collect(),
        steps,
        set_up,
        fails_at: raw.fails_at,
    })
}

/// Moves the fields in `names` from one table to a new one.
fn split(table: &mut Table, names: &[&str]) -> Table {
    names.iter().filter_map(|name| table.remove_entry(*name)).collect()
}

fn typed<'de, T: Deserialize<'de>>(table: Table) -> Result<T, String> {
    Value::Table(table)
        .try_into()
        .map_err(|e: toml::de::Error| e.message().to_owned())
}

fn step(mut table: Table) -> Result<Step, String> {
    if let Some((name, _)) = table.iter().find(|(_, value)| !flat(value)) {
        return Err(format!(
            "{name}: only texts, integers, booleans and arrays of texts stand in a step"
        ));
    }
    let common: Common = typed(split(&mut table, &COMMON_FIELDS))?;
    let what = table.get("do").and_then(Value::as_str).unwrap_or_default().to_owned();
    let submits = matches!(
        &*what,
        "submit" | "try_submit" | "submit_async" | "run" | "every" | "call"
    );
    let callback = submits
        .then(|| typed(split(&mut table, &CALLBACK_FIELDS)))
        .transpose()?;
    let counters = match &*what {
        "stats" => typed(split(&mut table, &COUNTERS))?,
        "shutdown" => typed(split(
            &mut table,
            &COUNTERS.map(|name| if name == "abandoned" { "" } else { name }),
        ))?,
        _ => BTreeMap::new(),
    };
    let act: Act = typed(table)?;
    if matches!(act, Act::Join {}) && common.thread.is_none() == common.child.is_none() {
        return Err("join: of either a thread or a child".to_owned());
    }
    if common.child.is_some() && common.thread.is_some() {
        return Err("a child has no threads for its steps".to_owned());
    }
    let in_child = matches!(
        act,
        Act::Fork {} | Act::ShutDownOn(_) | Act::CancelOn(_) | Act::Raise { .. }
    );
    if in_child && common.child.is_none() {
        return Err("child is missing: signals reach the whole process, so they are raised in a child".to_owned());
    }
    if matches!(act, Act::Stats(_)) && counters.is_empty() {
        return Err("stats: no counter is expected".to_owned());
    }
    Ok(Step {
        common,
        act,
        callback,
        counters,
    })
}

fn flat(value: &Value) -> bool {
    match value {
        Value::String(_) | Value::Integer(_) | Value::Boolean(_) => true,
        Value::Array(texts) => texts.iter().all(|text| text.is_str()),
        _ => false,
    }
}
