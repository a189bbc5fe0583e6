# Everything the project does, one command each. `make` alone lists them.
# Kept to what GNU make 3.81 knows, since that is what macOS ships.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A folder that `make wheels` has filled takes the place of the network: make setup WHEELS=wheels
WHEELS :=
PIP_OPTIONS := --quiet --disable-pip-version-check --constraint constraints.txt
# Without compiling what it installs, which would take half of the time: Python does it when needed.
# It has to keep what it compiled, though, which some images of Debian with Python tell it not to do:
# to compile scikit-learn and SciPy anew takes each engine longer than to import them.
unexport PYTHONDONTWRITEBYTECODE
PIP_INSTALL := $(BIN)/python -m pip install --no-compile $(PIP_OPTIONS) $(if $(WHEELS),--no-index --find-links "$(WHEELS)")

.DEFAULT_GOAL := help
.PHONY: help setup book slides plain-sphinx labs lab wheels test test-lowest fuzz chaos mutants coverage check format bench clean

help: ## list what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed, and $(PYTHON) is $$($(PYTHON) --version 2>&1)."; \
	  echo "Name another one: make PYTHON=python3.12 ..."; exit 1; }
	@test -z "$(WHEELS)" || ls "$(WHEELS)"/*.whl > /dev/null 2>&1 || { \
	  echo "There are no wheels in the folder $(WHEELS). Fill it with 'make wheels', on a machine of"; \
	  echo "the same system and with the same Python that has a network, and bring it here."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "No virtual environment could be made. On Debian: apt install python3-venv"; exit 1; }
	$(PIP_INSTALL) --editable '.[test]'
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	$(PIP_INSTALL) --editable '.[bench]'
	@touch $@

setup: $(VENV)/.installed ## make .venv with everything the course needs

book: $(VENV)/.installed ## run every chapter on a local cluster and write book/_build/html/index.html
	$(BIN)/python book/build.py

slides: $(VENV)/.installed ## make slides of the chapters, in book/_build/slides/index.html
	$(BIN)/python book/slides.py

plain-sphinx: $(VENV)/.installed ## write the pages with the newest Sphinx, without Jupyter Book
	$(BIN)/python book/plain.py

labs: $(VENV)/.installed ## run the solutions, record them, and derive the labs
	$(BIN)/mscourse lab build

lab: $(VENV)/.installed ## open the labs in JupyterLab
	# On the path, or `!ipcluster` in a notebook would not find it. The settings keep JupyterLab from
	# asking each learner whether it may fetch news.
	PATH="$(CURDIR)/$(BIN):$$PATH" JUPYTER_CONFIG_PATH="$(CURDIR)/.jupyter" $(BIN)/jupyter lab --notebook-dir labs

wheels: $(VENV)/.installed ## fill wheels/ with what `make setup WHEELS=wheels` needs without a network
	# The last two build the course's own package, which is installed from its folder.
	$(BIN)/python -m pip wheel $(PIP_OPTIONS) --wheel-dir wheels '.[test]' 'hatchling>=1.26' editables

test: $(VENV)/.installed ## run all tests, the recorded solutions included
	# Three at once, also on two cores: many wait for processes that start and end. In the order of
	# their names, or the files with few and long tests would come last, one after the other.
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

test-lowest: $(VENV)/.installed ## run the main tests with the lowest versions that are allowed
	$(BIN)/python tests/lowest.py

# The next two take another seed each time, and say which if something fails.
fuzz: $(VENV)/.installed ## feed the readers of files with nonsense
	$(BIN)/python tests/fuzz.py

chaos: $(VENV)/.installed ## harm a long search at random, 500 times
	$(BIN)/python tests/chaos.py

mutants: $(VENV)/.installed ## break the lines that matter most, and see that a test fails
	$(BIN)/python tests/mutants.py

coverage: $(VENV)/.installed ## which lines the tests run, on the engines too
	$(BIN)/coverage erase
	# Processes that work in other folders write there, too.
	COVERAGE_FILE="$(CURDIR)/.coverage" $(BIN)/coverage run -m pytest tests
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

check: $(VENV)/.installed ## lint, types and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

format: $(VENV)/.installed ## put the code into its standard form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-bench ## compare with the peers and write benchmarks/results.md
	$(BIN)/python benchmarks/run.py

clean: ## remove what the other commands made, .venv included, but not wheels/
	rm -rf $(VENV) book/_build book/api/generated .pytest_cache .mypy_cache .ruff_cache .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
