# `make demo` and `make test` need nothing but Python 3.11 to 3.13 and make: what is missing is set
# up first, on stderr, so that stdout holds nothing but the command's own output (from another
# folder: `make -s -C DIR demo`). `make help` lists the rest.
.SILENT:
.DEFAULT_GOAL := help
.PHONY: help setup demo up train check types test test-all chaos fuzz soak ci bench bench-gate fleet reproduce scale bench-replay page page-hour profile lock schemas wheel clean FORCE

LAYERS := schemas feature_store serving enrichers streams
PY := .venv/bin/python
READY := .venv/.ready
ARGS ?=
PYTEST_ARGS ?=
# Training, benchmarks and tests import ONNX Runtime past our door, which tells it to report nothing.
export ORT_DISABLE_TELEMETRY := 1
# Tests wait more than they work; each process has services of its own.
BESIDE := -n logical --maxprocesses 4 --dist worksteal

# An environment that was made in another folder (a moved or copied checkout) is made anew.
ifneq "$(shell cat $(READY) 2>/dev/null)" "$(CURDIR)"
$(READY): FORCE
endif

$(READY): pyproject.toml .ci/setup .ci/requirements.txt .ci/requirements-uv.txt
	sh .ci/setup

help: ## list the targets
	sed -n 's/^\([a-z-]*\):.*## /\1: /p' Makefile | while IFS=: read -r name what; do \
		printf '  %-12s%s\n' "$$name" "$$what"; done

setup: $(READY) ## build .venv with the locked packages (PYTHON=<path> names the interpreter)

demo: $(READY) ## run the whole path on this machine's own telemetry (ARGS="--seconds 20 --json")
	.venv/bin/headrace demo $(ARGS)

up: $(READY) ## run a pipeline on the bus and store of your settings (ARGS="hosts --workers 2")
	.venv/bin/headrace up $(ARGS)

train: $(READY) ## train the examples' models anew (ARGS=press one of them; adds packages to .venv)
	$(PY) -m uv --quiet pip install --python $(PY) --require-hashes -r .ci/requirements-train.txt >&2
	set -e; for example in $(or $(ARGS),hosts press wearables shops); do \
		$(PY) examples/training train $$example; done

check: $(READY) types ## format, lint, types and the rules of the tree
	.venv/bin/ruff format --check --quiet . || { echo "run: .venv/bin/ruff format ."; exit 1; }
	.venv/bin/ruff check --quiet .
	$(PY) -m pytest -q -p no:randomly tests/unit/test_tree.py tests/unit/test_names.py $(PYTEST_ARGS)

# Type checkers do not run import hooks, so they cannot see an editable namespace: a folder of links
# shows them the installed names.
types: $(READY) ## mypy --strict over the installed names
	mkdir -p .types/headrace
	for layer in $(LAYERS); do ln -sfn ../../$$layer .types/headrace/$$layer; done
	cd .types && ../$(PY) -m mypy --config-file ../pyproject.toml -p headrace

test: $(READY) ## every quick test that needs no Java and kills nothing
	$(PY) -m pytest $(BESIDE) -m "not chaos and not kafka and not slow" $(PYTEST_ARGS)

test-all: $(READY) ## every test; HEADRACE_REQUIRE_SERVICES=1 turns a skip into a failure
	$(PY) -m pytest $(BESIDE) $(PYTEST_ARGS)

chaos: $(READY) ## workers killed under load on real Kafka, a seeded campaign (SEEDS=20)
	SEEDS=$(or $(SEEDS),20) CHAOS_REPORT=build/chaos.json HEADRACE_REQUIRE_SERVICES=1 \
		$(PY) -m pytest -q -p no:randomly tests/chaos $(PYTEST_ARGS)

soak: $(READY) ## random faults for MINUTES=20, every event accounted for, memory flat (ARGS="--mode exactly-once")
	.venv/bin/headrace drill press --soak $(or $(MINUTES),20) --json $(ARGS)

fuzz: $(READY) ## a million records with anything wrong, through both agents (EVENTS=1000000)
	FUZZ_EVENTS=$(or $(EVENTS),1000000) $(PY) -m pytest -q -s -p no:randomly tests/property/input $(PYTEST_ARGS)

ci: ## what continuous integration runs
	bash .ci/run

bench: $(READY) ## the reference job, every side in turn, on services of its own (ARGS="--parts sides --rounds 1")
	$(PY) benchmarks/reference $(ARGS)

# Ratios of a run of fewer rounds; logs are as long as those of `make bench`.
GATE := --parts sides latency --sides headrace handwritten bytewax quix_sink quix faust_take faust \
	handwritten_x2 bytewax_x2 --rounds 2 --rates 5000 20000

bench-gate: $(READY) ## a short run of it; fails where a ratio fell by more than 20 % (ARGS=--accept commits)
	$(PY) benchmarks/reference $(GATE) --out build/bench/gate.json --doc build/bench/gate.md
	$(PY) benchmarks/reference/gate.py build/bench/gate.json $(ARGS)

fleet: $(READY) ## a simulated fleet through the whole path, its ledger checked (ARGS="--scenarios burst")
	$(PY) benchmarks/fleet $(ARGS)

reproduce: $(READY) ## a fleet, killed workers and a new model; then every bit computed anew (ARGS="--events 200000")
	$(PY) benchmarks/fleet/reproduce.py $(ARGS)

scale: $(READY) ## how it grows with devices, partitions and so on (ARGS="--points devices --quick")
	$(PY) benchmarks/reference --parts scaling $(ARGS)

bench-replay: $(READY) ## telemetry to Parquet beside a hand-written script, and live p99 beside a replay (needs the extra tables)
	$(PY) benchmarks/replay $(ARGS)
	$(PY) benchmarks/replay/live.py

page: $(READY) ## the console in Chromium beside a fleet: how soon, how smooth (ARGS="--images docs/images")
	$(PY) -m uv --quiet pip install --python $(PY) --require-hashes -r .ci/requirements-browser.txt >&2
	$(PY) benchmarks/console $(ARGS)

page-hour: ARGS = --minutes $(or $(MINUTES),60)
page-hour: page ## the same page open for MINUTES=60: its memory every minute

profile: $(READY) ## where the time of each stage goes (ARGS="--stage serve --rate 20000 --top 25")
	$(PY) benchmarks/reference/profile_stages.py $(ARGS)

lock: $(READY) ## write the lock files anew (ARGS=--upgrade takes newer versions)
	sh .ci/lock $(ARGS)

schemas: $(READY) ## write schemas/generated/ anew
	$(PY) -m headrace.schemas.generate

wheel: $(READY) ## build the wheel into dist/
	$(PY) -m build --wheel --no-isolation --outdir dist . >&2

clean: ## remove everything that is built
	rm -rf .venv .types .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist ./*.egg-info .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
