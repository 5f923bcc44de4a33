# Two commands do all set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-ray quick bench docs lint wheel clean

demo: $(VENV)/installed
	@if $(BIN)/interp fetch smollm2-135m-instruct; then \
		$(BIN)/interp run experiments/smollm2.yaml; \
	else \
		echo "SmolLM2 could not be fetched (the line above says why); running the small model that ships instead."; \
		$(BIN)/interp run experiments/tiny.yaml; \
	fi

# Shapes in signatures are checked in every call (tests/shapes.py).
test: $(VENV)/installed-dev
	INTERP_CHECK_SHAPES=engine,saes,analysis,statistics,steering $(BIN)/pytest -n 2 --dist loadfile

test-ray: $(VENV)/installed-dev
	$(INSTALL) --editable '.[ray]'
	$(BIN)/pytest tests/test_engines.py

quick: $(VENV)/installed-dev
	$(BIN)/pytest -n 2 --dist loadfile --quick

bench: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.nulls
	$(BIN)/python -m benchmarks.coverage
	$(BIN)/python -m benchmarks.express
	$(BIN)/python -m benchmarks.reliability
	$(BIN)/python -m benchmarks.stages

docs: $(VENV)/installed-docs
	$(BIN)/mkdocs build --strict --config-file docs/mkdocs.yml
	@echo "Open $(CURDIR)/site/index.html"

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

wheel: $(VENV)/installed-dev
	$(BIN)/pip wheel --no-deps -w dist .

# Python compiles a module when it is first imported: doing so for all of them is a third of an installation.
INSTALL := $(BIN)/pip install --quiet --no-compile --constraint constraints.txt

$(VENV)/made:
	@$(PYTHON) -c 'import sys; sys.exit("interp needs Python 3.11 or newer; try make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/installed: $(VENV)/made pyproject.toml constraints.txt
	$(INSTALL) --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/made pyproject.toml constraints.txt
	$(INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/installed

$(VENV)/installed-docs: $(VENV)/made pyproject.toml constraints.txt
	$(INSTALL) --editable '.[docs]'
	@touch $@

clean:
	rm -rf $(VENV) build dist runs site
