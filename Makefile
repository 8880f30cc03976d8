# Two commands: `make book` and `make test`. Both set up what they need.
# On Windows, README.md gives the same in plain pip and python lines.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PEERS := build/peers
# after quality.py, whose translators some of them measure
SCRIPTS := import_cost recurrent heads positions add_norm \
	widening paper_choices training_choices decoding_choices inside \
	exports attention_speed attention_cost mask_cost memory scaling \
	fast_paths training_speed decoding_speed
export OMP_NUM_THREADS := 1

.DEFAULT_GOAL := help
.PHONY: help book test serve notebooks homework format bench peers clean \
	lint unit gate pages rehearse build

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	    "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check \
	    -r requirements.txt -e .
	@touch $@

book: build ## build the HTML book and say where it is
	@echo "The book: $(CURDIR)/_build/html/index.html (or run: make serve)"

# --all: a page read from a cache would keep its warnings to itself.
build: $(READY)
	$(BIN)/jupyter-book build . --all -W -n --keep-going -q

test: lint unit gate build rehearse pages ## run everything CI runs

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/nb.py check
	$(BIN)/python tools/homework.py check

unit: $(READY)
	$(BIN)/pytest -n 2 --dist loadfile --ignore tests/test_pages.py --cov

gate: $(READY)
	$(BIN)/pytest --nbval --nbval-current-env --nbval-cell-timeout 600 \
	    -n 2 --dist loadfile notebooks/*.ipynb solutions

rehearse: $(READY)
	$(BIN)/python tools/rehearse.py

pages: build
	$(BIN)/pytest tests/test_pages.py

serve: build ## build the book and show it at http://localhost:8000
	$(BIN)/python -m http.server 8000 --bind 127.0.0.1 -d _build/html

notebooks: $(READY) ## run the chapters (or CHAPTERS="02_... 09_...")
	$(BIN)/python tools/nb.py run $(CHAPTERS)

homework: $(READY) ## run the assignments (or HOMEWORK="hw1 hw2")
	$(BIN)/python tools/homework.py run $(HOMEWORK)
	$(BIN)/python tools/gallery_page.py

format: $(READY) ## format Python files and the code of the chapters
	$(BIN)/ruff check --fix --exclude notebooks .
	$(BIN)/ruff format --exclude notebooks .
	$(BIN)/python tools/nb.py format

bench: peers ## measure everything again (days); writes results/*.json
	$(PEERS)/bin/python benchmarks/quality.py --weights
	for script in $(SCRIPTS); do \
	    $(PEERS)/bin/python benchmarks/$$script.py || exit 1; done
	$(PEERS)/bin/python benchmarks/exports.py --corpus multi30k-en-de
	for script in training_speed decoding_speed; do $(PEERS)/bin/python \
	    benchmarks/$$script.py --threads 2 || exit 1; done
	$(PEERS)/bin/python benchmarks/training_speed.py --precision bf16

peers: $(PEERS)/.ready ## install the libraries we are measured beside

$(PEERS)/.ready: requirements.txt pyproject.toml benchmarks/peers.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install -q --disable-pip-version-check \
	    -r requirements.txt -e .
	$(PEERS)/bin/python -m pip install -q --disable-pip-version-check \
	    -r benchmarks/peers.txt
	$(PEERS)/bin/python -m pip install -q --disable-pip-version-check \
	    --no-deps joeynmt==2.3.0
	@touch $@

# build/ keeps what benchmarks trained, for hours, and the peers.
clean: ## remove what was built (the set-up and trained models stay)
	rm -rf _build build/lib build/bdist.* dist *.egg-info .coverage .coverage.*
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis
