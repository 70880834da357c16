# Phalanx: `make demo` shows it, `make test` proves it. Every target first runs `make setup`, which takes seconds once done.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: setup demo test check bench deb clean

setup:
	@tools/setup

demo: setup
	@examples/demo.sh

# Two files of tests at a time: most of them wait for a daemon, a container or a job.
test: setup check
	@.venv/bin/pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 25

check: setup
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

bench: setup
	@PYTHONPATH=tests .venv/bin/python -m bench $(if $(ONLY),--only $(ONLY))

# A Debian package of all that a machine needs: build/phalanx_*.deb, see docs/operations.md.
deb: setup
	@tools/deb

clean:
	rm -rf .venv build
