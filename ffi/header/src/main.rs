//! Writes the C header of the crate in the folder given first to the file given second. Called by ci/header.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(krate), Some(output), None) = (arguments.next(), arguments.next(), arguments.next()) else {
        eprintln!("usage: duly-header CRATE_FOLDER OUTPUT_FILE");
        return ExitCode::from(2);
    };
    let config = match cbindgen::Config::from_file(krate.join("cbindgen.toml")) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("duly-header: {error}");
            return ExitCode::FAILURE;
        }
    };
    match cbindgen::Builder::new()
        .with_crate(&krate)
        .with_config(config)
        .generate()
    {
        Ok(bindings) => {
            bindings.write_to_file(&output);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("duly-header: {error}");
            ExitCode::FAILURE
        }
    }
}
