#!/usr/bin/env bash
# Every static check of the project, in the order of their speed; stops at the first that fails.
# The one list behind `make check`, the pre-commit hooks and .ci/run.
set -euo pipefail
cd "$(dirname "$0")/.."

python tools/check_file_length.py
ruff check .
ruff format --check .
lint-imports --no-logo --no-cache
mypy
