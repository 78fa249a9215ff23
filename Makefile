# The front door: each target is one line that calls a script in ci/, and continuous integration calls the same scripts.
.DEFAULT_GOAL := help
.PHONY: help demo test lint verify bench docs install uninstall dist wheel clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## the main job on real files: one checksum program in Rust, C and Python, compared with each other and with sha256sum
	@ci/demo

test: ## install what the tests need and run them all; the last line is "N passed, N failed"
	@ci/test

lint: ## rustfmt, clippy, ruff, header drift, layers of core, documentation, paths
	@ci/lint

verify: ## models, sanitizers, delays and mutants in full (about two hours, one of them the fuzzer); writes docs/verification.md
	@ci/verify

bench: ## duly beside its peers in Rust, Go, C, C++ and Python: which goals are met, tables and plots in target/bench (QUICK=1: a first look)
	@ci/bench
	@ci/bench-python

docs: ## the Rust API documentation, in target/doc
	@ci/docs

export PREFIX LIBDIR INCLUDEDIR DOCDIR DESTDIR
install: ## build libduly for release and install it for C and C++ (PREFIX=/usr/local, DESTDIR=, LIBDIR=, INCLUDEDIR=, DOCDIR=)
	@ci/install

uninstall: ## remove what make install with the same variables has installed
	@ci/install --uninstall

dist: ## a tarball in dist/ that C and C++ programs use without Rust: libraries, headers, pkg-config, CMake, documentation
	@ci/dist

wheel: ## the Python wheels and the source distribution, in dist/
	@ci/wheel

clean: ## remove everything that was built or installed into this folder
	@ci/clean
