"""Files, functions and their parameters stay small enough to be read at once (CONTRIBUTING.md)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("ingest", "pipeline", "nets", "train", "bench")
LINES_A_FILE, LINES_A_FUNCTION, PARAMETERS = 300, 60, 6

# Where a limit does not hold, and why.
EXCEPTIONS = {
    "ingest/scenes/cli.py command": "click hands it each of its options as a keyword",
    "ingest/scenes/write.py write": "what tests and benches call, with names: each has a default but the folder",
    "train/predict/options.py bundled": "click hands it each of its options as a keyword, and it bundles them",
}


def functions(source: str) -> Iterator[tuple[str, int, int]]:
    """(name, lines, parameters without self and cls) of each function, also inside others."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            of = node.args
            names = [one.arg for one in (*of.posonlyargs, *of.args, *of.kwonlyargs)]
            names += [one.arg for one in (of.vararg, of.kwarg) if one]
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1, len(set(names) - {"self", "cls"})


def excesses(path: str, source: str) -> list[str]:
    """What is over a limit in a file, in words; the exceptions too."""
    found = []
    if (lines := source.count("\n")) > LINES_A_FILE:
        found.append(f"{path}: {lines} lines")
    for name, lines, parameters in functions(source):
        if lines > LINES_A_FUNCTION:
            found.append(f"{path} {name}: {lines} lines")
        if parameters > PARAMETERS:
            found.append(f"{path} {name}: {parameters} parameters")
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_files_and_functions_are_small(package: str) -> None:
    files = {str(path.relative_to(ROOT)): path.read_text() for path in sorted((ROOT / package).rglob("*.py"))}
    assert files
    found = [line for path, source in files.items() for line in excesses(path, source)]
    assert not [line for line in found if not line.startswith(tuple(EXCEPTIONS))]


def test_every_exception_is_needed() -> None:
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    found = [line for path in files for line in excesses(str(path.relative_to(ROOT)), path.read_text())]
    assert [name for name in EXCEPTIONS if not any(line.startswith(name) for line in found)] == []


def test_the_limits_themselves_have_teeth() -> None:
    long = "def f(self, a, b, *c, d, e, **g):\n" + "    x = 1\n" * 60
    assert list(functions(long)) == [("f", 61, 6)]
    assert excesses("a.py", long) == ["a.py f: 61 lines"]
    assert excesses("a.py", "def f(a, b, c, d, e, f, g): ...\n") == ["a.py f: 7 parameters"]
    assert excesses("a.py", "\n" * 301) == ["a.py: 301 lines"]
