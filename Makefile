# What one does with this repository. `make` alone lists it.
#
# A fresh machine needs Rust (with clippy, rustfmt and cargo-nextest), a C
# compiler, make, and python3 with pip; everything else is fetched into .tools/
# and target/, which git ignores.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo build test test-long test-all power sim judge fuzz hostile chaos verify fix bench nats counterparts fault-tools debian fmt-check clippy docs clean-tools

CARGO ?= cargo
FETCH := deploy/nats/fetch-nats-server.py
FETCH_COUNTERPARTS := deploy/counterparts/fetch-counterparts.py
# Set only for commands that need it, so that `make help` fetches nothing.
WITH_NATS = FLOTILLA_NATS_SERVER="$$($(FETCH))"
# The MQTT broker and the Modbus and MQTT devices that the connectors are tested against.
WITH_COUNTERPARTS = env $$($(FETCH_COUNTERPARTS))
# What breaks networks, clocks and disks; what can't be had is said, and its tests are not run.
FETCH_FAULT_TOOLS := deploy/faults/fetch-fault-tools.py
WITH_FAULTS = env $$($(FETCH_FAULT_TOOLS))
# Which tests this machine could not run, and why: printed after all others.
NOT_RUN := $(CURDIR)/target/not-run.txt
# A guest kernel, etcd, Debian's nats-server. What can't be had is said, and its tests are not run.
FETCH_DEBIAN := deploy/counterparts/fetch-from-debian.py
WITH_DEBIAN = env $$($(FETCH_DEBIAN))

help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Unoptimised, because that builds three times faster and `make test` needs it too; what
# the tour measures is mostly disk and elections. `make bench` measures optimised programs.
demo: ## fetch, build, and a tour of a local site of three agents, with what it measured
	$(CARGO) build --workspace --bins
	@if $(FETCH) --quiet; then \
	  hall="$$($(FETCH_COUNTERPARTS))" || { hall=""; \
	    echo "no mosquitto, paho-mqtt and pymodbus can be had here, so the tour goes without its hall of devices"; }; \
	  $(WITH_NATS) env $$hall python3 deploy/demo/tour.py --bin-dir target/debug; \
	else \
	  echo "no nats-server can be had here, so this is the tour of a site without NATS"; \
	  python3 deploy/demo/tour.py --bin-dir target/debug --no-nats; \
	fi

build: ## build the programs, unoptimised
	$(CARGO) build --workspace --bins

# Also when a test fails, what was not run is said.
define run-tests
@rm -f $(NOT_RUN)
$(WITH_NATS) $(WITH_COUNTERPARTS) $(WITH_FAULTS) $(WITH_DEBIAN) FLOTILLA_NOT_RUN=$(NOT_RUN) \
  $(CARGO) nextest run $(1) || { $(say-not-run); exit 1; }
endef
say-not-run = if [ -s $(NOT_RUN) ]; then sort -u $(NOT_RUN); echo "$$(sort -u $(NOT_RUN) | wc -l) not run here"; fi

test: nats counterparts fault-tools debian ## every test that fits in fifteen minutes on two cores
	$(CARGO) build --workspace --all-targets
	$(CARGO) test --quiet --workspace --doc
	$(call run-tests,--workspace)
	$(CARGO) nextest run --package fleet-sim --features seeded-bugs --test judge
	@$(say-not-run)

# What cuts power has a target of its own; what draws faults by chance, too.
LONG := package(flotilla-tests) and not binary(/^(power|chaos)/)

test-long: nats counterparts fault-tools debian ## the tests that take half a minute or more each
	$(CARGO) build --workspace --all-targets
	$(call run-tests,--workspace --profile all --run-ignored only -E '$(LONG)')
	@$(say-not-run)

test-all: nats counterparts fault-tools debian ## also the tests that take minutes each
	$(CARGO) build --workspace --all-targets
	$(CARGO) test --quiet --workspace --doc
	$(call run-tests,--workspace --profile all --run-ignored all)
	$(CARGO) nextest run --package fleet-sim --features seeded-bugs --test judge --profile all --run-ignored all
	@$(say-not-run)

# How often power is cut: make power CUTS=100. FLOTILLA_SEED=… makes the same choices again.
CUTS ?= 20

