"""Who may import whom (CONTRIBUTING.md): the data goes one way, so must the imports; and no circles anywhere."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("ingest", "pipeline", "nets", "train", "bench")
CONTRACT = {"ingest.shards", "ingest.errors"}
ALLOWED: dict[str, set[str]] = {
    "ingest": set(),
    "nets": set(),
    "pipeline": CONTRACT,
    "train": CONTRACT | {"pipeline", "nets"},
    "bench": {"ingest", "pipeline", "nets", "train"},
}
# Prediction reads raw files by the very functions that ingest used.
READS_RAW_FILES = {"train/predict": {"ingest.pixels"}}
# What each package builds on, directly or not; all others are higher rooms.
BELOW = {
    "ingest": set(),
    "nets": set(),
    "pipeline": {"ingest"},
    "train": {"ingest", "nets", "pipeline"},
    "bench": {"ingest", "nets", "pipeline", "train"},
}


def imports(source: str) -> set[str]:
    """Full dotted names of what a module imports, at any depth, `from a import b` as a.b."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def forbidden(package: str, source: str, also: set[str] = frozenset()) -> set[str]:  # type: ignore[assignment]
    allowed = ALLOWED[package] | {package} | also
    siblings = {name for name in imports(source) if name.split(".")[0] in PACKAGES}
    return {name for name in siblings if not any(name == rule or name.startswith(f"{rule}.") for rule in allowed)}


def sources(*packages: str) -> dict[str, str]:
    """Path relative to the root -> source, of every module of these packages."""
    return {str(p.relative_to(ROOT)): p.read_text() for name in packages for p in sorted((ROOT / name).rglob("*.py"))}


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_one_way(package: str) -> None:
    files = sources(package)
    assert files
    wrong = {}
    for path, source in files.items():
        also = {rule for folder, rules in READS_RAW_FILES.items() if path.startswith(folder) for rule in rules}
        if names := forbidden(package, source, also):
            wrong[path] = names
    assert not wrong


def arrows(files: dict[str, str]) -> dict[str, set[str]]:
    """Module -> the modules of ours that it imports, at any depth: inside functions and under TYPE_CHECKING, too."""
    modules = {path.removesuffix(".py").replace("/", ".").removesuffix(".__init__"): path for path in files}
    found: dict[str, set[str]] = {}
    for module, path in modules.items():
        names = imports(files[path])
        # `from a.b import c` needs a.b.c where that is a module, else a.b.
        found[module] = {name if name in modules else name.rpartition(".")[0] for name in names} & set(modules)
        found[module].discard(module)
    return found


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that reach each other (Tarjan's strongly connected components of more than one)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def test_no_files_import_each_other() -> None:
    assert circles(arrows(sources(*PACKAGES))) == []


def strings(source: str) -> set[str]:
    """Every string constant that is no docstring."""
    tree = ast.parse(source)
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    return {
        n.value
        for n in ast.walk(tree)
        if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in docs
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_no_room_names_a_higher_room(package: str) -> None:
    """Neither its modules (`train.loop`) nor its folders (`train/recipes`); a command in a message may be named."""
    higher = set(PACKAGES) - BELOW[package] - {package}
    if package in ("ingest", "nets"):
        higher -= {"nets", "ingest"}  # siblings, neither above the other
    paths = {f"{name}{mark}{p.stem}" for name in higher for mark in "./" for p in (ROOT / name).iterdir()}
    wrong = {
        f"{path}: {text!r}"
        for path, source in sources(package).items()
        for text in strings(source)
        if "python -m" not in text and "`" not in text and any(text.startswith(name) for name in paths)
    }
    assert not wrong


def test_the_rules_themselves_have_teeth() -> None:
    assert forbidden("nets", "from ingest.errors import UserError") == {"ingest.errors.UserError"}
    assert forbidden("pipeline", "from ingest import writer") == {"ingest.writer"}
    assert not forbidden("pipeline", "from ingest.shards import manifest\nfrom ingest.errors import UserError")
    assert forbidden("train", "import bench.loader") == {"bench.loader"}
    assert forbidden("train", "from ingest.pixels import rasters") == {"ingest.pixels.rasters"}
    lazy = {"a/x.py": "def f():\n    from a import y", "a/y.py": "import a.z", "a/z.py": "from a.x import f"}
    assert circles(arrows(lazy)) == [["a.x", "a.y", "a.z"]]
    assert circles(arrows({**lazy, "a/z.py": ""})) == []
    assert strings('"""train/recipes"""\nx = "train/recipes"') == {"train/recipes"}
    assert strings('"""train/recipes"""') == set()
