"""Fail when a Python file, an `__init__.py` or a function outgrows its room.

A file holds one noun. One that passes the limit usually holds two, and a function that does not fit
on a screen usually does two things: the answer is to split it by meaning, not to raise the limit.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

MAX_FILE_LINES = 350
MAX_INIT_LINES = 40
MAX_FUNCTION_LINES = 60

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("sanawm_gym", "tests", "examples", "benchmarks", "tools")
# A function's length is a matter of the library: a test may list a long table of cases.
FUNCTION_FOLDERS = ("sanawm_gym",)


def main() -> int:
    """Print every breach and return the exit status."""
    breaches = [breach for folder in FOLDERS for breach in _breaches_in(ROOT / folder, folder)]
    for breach in breaches:
        print(breach)
    return 1 if breaches else 0


def _breaches_in(folder: Path, name: str) -> Iterator[str]:
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        shown = path.relative_to(ROOT)
        num_lines = len(text.splitlines())
        limit = MAX_INIT_LINES if path.name == "__init__.py" else MAX_FILE_LINES
        if num_lines > limit:
            yield f"{shown}: {num_lines} lines, at most {limit}: split it by noun"
        if name in FUNCTION_FOLDERS:
            yield from _long_functions(ast.parse(text), str(shown))


def _long_functions(tree: ast.AST, shown: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            num_lines = _body_lines(node)
            if num_lines > MAX_FUNCTION_LINES:
                yield (
                    f"{shown}:{node.lineno}: {node.name} has {num_lines} lines, "
                    f"at most {MAX_FUNCTION_LINES}"
                )


def _body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end, less the docstring: explaining more is never a breach."""
    num_lines = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node, clean=False) is not None:
        num_lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return num_lines


if __name__ == "__main__":
    sys.exit(main())
