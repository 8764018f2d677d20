# Thin on purpose: each target is one command. PYTHON is the virtual environment that the README makes.
PYTHON ?= .venv/bin/python

.PHONY: run test test-pure test-asan lint types pages bench

run:
	$(PYTHON) -m fastws

test:
	$(PYTHON) -m pytest

test-pure:
	FASTWS_NO_EXTENSIONS=1 $(PYTHON) -m pytest -m 'not long and not browser and not build'

test-asan:
	PYTHON=$(PYTHON) tests/asan/run

lint:
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(MAKE) -s types

types:
	$(PYTHON) -m mypy --platform linux
	$(PYTHON) -m mypy --platform win32
	$(PYTHON) -m mypy --platform darwin

pages:
	$(PYTHON) -m fastws.config.directives > docs/configuration.md
	$(PYTHON) docs/modules.py

bench:
	$(PYTHON) benchmarks/run.py
