# `make demo` and `make test` are all that a new checkout needs; `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# uv is faster where it is there; pip does the same from the same lock files.
UV := $(shell command -v uv 2>/dev/null)

.PHONY: help demo test test-unit lint types protos gen fmt check bench bench-decoder bench-import eval-matching faults overload soak lock clean

help: ## list what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

demo: $(VENV)/.local ## find the products of the sample film, on real services, and write demo/report.html
	$(BIN)/shoppable demo

test: $(VENV)/.dev ## run all tests, the fast ones first
	$(BIN)/python -m pytest tests/unit
	$(BIN)/python -m pytest tests/service tests/end_to_end tests/faults

test-unit: $(VENV)/.dev ## run the unit tests: under a minute
	$(BIN)/python -m pytest tests/unit

lint: $(VENV)/.dev ## check style and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/.dev ## check types
	$(BIN)/mypy

protos: $(VENV)/.dev ## lint the protos, check that clients do not break and that the generated code is fresh
	$(BIN)/python tools/protos.py check

gen: $(VENV)/.dev ## generate the Python code from the protos
	$(BIN)/python tools/protos.py generate

fmt: $(VENV)/.dev ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: lint types protos test ## all that CI runs

bench: $(VENV)/.local ## the suite against a one-process program on the same models, as a ratio
	$(BIN)/python tests/load/bench_suite.py

bench-decoder: $(VENV)/.local ## the frame decoder against PyAV alone, as ratios; its memory on a film of an hour
	$(BIN)/python tests/load/bench_decoder.py

bench-import: $(VENV)/.local ## an import of a feed against its embedder alone, as a ratio
	$(BIN)/python tests/load/bench_import.py

eval-matching: $(VENV)/.local ## how right the matcher is and whether it knows, on the sample film and the groceries (GROCERY=DIR)
	$(BIN)/python tools/eval_matching.py $(if $(GROCERY),--grocery $(GROCERY))

faults: $(VENV)/.dev ## spoil the network and the processes of a suite, longer than in the tests, and write the reliability page
	KILLS=50 FUZZ_CALLS=6000 $(BIN)/python -m pytest tests/faults --timeout 900 --findings .build/findings.json
	$(BIN)/python tools/reliability_page.py .build/findings.json tests/faults/RELIABILITY.md

overload: $(VENV)/.local ## goodput and refusals at ten times the capacity
	$(BIN)/python tests/load/overload.py

soak: $(VENV)/.local ## half an hour of ordinary work: memory, latency and errors must stay flat
	$(BIN)/python tests/load/soak.py

lock: ## solve the requirements again (needs uv)
	uv pip compile pyproject.toml --extra local --extra build -o requirements/local.txt $(LOCK)
	uv pip compile pyproject.toml --extra dev -c requirements/local.txt -o requirements/dev.txt $(LOCK)
LOCK := --universal --python-version 3.11 --no-header --no-annotate --generate-hashes --upgrade --quiet

clean: ## remove the environment and caches
	rm -rf $(VENV) .build .mypy_cache .ruff_cache .pytest_cache .hypothesis

# One environment, two fillings: what runs the suite, and what also tests it. Each is installed from its lock, hashes
# checked, and marked by a file so that make knows what is done.
define install
	@test -x $(BIN)/python || $(if $(UV),uv venv --quiet --python $(PYTHON) $(VENV),$(PYTHON) -m venv $(VENV))
	@echo "installing requirements/$(1).txt (once) ..."
	@$(if $(UV),uv pip install --quiet --python $(BIN)/python,$(BIN)/python -m pip install --quiet --disable-pip-version-check) \
		--require-hashes -r requirements/$(1).txt
	@$(if $(UV),uv pip install --quiet --python $(BIN)/python,$(BIN)/python -m pip install --quiet --disable-pip-version-check) \
		--no-deps --no-build-isolation -e .
	@touch $@
endef

$(VENV)/.local: requirements/local.txt pyproject.toml
	$(call install,local)

$(VENV)/.dev: requirements/dev.txt pyproject.toml
	$(call install,dev)
	@touch $(VENV)/.local
