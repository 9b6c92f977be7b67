# One word a habit. Every target sets up what it needs; nothing outside .venv is touched.

PYTHON ?= python3
BIN := .venv/bin
DATASETS ?= $(wildcard ../shared/data/torchvision)
PYTEST_FLAGS ?=
# Python compiles a module when it is first imported; to compile all that is installed takes half a minute.
PIP_FLAGS := --quiet --disable-pip-version-check --no-compile --constraint constraints.txt
# Where the environment forbids to keep what was compiled, every process would compile all of torch again.
unexport PYTHONDONTWRITEBYTECODE
# Most tests wait for real servers to start, so a few at a time cost little; a file stays in one process.
TEST_PROCESSES ?= 4
# Another index for torch alone, e.g. one with smaller builds for the CPU; empty: pip's own.
TORCH_INDEX ?=
FAULTS ?= 100
SEED ?= 0
MINUTES ?= 60

.PHONY: help install demo test check docs fmt bench chaos up clean

help:
	@echo "make demo     train an encoder through the real service on real images, write demo-out/report.html"
	@echo "              (digits; MNIST with DATASETS=DIR, a folder with torchvision's MNIST)"
	@echo "make test     the whole test suite, with real Redis, PostgreSQL and processes"
	@echo "make check    lint, types, architecture, package files"
	@echo "make docs     the documentation as a site, site/index.html"
	@echo "make up       the service on http://127.0.0.1:8000, in the foreground"
	@echo "make chaos    kill, pause and starve whole stacks under load, count what is lost (two hours; FAULTS=100 SEED=0"
	@echo "              MINUTES=60 a column); every SEED has a file of its own, and README.md pools them"
	@echo "make bench    the MNIST table (hours; DATASETS=DIR)  make fmt    format the code"

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("nidim needs Python 3.11 or newer; set PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install $(PIP_FLAGS) --upgrade pip
	$(BIN)/python -m pip install $(PIP_FLAGS) $(if $(TORCH_INDEX),--index-url "$(TORCH_INDEX)") torch
	$(BIN)/python -m pip install $(PIP_FLAGS) --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/nidim demo --out demo-out $(if $(filter-out file,$(origin DATASETS)),--datasets-dir "$(DATASETS)")

# A fresh environment holds nothing compiled, and test processes that begin at once would each compile the same.
.venv/imported: .venv/installed
	$(BIN)/python -m pytest --collect-only --quiet --quiet > $@ || (cat $@; rm $@; exit 1)

test: .venv/imported
	$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder $(PYTEST_FLAGS)

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.house_rules

docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --config-file docs/site/mkdocs.yml

fmt: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install
	$(BIN)/python -m benchmarks.mnist_table $(if $(DATASETS),--datasets-dir "$(DATASETS)")

chaos: install
	$(BIN)/python -m tests.chaos --column embedded --faults $(FAULTS) --minutes $(MINUTES) --seed $(SEED) --out benchmarks/results/chaos
	$(BIN)/python -m tests.chaos --column servers --faults $(FAULTS) --minutes $(MINUTES) --seed $(SEED) --out benchmarks/results/chaos
	$(BIN)/python -m tests.chaos.deploy --out benchmarks/results/chaos

up: install
	$(BIN)/nidim up

clean:
	rm -rf .venv demo-out build dist *.egg-info
