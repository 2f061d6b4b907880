# `make demo` and `make test` need nothing but Python >= 3.11 and make: each builds .venv as far as it needs it.
PYTHON ?= python3
BIN := .venv/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
PINS := pyproject.toml constraints.txt
# Compiled modules are kept: the tests start many processes, and load experiments many times.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test check bench clean

demo: .venv/.demo-stamp
	$(BIN)/adlab run configs/rates.toml

test: .venv/.dev-stamp
	$(BIN)/pytest -n 2 --dist loadscope -q

# Examples run once: optimising their machine code would take longer than it saves.
check: .venv/.dev-stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	XLA_FLAGS="$$($(BIN)/python tests/xla_flags.py)" $(BIN)/pytest -n 2 --dist loadfile -q --doctest-modules adlab

bench: .venv/.bench-stamp
	$(BIN)/python benchmarks/gradients.py
	$(BIN)/python benchmarks/zero_order.py
	$(BIN)/python benchmarks/curvature.py
	$(BIN)/python benchmarks/jacobians.py
	$(BIN)/python benchmarks/rules.py
	$(BIN)/python benchmarks/checkpointing.py
	$(BIN)/python benchmarks/curvature_memory.py

clean:
	rm -rf .venv

# A stamp marks a finished installation: an interrupted one leaves none, and is done again.
.venv/.pip-stamp:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "adlab needs Python >= 3.11, and there is no '$(PYTHON)'; name one: make demo PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "adlab needs Python >= 3.11, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1); name a newer one: make demo PYTHON=python3.12" >&2; exit 1; }
	@echo "making .venv"
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@touch $@

.venv/.demo-stamp: .venv/.pip-stamp $(PINS)
	@echo "installing adlab and what it needs into .venv (about a minute)"
	@$(PIP_INSTALL) -e '.[data]'
	@touch $@

.venv/.dev-stamp: .venv/.demo-stamp
	@echo "installing the development tools into .venv"
	@$(PIP_INSTALL) -e '.[data,equinox,flax,symbolic]' --group dev
	@touch $@

.venv/.bench-stamp: .venv/.demo-stamp
	@echo "installing the peers that the benchmarks compare with into .venv"
	@$(PIP_INSTALL) -e '.[data,equinox]' --group bench
	@touch $@
