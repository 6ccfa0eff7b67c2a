# The commands of the project. `make demo` and `make test` are all a newcomer needs;
# both first install what is missing (packaging/setup.sh says what and why).

SHELL := /bin/bash
.DEFAULT_GOAL := build
.PHONY: build demo test test-long sim sim-bugs chaos soak upgrade bench lint check show

RUN := packaging/setup.sh run
OUT := $(or $(CARGO_TARGET_DIR),target)
RELEASE := $(abspath $(OUT)/release)
DEMO_DIR ?= $(or $(XDG_STATE_HOME),$(HOME)/.local/state)/strowger/demo

# The daemon and the command line, optimised.
build:
	@packaging/setup.sh build
	$(RUN) cargo build --locked --release -p strowger-node -p strowger

# Three nodes on this machine, phones that call each other, and the console.
demo: build
	$(OUT)/release/strowgerd demo --dir "$(DEMO_DIR)" $(DEMO_ARGS)

# Every test of every crate; ends with a count for each test program. One set of features
# for programs and tests, so that nothing is compiled twice.
test:
	@packaging/setup.sh test
	$(RUN) cargo build --locked --workspace --bins --tests
	$(RUN) cargo test --locked --workspace --no-fail-fast

# The tests that take minutes: full load, every node killed in turn, clean machine.
test-long:
	@packaging/setup.sh test
	$(RUN) cargo build --locked --release -p strowger-node -p strowger
	$(RUN) cargo test --locked --release -p strowger-core --test floor -- \
	    --ignored --nocapture
	$(RUN) cargo test --locked --release -p strowger-sim -- --ignored --nocapture
	STROWGER_BIN_DIR="$(RELEASE)" $(RUN) cargo test --locked --workspace \
	    --no-fail-fast -- --ignored --nocapture --test-threads=1 --skip a_fresh_clone --skip a_million \
	    --skip a_thousand_seeds --skip a_day_with_a_kill --skip bugs_put_back \
	    --skip under_many_faults --skip an_hour_of_kills --skip of_another_build \
	    --skip gigabytes_are_backed_up

# The exchange under simulated faults: SEEDS of them, or one SEED with the end of its trace.
# HOURS makes it a long run with a kill every five minutes.
SEEDS ?= 1000
sim:
	@packaging/setup.sh build
	$(RUN) cargo run --locked --release -p strowger-sim -- --seeds $(SEEDS) \
	    $(if $(SEED),--seed $(SEED)) $(if $(HOURS),--hours $(HOURS))

# Known bugs, put back into a copy of the sources, are found by the simulator.
sim-bugs:
	@packaging/setup.sh build
	$(RUN) cargo test --locked --release -p strowger-sim --test bugs -- --ignored --nocapture

# Faults of every class, drawn from a seed, under live calls, queued callers and clients: FAULTS
# of them against three nodes and a quarter as many against five. SEED=N draws the same again.
FAULTS ?= 200
chaos:
	@packaging/setup.sh test
	$(RUN) cargo build --locked --release -p strowger-node -p strowger
	$(if $(SEED),SEED=$(SEED)) FAULTS=$(FAULTS) STROWGER_BIN_DIR="$(RELEASE)" \
	    $(RUN) cargo test --locked --workspace --test exchange -- chaos:: --ignored --nocapture \
	    --test-threads=1 --skip soak

# A node dies every minute for MINUTES under calls; what the node that lives through it holds
# afterwards is what it held before.
MINUTES ?= 60
soak:
	@packaging/setup.sh test
	$(RUN) cargo build --locked --release -p strowger-node -p strowger
	MINUTES=$(MINUTES) STROWGER_BIN_DIR="$(RELEASE)" \
	    $(RUN) cargo test --locked --workspace --test exchange -- chaos::soak:: --ignored --nocapture

# Three nodes with the programs of commit FROM, upgraded to these one after the other under 200
# calls, waiting callers and agents at work; counts what was lost. Encodings are kept since
# 3f7ff2e; programs of earlier commits read other data.
upgrade:
ifndef FROM
	@echo "make upgrade FROM=COMMIT: name the commit whose programs run before the upgrade" >&2
	@exit 2
else
	@packaging/setup.sh test
	from=$$(packaging/programs-of.sh "$(FROM)" "$(OUT)") && \
	$(RUN) cargo build --locked --release -p strowger-node -p strowger && \
	STROWGER_FROM_DIR="$$from" STROWGER_BIN_DIR="$(RELEASE)" \
	    $(RUN) cargo test --locked --release --workspace --test exchange -- \
	    of_another_build --ignored --nocapture --test-threads=1
endif

# Cost of calls, packets, commits and idle state; written to docs/FIGURES.md.
bench: build
	@packaging/setup.sh bench
	STROWGER_BIN_DIR="$(RELEASE)" $(RUN) cargo bench --locked -p strowger-tests --bench figures

# What a reader sees before any test runs: format, lints, documentation.
lint:
	@packaging/setup.sh build
	$(RUN) cargo fmt --all --check
	$(RUN) cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(RUN) cargo doc --locked --workspace --no-deps --quiet

# Everything a change must pass (tidy is one of the tests). Never edits a file.
check: lint test

# `make show` lists the demonstrations; `make show D=NAME` runs one and prints what it saw.
show:
ifndef D
	@awk -F'|' '!/^#/ && NF >= 4 { printf "  %-18s %s\n", $$1, $$4 }' tests/demonstrations
	@echo "Run one with: make show D=NAME"
else
	@line=$$(awk -F'|' -v d="$(D)" '!/^#/ && $$1 == d { print; exit }' tests/demonstrations); \
	[ -n "$$line" ] || { echo "no demonstration named $(D); make show lists them" >&2; exit 3; }; \
	IFS='|' read -r name target filter text <<<"$$line"; \
	if [ "$$target" = make ]; then exec $(MAKE) --no-print-directory "$$filter"; fi; \
	packaging/setup.sh test && \
	$(RUN) cargo build --locked --quiet --release -p strowger-node -p strowger && \
	echo "$$name: $$text" && \
	STROWGER_BIN_DIR="$(RELEASE)" $(RUN) cargo test --locked --quiet --workspace \
	    --test "$$target" -- --exact "$$filter" --include-ignored --nocapture --test-threads=1
endif