power: nats debian ## cut the power of a site, of etcd and of JetStream, and judge what each kept
	$(CARGO) build --workspace --bins
	@rm -f $(NOT_RUN)
	$(WITH_NATS) $(WITH_DEBIAN) FLOTILLA_POWER_CUTS=$(CUTS) FLOTILLA_NOT_RUN=$(NOT_RUN) FLOTILLA_MUST_RUN=1 $(CARGO) nextest run \
	  --package flotilla-tests --profile all --run-ignored all --no-capture -E 'binary(/^power/)'
	@$(say-not-run)

# Sealing is much of a simulated site's work; with all that the processor can it is inlined.
FOR_THIS_MACHINE := RUSTFLAGS="-C target-cpu=native"

# How many seeds, from which one on: make sim SEEDS=20000 SEED=0
SEEDS ?= 500
SEED ?= 0

sim: ## simulated sites under faults, 500 of them unless SEEDS says otherwise
	$(FOR_THIS_MACHINE) $(CARGO) run --quiet --profile sim --package fleet-sim -- --seed $(SEED) --seeds $(SEEDS)

# Which, how often and for how long: make judge JUDGE="--bug lease --rounds 3 --seeds 1000"
JUDGE ?=

judge: ## the judge judged: mistakes made on purpose, and which invariant finds each
	$(FOR_THIS_MACHINE) $(CARGO) run --quiet --profile sim --package fleet-sim --features seeded-bugs -- judge $(JUDGE)

# For each target; or of one: make fuzz TARGET=request SECONDS_EACH=600
SECONDS_EACH ?= 60

fuzz: ## mutated input for everything that reads foreign bytes, a minute for each target; then made-up raft messages
	$(CARGO) run --quiet --profile sim --package fleet-fuzz -- $(TARGET) --seconds $(SECONDS_EACH)
ifndef TARGET
	FLOTILLA_FUZZ_SECONDS=$(SECONDS_EACH) $(CARGO) test --quiet --package flotilla-agent --test foreign_text
	$(MAKE) hostile
endif

# How long, and what decides which faults come: make chaos CHAOS_SECONDS=3600 SEED=7
CHAOS_SECONDS ?= 600
CHAOS_REPORT := $(CURDIR)/target/chaos-$(SEED).txt

chaos: nats fault-tools debian ## real agents under faults drawn from a seed, ten minutes of it, judged like the simulator; then etcd and JetStream
	$(CARGO) build --workspace --bins
	$(WITH_NATS) $(WITH_FAULTS) $(WITH_DEBIAN) FLOTILLA_CHAOS_SECONDS=$(CHAOS_SECONDS) FLOTILLA_CHAOS_SEED=$(SEED) \
	  FLOTILLA_CHAOS_REPORT=$(CHAOS_REPORT) FLOTILLA_MUST_RUN=1 \
	  $(CARGO) test --package flotilla-tests --test chaos --test chaos_peers -- --ignored --nocapture --test-threads 1
	@echo "the reports: $(CHAOS_REPORT) and those beside it"

# How many, from which seed on: make hostile MESSAGES=100000000 SEED=0
MESSAGES ?= 1000000

hostile: ## made-up raft messages of authentic members, at the guard and a real replica behind it
	$(FOR_THIS_MACHINE) HOSTILE_MESSAGES=$(MESSAGES) HOSTILE_SEED=$(SEED) $(CARGO) test --quiet --profile sim --package fleet-consensus --test guard_fuzz hostile -- --ignored --nocapture

verify: fmt-check clippy docs test ## everything a change must pass; writes nothing to the sources

fmt-check:
	$(CARGO) fmt --all --check

clippy:
	$(CARGO) clippy --workspace --all-targets -- -D warnings

docs:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items

fix: ## format, and let clippy repair what it can
	$(CARGO) fmt --all
	$(CARGO) clippy --workspace --all-targets --fix --allow-dirty --allow-staged -- -D warnings
	$(CARGO) fmt --all

bench: nats ## writes per second and the longest gap on a local site, as JSON
	$(CARGO) build --release --workspace --bins
	$(WITH_NATS) deploy/bench/bench.sh target/release

nats: ## fetch the nats-server that tests and the demo use
	@$(FETCH) --quiet

counterparts: ## fetch and build what the connectors are tested against: mosquitto, pymodbus, paho-mqtt
	@$(FETCH_COUNTERPARTS) --quiet

fault-tools: ## fetch what breaks networks, clocks and disks: nft, libfaketime, strace
	@$(FETCH_FAULT_TOOLS) --quiet
debian: ## fetch a guest kernel, etcd and an older nats-server from Debian's packages, where there is apt
	@$(FETCH_DEBIAN) --quiet

clean-tools: ## forget what was fetched
	rm -rf .tools
