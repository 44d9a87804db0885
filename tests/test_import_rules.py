"""Who may import whom (CONTRIBUTING.md): the data goes one way, so must the imports."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("ingest", "pipeline", "nets", "train", "bench")
CONTRACT = {"ingest.manifest", "ingest.errors"}
ALLOWED: dict[str, set[str]] = {
    "ingest": set(),
    "nets": set(),
    "pipeline": CONTRACT | {"ingest.remote"},  # shards behind a URL are staged first
    "train": CONTRACT | {"pipeline", "nets"},
    "bench": {"ingest", "pipeline", "nets", "train"},
}


def imports(source: str) -> set[str]:
    """Full dotted names of what a module imports, `from a import b` as a.b."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def forbidden(package: str, source: str) -> set[str]:
    allowed = ALLOWED[package] | {package}
    siblings = {name for name in imports(source) if name.split(".")[0] in PACKAGES}
    return {name for name in siblings if not any(name == rule or name.startswith(f"{rule}.") for rule in allowed)}


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_one_way(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    wrong = {str(path.relative_to(ROOT)): names for path in files if (names := forbidden(package, path.read_text()))}
    assert not wrong


def test_the_rule_itself_has_teeth() -> None:
    assert forbidden("nets", "from ingest.errors import UserError") == {"ingest.errors.UserError"}
    assert forbidden("pipeline", "from ingest import writer") == {"ingest.writer"}
    assert not forbidden("pipeline", "from ingest import manifest\nfrom ingest.errors import UserError")
    assert forbidden("train", "import bench.loader") == {"bench.loader"}
