# What people and CI run. `make` alone lists the targets.

PYTHON ?= python3
BIN := .venv/bin
VENDOR := services/web/meadow_web/static/vendor

# Stamps in .make/ say what is done. If somebody removed what a stamp stands for, it is done again.
AGAIN_VENV := $(if $(wildcard $(BIN)/python),,FORCE)
AGAIN_SETUP := $(if $(and $(wildcard $(BIN)/meadow),$(wildcard $(VENDOR)/bundle.sha256)),,FORCE)
SOURCES_OF_SETUP := pyproject.toml constraints.txt $(addprefix services/web/,package-lock.json build_frontend.py)

.PHONY: help setup servers test check format demo bench docs constraints clean FORCE
.DEFAULT_GOAL := help

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .make/setup ## Make .venv with Meadow (editable), its tools and the front-end libraries

servers: ## Install what the tests need from Debian, if it is missing: Redis, RabbitMQ, PostgreSQL, Chromium
	@tools/install_servers.sh

test: setup servers ## Run all tests, two at a time (ARGS="tests/unit -k fold": only those, one after the other)
	@$(BIN)/pytest $(or $(ARGS),--numprocesses 2 --dist loadgroup)

check: setup ## Lint, formatting, types, walls between rooms, docs, repository
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/mypy tools
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python tools/write_reference.py --check
	@$(BIN)/python tools/check_docs.py
	@$(BIN)/python tools/check_repository.py

format: setup ## Format the code and mend what ruff can mend
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

demo: setup ## Show Meadow with a Celery cluster of its own
	@exec $(BIN)/meadow demo $(ARGS)

bench: setup ## Measure Meadow and Flower side by side
	@$(BIN)/python -m benchmarks $(ARGS)

docs: setup ## Write the generated reference pages and check the documentation
	@$(BIN)/python tools/write_reference.py
	@$(BIN)/python tools/check_docs.py

constraints: .make/venv ## Write constraints.txt again (ARGS=--upgrade for newer releases)
	@$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --no-emit-index-url \
		--no-annotate --custom-compile-command "make constraints" --quiet --output-file constraints.txt $(ARGS)

clean: ## Remove .venv, the front-end bundle and every cache
	@rm -rf .venv .make build dist $(VENDOR) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.make/venv: $(AGAIN_VENV)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Meadow needs Python 3.11 or newer, but PYTHON=$(PYTHON) is: $$($(PYTHON) --version 2>&1)." >&2; \
		echo "Name a newer one, for instance: make setup PYTHON=python3.13" >&2; exit 1; }
	@mkdir -p .make
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check uv || echo "uv cannot be installed; pip will do."
	@touch $@

.make/setup: .make/venv $(SOURCES_OF_SETUP) $(AGAIN_SETUP)
	@echo "Installing Meadow and its tools into .venv"
	@if [ -x $(BIN)/uv ]; then \
		$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'; \
	else \
		$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'; \
	fi
	@touch $@

FORCE:
