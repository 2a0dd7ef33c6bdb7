# Everything a person runs. `make` alone lists it.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
EXTRA ?=
WITH ?=
VENV := .venv
BIN := $(VENV)/bin
CODE := $(wildcard foundry serve_apps tune_jobs kuberay control_api benchmarks tests examples constraints)
TESTS ?= tests
export PYTHONDONTWRITEBYTECODE =

.DEFAULT_GOAL := help
.PHONY: help up install install-dev test check format lock bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

up: install ## install, then start the whole platform on this machine
	$(BIN)/foundry up

install: ## make .venv with the engine for this machine (EXTRA=cpu|gpu|sglang to choose, WITH="audio speech" to add)
	@$(PYTHON) constraints/install.py --extra "$(EXTRA)" --with "$(WITH)"

install-dev:
	@$(PYTHON) constraints/install.py --extra "$(EXTRA)" --dev

check: install-dev ## format, lint, types, import contracts, fast tests (under 90 s)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/pytest -q -n 2 --dist loadfile -m "not (long or engine or postgres or browser or chaos or gpu)" $(TESTS)

test: install-dev ## every test but those that need a GPU
	$(BIN)/pytest -q -n 2 --dist loadfile -m "not (engine or browser or chaos or gpu)" $(TESTS)
	$(BIN)/pytest -m "(engine or browser or chaos) and not gpu" $(TESTS)

format: install-dev ## rewrite the code as the formatter and the safe fixes want it
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

lock: ## resolve constraints/*.txt anew, nothing younger than a week
	$(PYTHON) constraints/install.py lock --extra "$(EXTRA)"

bench: install-dev ## every benchmark, one JSON line each
	@for file in benchmarks/[a-z]*.py; do echo "== $$file" >&2; $(BIN)/python $$file || exit 1; done

clean: ## remove what tools cached; .venv and FOUNDRY_HOME stay
	rm -rf build dist .pytest_cache .ruff_cache .import_linter_cache *.egg-info
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
