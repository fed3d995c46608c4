# One sentence a target; `make help` prints them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt
OLDEST := .venv-oldest
REPLAYED := prefect-default,static,edf,wspt,atc,covert
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export MLFLOW_DISABLE_TELEMETRY := true
export SODA_CORE_TELEMETRY_ENABLED := false

.DEFAULT_GOAL := help
.PHONY: help install train replay-example demo demo-up demo-down test test-oldest check docs format clean

help: ## Show this list.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "==> Making $(VENV) and installing prefect_intelligent with everything it uses; the twin is compiled meanwhile (a few minutes)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) 'pip>=25.1' numba numpy
	@$(BIN)/python -m prefect_intelligent.twin.warm & warming=$$!; $(PIP) -e '.[all]' --group demo --group train --group dev && wait $$warming
	@$(PIP) --no-deps --group jobshop
	@$(BIN)/python -m compileall -qq -j 0 -x '/tests?/' $(VENV)/lib || true # pip takes one core; templates are no Python
	@touch $@

install: $(VENV)/.installed ## Make .venv and install everything.

demo: install ## Play one morning of flights twice on a Prefect server of its own, unsteered and steered.
	$(BIN)/python -m flows.demo

demo-up: install ## Start the demo's server, worker, controller and MLflow and leave them running.
	$(BIN)/python -m flows.demo --up

demo-down: install ## Stop what demo-up has left running.
	$(BIN)/python -m flows.demo --down

replay-example: install ## Replay the morning that the demo recorded under six policies; write page and figures.
	@mkdir -p demo-output
	$(BIN)/prefect-intelligent replay --recording docs/examples/demo-morning.json --policies $(REPLAYED) --html demo-output/replay.html --json > demo-output/replay.json
	@echo "Page: demo-output/replay.html  Figures: demo-output/replay.json"

train: install ## Make the shipped policy from nothing: tune, label, pre-train, PPO with ten seeds, average, export (hours).
	@mkdir -p runs
	$(BIN)/python -m rl.tune --worlds 130000 --out runs/tuned.json
	$(BIN)/python -m rl.label --base runs/tuned.json --worlds 17000 --out runs/labels-1
	$(BIN)/python -m rl.pretrain --base runs/tuned.json --labels runs/labels-1 --out runs/pretrained-1
	$(BIN)/python -m rl.train --start runs/pretrained-1 --out runs/ppo-1
	$(BIN)/python -m rl.label --base runs/tuned.json --guide runs/ppo-1/best --first 20000 --worlds 7000 --out runs/labels-2
	$(BIN)/python -m rl.pretrain --base runs/tuned.json --labels runs/labels-1 runs/labels-2 --margin 0.05 --out runs/pretrained
	for seed in 1 2 3 4 5 6 7 8 9 10; do $(BIN)/python -m rl.train --start runs/pretrained --out runs/ppo-seed-$$seed --seed $$seed || exit 1; done
	$(BIN)/python -m rl.average runs/ppo-seed-*/best --out runs/averaged
	$(BIN)/python -m rl.export --from runs/averaged --to prefect_intelligent/policy/shipped

test: install ## Run every test, real Prefect server and worker included.
	$(BIN)/python -m pytest tests -n 3 --dist loadfile --no-loadscope-reorder

# Of constraints.txt all holds but Prefect and what the oldest one bounds otherwise.
$(OLDEST)/.installed: pyproject.toml constraints.txt
	@test -x $(OLDEST)/bin/python || $(PYTHON) -m venv $(OLDEST)
	@grep -vE '^(prefect|apprise|python-slugify|whenever)==' constraints.txt > $(OLDEST)/constraints.txt
	@$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
	@$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check -c $(OLDEST)/constraints.txt 'prefect==3.8.8' 'fastapi<0.151' -e '.[all]' --group demo --group train --group dev
	@touch $@

test-oldest: $(OLDEST)/.installed ## Run the server, conformance and hook tests on the oldest Prefect that is supported (own environment).
	$(OLDEST)/bin/python -m pytest tests/conformance tests/unit/flow tests/integration tests/field tests/fault -m 'server or worker or not slow' -n 2 --dist loadfile --no-loadscope-reorder

check: install ## Format check, lint, types, import contracts, dependencies, fast tests.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .
	$(BIN)/python -m pytest tests/unit tests/properties tests/architecture -q

$(VENV)/.docs: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) 'pip>=25.1'
	@$(PIP) -e . --group docs
	@touch $@

docs: $(VENV)/.docs ## Build the documentation site into site/; look at it with `python3 -m http.server -d site`.
	$(BIN)/python docs/_site/build.py

format: install ## Format and sort imports.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove what the targets above have made.
	rm -rf $(VENV) $(OLDEST) build site demo-output .mypy_cache .ruff_cache .pytest_cache
