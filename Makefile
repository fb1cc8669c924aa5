# make demo   set everything up and show the bundled sample in napari
# make test   set everything up and run all checks and tests
# make test-old-napari   the window's tests on the oldest napari that is supported
#
# Both work on a fresh Debian or Ubuntu machine that has Python 3.11 to 3.13, pip and
# make. System packages are installed if you are root, otherwise named.

PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python
# Tests draw on a virtual screen, so that no window pops up and results are repeatable.
SCREEN = $(if $(shell command -v xvfb-run),xvfb-run -a -s "-screen 0 1400x900x24")

.PHONY: demo test test-old-napari lint setup system screenshots clean

demo: setup
	$(RUN) -m napari_embed demo

test: lint
	$(SCREEN) $(RUN) -m pytest

# An environment of its own: our versions, but for napari and what it draws with.
OLD_NAPARI = 0.6.6
OLD_VENV = .venv-old-napari
test-old-napari: system
	$(PYTHON) -m venv $(OLD_VENV)
	grep -v -E '^(napari|npe2|vispy)==' constraints.txt > $(OLD_VENV)/constraints.txt
	$(OLD_VENV)/bin/python -m pip install --quiet --constraint $(OLD_VENV)/constraints.txt \
		--editable ".[all,weights,fast,test]" "napari[pyqt6]==$(OLD_NAPARI)"
	$(SCREEN) $(OLD_VENV)/bin/python -m pytest tests/gui

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
	rm -rf $(VENV) $(OLD_VENV) build dist .pytest_cache .mypy_cache .ruff_cache
