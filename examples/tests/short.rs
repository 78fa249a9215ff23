//! Runs every short program of this folder: each checks what it shows, and exits with 0 within a minute.

use std::path::Path;
use std::process::Command;

/// Those that take files or minutes, and have tests of their own.
const OTHERS: [&str; 2] = ["checksum", "survival"];

#[test]
fn every_short_example_ends_well() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Cargo builds the examples of a package before it runs its tests, beside them.
    let programs = std::env::current_exe()
        .expect("this program")
        .with_file_name("../examples");
    let mut seen = 0;
    for file in here.read_dir().expect("this folder").flatten() {
        let path = file.path();
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        if path.extension().is_none_or(|kind| kind != "rs") || OTHERS.contains(&name) {
            continue;
        }
        let output = Command::new("timeout").arg("60").arg(programs.join(name)).output();
        let output = output.expect("timeout, of coreutils");
        assert!(
            output.status.success(),
            "{name}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        seen += 1;
    }
    assert!(seen >= 2, "only {seen} were found");
}
