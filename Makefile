# The front door: each target is one line that calls a script in ci/, and continuous integration calls the same scripts.
.DEFAULT_GOAL := help
.PHONY: help demo test lint verify bench docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## the main job on real files: one checksum program in Rust, C and Python, compared with each other and with sha256sum
	@ci/demo

test: ## install what the tests need and run them all; the last line is "N passed, N failed"
	@ci/test

lint: ## rustfmt, clippy, ruff, header drift, layers of core, documentation, paths
	@ci/lint

verify: ## models, sanitizers, delays and mutants in full (about an hour); writes docs/verification.md
	@ci/verify

bench: ## duly beside its peers in Rust, Go, C and C++: which goals are met, tables and plots in target/bench (QUICK=1: a first look)
	@ci/bench

docs: ## the Rust API documentation, in target/doc
	@ci/docs

clean: ## remove everything that was built or installed into this folder
	@ci/clean
