PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow check torture honesty docs clean

demo: .venv/package
	$(BIN)/headstock demo

# A process of tests that dies is a failure by name; with another one begun for it, xdist hangs.
test: .venv/installed
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart=0

test-slow: .venv/installed
	$(BIN)/python -m pytest -m slow

torture: .venv/installed
	$(BIN)/python tests/store/torture/run.py --full

honesty: .venv/installed
	$(BIN)/python tests/honesty/run.py --mutants

docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build -f docs/site/mkdocs.yml

check: .venv/installed .link/headstock
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("headstock needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -c 'import shutil, sys; gb = shutil.disk_usage(".").free / 1e9; sys.exit(f"{gb:.0f} GB are free here; the environment takes 8, and 4 more while it is made" if gb < 12 else 0)'
	$(PYTHON) -m venv .venv

# The demo needs the package alone; what tests and documents need comes with them.
.venv/package: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e .
	touch $@

.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev]'
	touch $@ .venv/package

.link/headstock:
	mkdir -p .link
	ln -sfn .. $@

clean:
	rm -rf .venv .link build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
