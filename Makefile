# Two commands are enough on a fresh machine: make bench, make test. Both set up .venv first.

PYTHON ?= python3
EXTRAS ?=
QUICK ?=
BIN := .venv/bin
comma := ,
empty :=
space := $(empty) $(empty)
# one stamp per set of extras, so that the same set-up is not done twice
WANTED := $(strip dev $(subst $(comma),$(space),$(EXTRAS)))
READY := .venv/ready-$(subst $(space),-,$(WANTED))

# how many tests run side by side; those judged by the clock run alone all the same
WORKERS ?= 4
PYTEST = $(BIN)/python -m pytest -n $(WORKERS)
# the tests that need no torch have an environment for each Python
QUICK_ENV = .venv-quick/$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')

# the site: every warning is an error, such as a dead link; nothing is fetched
SITE = -m sphinx -W --keep-going -n -E -q -b html -d build/site-cache docs build/site

# every test starts processes of this code, which would each compile it again
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup bench beyond peers instrument bench-client smoke quick test test-durations check notebooks docs reference clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## set up .venv with the pinned packages (EXTRAS=a,b adds extras)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "executor-bench needs Python 3.11 or later; choose one with: make PYTHON=python3.11"; exit 1; }
	@# one that was interrupted, or made without ensurepip, is made again
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$(subst $(space),$(comma),$(WANTED))]"
	@touch $@

bench: setup ## reproduce the article on the real model, claim by claim (QUICK=1: fewer blocks)
	$(BIN)/execbench run article $(if $(QUICK),--blocks 8)

beyond: setup ## the article's strategies against batches, a supervised pool, other runtimes; ranked
	$(BIN)/execbench run beyond

peers: setup ## our batches against frameworks that serve models (5 GB of environments; one that fails is left out)
	@status=0; \
	for step in peers "run peers" "run peers-io"; do \
		$(BIN)/execbench $$step || status=$$?; \
		[ $$status -le 128 ] || break; \
	done; \
	exit $$status

instrument: setup ## does the instrument measure right on this machine?
	$(BIN)/execbench check

bench-client: setup ## what the load generator itself costs, against a server that does nothing
	$(BIN)/execbench roofline

smoke: setup ## all strategies on a synthetic model, in seconds
	$(BIN)/execbench run smoke

quick: $(QUICK_ENV)/ready ## run the tests that only compute, without torch (PYTHON=python3.13: on that one)
	$(QUICK_ENV)/bin/python -m pytest -n 2 -m quick

$(QUICK_ENV)/ready: pyproject.toml constraints.txt tests/quick_requirements.py
	$(PYTHON) -m venv --clear $(QUICK_ENV)
	$(QUICK_ENV)/bin/python tests/quick_requirements.py > $(QUICK_ENV)/requirements.txt
	$(QUICK_ENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r $(QUICK_ENV)/requirements.txt
	@touch $@

test: setup ## run all tests, side by side where they may (WORKERS=4)
	$(PYTEST)

test-durations: setup ## run all tests and write down where their time goes (docs/development/test-durations.md)
	$(PYTEST) --durations-csv=docs/development/test-durations-after.csv
	$(BIN)/python tests/durations.py docs/development/test-durations-before.csv docs/development/test-durations-after.csv > docs/development/test-durations.md

check: setup ## format, lint, types, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST)

notebooks: setup ## execute the notebooks in place: on the reference run, and on the newest run
	$(BIN)/jupyter execute --inplace notebooks/*.ipynb

docs: setup ## build the site into build/site, offline; dead links are errors
	$(BIN)/python $(SITE)
	@echo "open build/site/index.html"

reference: setup ## write the pages of docs/reference and the schemas that are made from the code
	$(BIN)/execbench settings > docs/reference/settings.md
	@for page in commands csv exit-codes; do \
		$(BIN)/execbench reference $$page > docs/reference/$$page.md || exit 1; \
	done
	@for name in plan run; do \
		$(BIN)/execbench schema $$name > harness/data/schemas/$$name.schema.json || exit 1; \
	done

clean: ## remove .venv and caches; results stay
	rm -rf .venv .venv-quick build *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
