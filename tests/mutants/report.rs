//! What the run prints in the end: a table, and the figure that a verification collects.

use crate::table::Mutant;
use crate::trial::Trial;
use comfy_table::{Cell, ContentArrangement, Table, presets};

/// The longest line of a failure that the table shows.
const LINE: usize = 90;

/// Name, promise and sentence of each.
pub(crate) fn list(mutants: &[Mutant]) {
    let mut table = markdown(["mutant", "promise", "what it breaks", "caught by"]);
    for mutant in mutants {
        table.add_row([&mutant.name, &mutant.promise, &mutant.breaks, &by(mutant)]);
    }
    println!("{table}\n{} mutants", mutants.len());
}

/// What an earlier run has caught.
#[derive(Default)]
pub(crate) struct Before {
    pub(crate) caught: usize,
    pub(crate) commit: String,
}

/// The table, what is wrong, and the sum.
pub(crate) fn print(trials: &[Trial], before: &Before) {
    let mut table = markdown(["mutant", "promise", "caught by", "how", "seconds"]);
    for trial in trials {
        table.add_row([
            Cell::new(&trial.mutant.name),
            Cell::new(&trial.mutant.promise),
            Cell::new(by(&trial.mutant)),
            Cell::new(short(&trial.verdict.line())),
            Cell::new(format!("{:.1}", trial.took.as_secs_f64())),
        ]);
    }
    println!("\n{table}");
    for trial in trials.iter().filter(|trial| !trial.verdict.is_caught()) {
        println!(
            "{}: {} ({})",
            trial.mutant.name,
            trial.verdict.line(),
            trial.mutant.breaks
        );
    }
    let caught = trials.iter().filter(|trial| trial.verdict.is_caught()).count();
    let (caught, all) = (caught + before.caught, trials.len() + before.caught);
    println!("figure: mutants = {caught} of {all} caught");
    if before.caught > 0 {
        println!(
            "figure: mutants caught in an earlier run = {}, at {}",
            before.caught, before.commit
        );
    }
}

fn markdown<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::ASCII_MARKDOWN)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header);
    table
}

fn by(mutant: &Mutant) -> String {
    let test = &mutant.caught_by;
    match &test.cfg {
        Some(cfg) => format!("{} ({}, {cfg})", test.test, test.target),
        None => format!("{} ({})", test.test, test.target),
    }
}

/// In one cell: no bars, and not without end.
fn short(line: &str) -> String {
    let line = line.replace('|', "/");
    match line.char_indices().nth(LINE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
