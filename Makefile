# The one way in to building, checking and trying Muster; `make` alone lists the targets.
# Everything a target needs, it makes first; ARGS is handed on, as in: make test ARGS='-p schemas'

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
MAKEFLAGS += --no-builtin-rules --no-print-directory

ARGS ?=
OLD ?=
# A program that is compiled by itself and so is not seen by cargo.
WEB := tests/web/main.rs

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## install what is missing on this machine, and start the container engine (as root)
	@infra/setup.sh

.PHONY: images
images: setup ## make the images that tests and demo run
	@infra/image.sh

.PHONY: build
build: ## compile everything, for release
	cargo build --workspace --release

.PHONY: dist
dist: setup ## compile what is installed (target/dist/), the gateway by how it ran under load (as root; needs two cores)
	@infra/rivals.sh
	@infra/dist.sh

.PHONY: fmt
fmt: ## format the code
	cargo fmt --all
	rustfmt --edition 2024 $(WEB)

.PHONY: fmt-check
fmt-check:
	cargo fmt --all --check
	rustfmt --edition 2024 --check $(WEB)

.PHONY: lint
lint: ## let clippy read the code; a warning is an error
	cargo clippy --workspace --all-targets -- -D warnings
	@mkdir -p .tools
	clippy-driver --edition 2024 -D warnings --emit=metadata -o .tools/web.rmeta $(WEB)

.PHONY: doc
doc: ## build the API documentation; a warning is an error
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps

.PHONY: test
test: images ## run every test, and count them
	@infra/test.sh $(ARGS)

.PHONY: check
check: fmt-check lint doc test ## all that must hold before a commit: format, lint, documentation, tests

.PHONY: demo
demo: images ## see it at work: a cluster on this machine, failures included
	cargo build --workspace
	@infra/demo.sh $(ARGS)

.PHONY: bench
bench: images ## measure speed and size, each figure beside its yardstick; ARGS='--list' shows which
	cargo build --workspace --release
	@target/release/muster-bench $(ARGS)

.PHONY: bench-gateway
bench-gateway: setup ## measure the gateway beside HAProxy and nginx on one core (as root; needs two cores)
	@infra/rivals.sh
	@infra/dist.sh gateway
	@target/release/muster-bench --only gateway --gateway target/dist/muster-gateway $(ARGS)

.PHONY: torture
torture: images ## kill, cut power, fill disks (as root); ARGS='--list' shows which; OLD=COMMIT: upgrades from there too
	cargo build --workspace --release
	@[[ -z '$(OLD)' ]] || infra/older.sh '$(OLD)'
	@target/release/muster-torture $(if $(OLD),--old target/older/release) $(ARGS)

.PHONY: clean
clean: ## delete what cargo built (.tools/ stays)
	cargo clean
