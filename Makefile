# Works on a fresh machine with Python 3.11+ and make alone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: run test check docs demo bench interop clean

run: $(STAMP)
	$(BIN)/python app.py

test: $(STAMP)
	$(BIN)/python tests/install_chromium.py
# the demo once, before several processes want it; files side by side, each on one core
	$(BIN)/python -m pipeline demo > /dev/null
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(STAMP)
	$(BIN)/python docs/training_fields.py
	$(BIN)/python docs/example_report.py
	$(BIN)/python -m diagnostics explain all --format md --output docs/checks.md
	$(BIN)/python docs/tree_in_readme.py

demo: $(STAMP)
	$(BIN)/python -m pipeline demo

bench: $(STAMP)
	$(BIN)/python benchmarks/planted_faults.py
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/log_reading.py
# evaluations with a known answer, and how often their intervals hold it: some minutes each on two cores
	$(BIN)/python benchmarks/planted_rewards.py
	$(BIN)/python benchmarks/planted_comparisons.py
	$(BIN)/python benchmarks/interval_coverage.py

# LLaMA-Factory trains on what we export; the first time it installs it in the user's cache, which takes minutes
interop: $(STAMP)
	$(BIN)/python interop/llamafactory_trains.py
	$(BIN)/python interop/recipes_elsewhere.py

$(STAMP): requirements.txt requirements-dev.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
# torch first and alone: it is the one package with builds for several devices, and a build that is already
# there must satisfy the others instead of being replaced
	$(BIN)/python -m pip install --quiet "$$(grep '^torch==' requirements.txt)"
	$(BIN)/python -m pip install --quiet -r requirements.txt -r requirements-dev.txt
	touch $(STAMP)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
