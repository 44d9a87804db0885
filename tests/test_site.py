"""`make docs`: the site builds strictly, and its pages load nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

# what a browser fetches by itself: scripts, styles, pictures; not links that a reader may follow
_LOADED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc="([^"]+)"|<link\b(?![^>]*rel="?canonical)[^>]*\bhref="([^"]+)"""
)


@pytest.mark.slow
def test_pages_load_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("material")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    pages = {path.name: path.read_text() for path in (tmp_path / "site").glob("*.html")}
    assert {"index.html", "commands.html", "recipe_keys.html", "parity.html"} <= set(pages)
    loaded = {(name, a or b) for name, text in pages.items() for a, b in _LOADED.findall(text)}
    assert ("index.html", "style.css") in loaded
    assert [one for one in sorted(loaded) if re.match(r"(https?:)?//", one[1])] == []
    assert "unpkg" not in "".join(pages.values())
    assert (
        "python -m ingest folder [OPTIONS] SRC" in pages["commands.html"]
        and "augment.crop" in pages["recipe_keys.html"]
    )
