# Two commands from nothing: `make run` and `make test`. Each makes its own environment in .venv first.
PY ?= python3
SUITE ?= quickstart
ARGS ?=
# Installing compiles nothing; bytecode is written when a module is first imported, also where the environment forbids
# it (images often do): without it, every process of a run would compile torch's sources again, two seconds each.
unexport PYTHONDONTWRITEBYTECODE
PIP = .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt

.PHONY: run test bench peers peers-translation docs lint clean gate-real
.DELETE_ON_ERROR:

run: .venv/.run
	.venv/bin/t2bench run $(SUITE) $(ARGS)

test: .venv/.test
	.venv/bin/python -m pytest -n 2 $(ARGS)

bench: .venv/.test
	MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=4611686018427387904 .venv/bin/python -m pytest tests/benchmarks \
	    --benchmark-columns=median,iqr,rounds --benchmark-min-rounds=20 $(ARGS)

peers: .venv/.test
	.venv/bin/python tests/benchmarks/peers.py --document docs/peers.md $(ARGS)

# Training beside torch.nn.Transformer, and translating beside transformers' MarianMT.
peers-translation: .venv/.test
	.venv/bin/python tests/benchmarks/trainer.py
	.venv/bin/python tests/benchmarks/decoding.py

docs: .venv/.test
	.venv/bin/python -m t2bench.parity.document $(ARGS)

# About half an hour on a quiet machine: the table of docs/gating.md, from real gate runs.
gate-real: .venv/.test
	.venv/bin/python tests/benchmarks/gate_real.py $(ARGS)

lint: .venv/.dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

.venv/bin/python:
	@echo "making a virtual environment in .venv"
	@$(PY) -m venv .venv

.venv/.run: .venv/bin/python pyproject.toml constraints.txt
	@echo "installing t2bench and what it needs (about 1 GB, mostly torch; a minute or two) ..."
	@$(PIP) -e .
	@touch $@

.venv/.test: .venv/bin/python pyproject.toml constraints.txt
	@echo "installing t2bench and its test tools (about 1 GB, mostly torch; a minute or two) ..."
	@$(PIP) -e '.[test]'
	@touch $@ .venv/.run

.venv/.dev: .venv/.test
	@$(PIP) -e '.[test,dev]'
	@touch $@

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks
