.PHONY: check test format docs

check:  ## lint, format, types, layers, file sizes; changes nothing
	bash tools/check.sh

test:  ## the default suite: CPU, on several processes
	pytest

format:  ## sort imports and format in place
	ruff check --fix .
	ruff format .

docs:  ## build the documentation into site/
	mkdocs build --strict
