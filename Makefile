# make demo   set everything up and show the bundled sample in napari
# make test   set everything up and run all checks and tests
#
# Both work on a fresh Debian or Ubuntu machine that has Python 3.11 to 3.13, pip and
# make. System packages are installed if you are root, otherwise named.

PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python
# Tests draw on a virtual screen, so that no window pops up and results are repeatable.
SCREEN = $(if $(shell command -v xvfb-run),xvfb-run -a -s "-screen 0 1400x900x24")

.PHONY: demo test lint setup system screenshots clean

demo: setup
	$(RUN) -m napari_embed demo

test: lint
	$(SCREEN) $(RUN) -m pytest

lint: setup
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

setup: system $(VENV)/.ready

system:
	@PYTHON=$(PYTHON) sh scripts/system_packages.sh

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else "Python 3.11, 3.12 or 3.13 is needed, this is %d.%d. Try: make PYTHON=python3.12 $(MAKECMDGOALS)" % v)'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable ".[all,weights,fast,test]"
	@touch $@

screenshots: setup
	$(SCREEN) $(RUN) scripts/make_screenshots.py

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
