//! Keeps true: the module exports PyInit__duly and nothing else, whatever static libraries it is linked with (zig, which
//! links the wheels, does not know the option; there ci/test-wheels looks into what came out); and it calls the interpreter
//! by way of src/unwind.rs and src/states.rs, where these have a function for it.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/unwind.rs");
    println!("cargo:rerun-if-env-changed=ZIG_COMMAND");
    if std::env::var_os("ZIG_COMMAND").is_none() {
        println!("cargo:rustc-cdylib-link-arg=-Wl,--exclude-libs,ALL");
    }
    let source = std::fs::read_to_string("src/unwind.rs").expect("src/unwind.rs is beside build.rs");
    let between = source
        .split("\nparks! {\n")
        .nth(1)
        .and_then(|rest| rest.split("\n}\n").next());
    let listed = between.expect("src/unwind.rs has a list").lines();
    let names = listed.map(|line| line.trim().split('(').next().expect("a name"));
    for name in names.chain(["PyObject_CallMethodObjArgs", "PyGILState_Ensure", "PyGILState_Release"]) {
        println!("cargo:rustc-cdylib-link-arg=-Wl,--wrap={name}");
    }
}
