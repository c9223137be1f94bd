# Two commands do everything: `make run` and `make test`.
PY ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: run test build bench clean
$(VENV)/made: pyproject.toml setup.py
	$(PY) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@

build: $(VENV)/made
	$(BIN)/python setup.py --quiet build_ext --inplace

test: build
	$(BIN)/python -m pytest -q -n 2

# the speed tables: half an hour on a quiet machine
bench: build
	$(BIN)/python bench/echo.py
	$(BIN)/python bench/overload.py
	$(BIN)/python bench/loss.py
	$(BIN)/python bench/table.py
