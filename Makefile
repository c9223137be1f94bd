# Two commands do everything: `make run` and `make test`.
PY ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: run test build clean
$(VENV)/made: pyproject.toml setup.py
	$(PY) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@

build: $(VENV)/made
	$(BIN)/python setup.py --quiet build_ext --inplace

test: build
	$(BIN)/python -m pytest -q -n 2
