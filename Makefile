# Everything from a fresh clone: `make demo` runs the main job, `make test` the tests.
# Only python3 (3.11 or newer), make and a package index are assumed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-test
DEV_STAMP := $(VENV)/.installed-dev

.PHONY: demo test test-min test-slow check bench torture fuzz docs sbom clean

demo: $(STAMP)  ## run the main job on the synthetic cohort, into demo/
	$(BIN)/hescribe demo --out demo

test: $(STAMP)  ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -q

test-min: $(STAMP)  ## run the tests with the lowest versions that pyproject.toml promises, in an environment of their own
	test -x $(VENV)-min/bin/python || $(PYTHON) -m venv $(VENV)-min
	$(VENV)-min/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/python -m pip freeze | grep -E "^torch(vision)?==" > $(VENV)-min/torch.txt
	$(VENV)-min/bin/uv pip install --quiet --python $(VENV)-min/bin/python --resolution lowest-direct \
		--constraint $(VENV)-min/torch.txt -e ".[test,cpu]"
	OMP_NUM_THREADS=1 $(VENV)-min/bin/python -m pytest -n 2 --dist loadfile -q -o filterwarnings=default

test-slow: $(STAMP)  ## run the tests that take minutes
	$(BIN)/python -m pytest -m slow -q

check: $(DEV_STAMP)  ## lint, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/towncrier build --draft --version next > /dev/null

bench: $(DEV_STAMP)  ## measure speed and memory against fair rivals, as ratios
	for script in $(filter-out %/fuzz.py,$(wildcard benchmarks/*.py)); do $(BIN)/python $$script || exit 1; done

torture: $(STAMP)  ## kill and starve every command, and compare what it gives afterwards
	$(BIN)/python -m benchmarks.torture

fuzz: $(STAMP)  ## give every reader damaged input, 100,000 times
	$(BIN)/python benchmarks/fuzz.py

docs: $(DEV_STAMP)  ## run every code block of the documentation
	$(BIN)/python -m pytest -q docs README.md

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[test,cpu]"
	touch $(STAMP)

$(DEV_STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $(STAMP) $(DEV_STAMP)

sbom: $(STAMP)  ## list every installed package with its licence, as CycloneDX JSON
	$(BIN)/python scripts/sbom.py > sbom.json

clean:  ## remove what the targets above made
	rm -rf $(VENV) $(VENV)-min demo sbom.json
