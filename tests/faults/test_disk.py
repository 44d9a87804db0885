"""Disks that are full or read-only, folders that vanish, files in the way: one line, nothing half, nothing lost."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.faults.ledger import Tally
from tests.train.convert.test_convert import CONFIG

Start = Callable[[str, str], Tally]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """disk("full" | "read-only" | ...): a small file system of its own; skipped where mounting is not allowed."""
    made: list[Path] = []

    def mount(kind: str) -> Path:
        folder = tmp_path / f"disk-{kind}"
        folder.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True)
        if done.returncode:
            pytest.skip(f"mounting a tmpfs is not allowed here: {done.stderr.decode().strip()}")
        made.append(folder)
        if kind == "full":
            with contextlib.suppress(OSError), open(folder / "filler", "wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
        else:
            subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        return folder

    yield mount
    for folder in made:
        subprocess.run(["umount", "-l", folder], check=True)


def commands(raw: Path, shards: Path, best: Path, recipe: Path, out: Path) -> dict[str, list[str]]:
    """Every command that writes, each to a file or folder below `out`."""
    score = ["train.evaluate", "--checkpoint", best, "--data", shards, "--device", "cpu"]
    label = ["train.predict", "--checkpoint", best, "--images", raw / "img", "--device", "cpu"]
    bench = ["bench.loader", shards, "--rows", "read", "--seconds", 0.1, "--repeats", 1]
    words = {
        "ingest folder": ["ingest", "folder", raw, "--spec", raw / "dataset.yaml", "--out", out / "s"],
        "ingest inspect": ["ingest", "inspect", raw, "--out", out / "spec.yaml"],
        "ingest scenes": ["ingest", "scenes", out / "raw", "--layout", "folder", "--train", 2, "--val", 1],
        "ingest show": ["ingest", "show", shards, "--out", out / "sheet.png"],
        "ingest stats": ["ingest", "stats", shards, "--plot", out / "plot.png"],
        "train": ["train", "--cfg", recipe, f"output={out}"],
        "train convert": ["train", "convert", recipe.with_name("config.json"), "--out", out / "r.yaml"],
        "train schedule": ["train", "schedule", "--cfg", recipe, "--plot", out / "lr.png"],
        "train.evaluate --json": [*score, "--json", out / "scores.json"],
        "train.evaluate --report": [*score, "--report", out / "scores.html"],
        "train.evaluate --sheet": [*score, "--sheet", out / "sheet.png"],
        "train.predict": [*label, "--out", out / "masks"],
        "train.predict --polygons coco": [*label, "--polygons", "coco", "--overlay", 0, "--out", out / "masks"],
        "train.export to .onnx": ["train.export", "--checkpoint", best, "--out", out / "net.onnx"],
        "train.export to .pt2": ["train.export", "--checkpoint", best, "--out", out / "net.pt2"],
        "train.report": ["train.report", best.parent.parent, "--out", out / "report.html"],
        "bench.loader --json": [*bench, "--json", out / "rows.json"],
        "bench.loader --plot": [*bench, "--plot", out / "rows.png"],
        "bench.nets --json": ["bench.nets", "enet", "--size", 32, "--batch", 2, "--seconds", 0.1, "--json",
                              out / "nets.json"],
    }  # fmt: skip
    return {name: [str(word) for word in line] for name, line in words.items()}


SHORT = ["ingest folder", "ingest show", "train.report"]
NAMES = sorted(commands(*[Path("x")] * 5))


def call(words: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [sys.executable, "-m", *words], capture_output=True, text=True, cwd=cwd, env=environment, timeout=280
    )


def one_line(done: subprocess.CompletedProcess[str], out: Path) -> bool:
    """One line of error, which names a file below `out`; exit code 2."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("error")]
    return done.returncode == 2 and len(lines) == 1 and str(out) in lines[0] and "Traceback" not in done.stderr


@pytest.fixture
def words(
    request: pytest.FixtureRequest,
    many: Callable[[int, int], int],
    raw: Path,
    toy: Path,
    raw_recipe: dict,
    tmp_path: Path,
) -> Callable[[str, Path], list[str]]:
    """The command of this name, to write below this folder; only the quick ones in the short part."""

    def made(name: str, out: Path) -> list[str]:
        if name not in SHORT and not many(0, 1):
            pytest.skip("in the long part: make faults")
        best = request.getfixturevalue("trained") if name.startswith("train.") else Path("none")
        recipe = tmp_path / "r.yaml"
        recipe.write_text(yaml.safe_dump(raw_recipe))
        (tmp_path / "config.json").write_text(json.dumps(CONFIG))
        return commands(raw, toy, best, recipe, out)[name]

    return made


@pytest.mark.parametrize("kind", ["full", "read-only"])
@pytest.mark.parametrize("name", NAMES)
def test_disks(name: str, kind: str, disk: Callable[[str], Path], words, tally: Start, tmp_path: Path) -> None:
    line = words(name, tmp_path / f"disk-{kind}")
    count = tally("Disk and permissions", f"`{name}` on a {kind} disk: one line, nothing half")
    folder = disk(kind)
    before = sorted(folder.rglob("*"))
    done = call(line, tmp_path)
    left = [path for path in folder.rglob("*") if path not in before and path.is_file() and path.stat().st_size]
    halves = [path for path in left if path.suffix in (".png", ".html", ".onnx", ".pt2", ".pt", ".json", ".yaml")]
    count.refused(one_line(done, folder) and not halves, f"{done.returncode} {done.stderr[-900:]} {left}")


@pytest.mark.parametrize("name", NAMES)
def test_a_file_in_the_way(name: str, words, tally: Start, tmp_path: Path) -> None:
    """A part of the path to be written is a file."""
    (tmp_path / "a").write_text("mine")
    line = words(name, tmp_path / "a")
    count = tally("Disk and permissions", f"`{name}` where a file stands in the way: one line, the file stays")
    done = call(line, tmp_path)
    count.refused(one_line(done, tmp_path / "a") and (tmp_path / "a").read_text() == "mine", done.stderr[-900:])


@pytest.mark.parametrize("name", NAMES)
def test_denied(name: str, words, tally: Start, tmp_path: Path) -> None:
    """A folder that may not be written to: an immutable one, which even root cannot."""
    folder = tmp_path / "denied"
    folder.mkdir()
    line = words(name, folder)
    if not shutil.which("chattr") or subprocess.run(["chattr", "+i", folder], capture_output=True).returncode:
        pytest.skip("chattr +i is not possible on this file system")
    count = tally("Disk and permissions", f"`{name}` where writing is denied: one line")
    try:
        done = call(line, tmp_path)
        count.refused(one_line(done, folder) and not list(folder.iterdir()), done.stderr[-900:])
    finally:
        subprocess.run(["chattr", "-i", folder], check=True)


@pytest.mark.parametrize("name", NAMES)
def test_the_input_is_gone(name: str, words, tally: Start, tmp_path: Path) -> None:
    """Every path of the command line that was to be read leads nowhere."""
    line = words(name, tmp_path / "out")
    if name in ("ingest scenes", "bench.nets --json"):
        pytest.skip("it reads nothing")
    (tmp_path / "out").mkdir()
    gone = [f"{word}.gone" if Path(word).exists() and Path(word).is_absolute() else word for word in line]
    count = tally("Disk and permissions", f"`{name}` whose input is gone: one line, nothing written")
    done = call(gone, tmp_path)
    lines = [text for text in done.stderr.splitlines() if text.lower().startswith("error")]
    told = done.returncode == 2 and len(lines) == 1 and ".gone" in lines[0] and "Traceback" not in done.stderr
    count.refused(told and not [path for path in (tmp_path / "out").rglob("*") if path.is_file()], done.stderr[-900:])


def test_the_gallery(disk: Callable[[str], Path], tally: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is dropped in is kept in the temporary folder while it is read."""
    pytest.importorskip("fastapi", reason="the gallery needs the extra `view`")
    from starlette.testclient import TestClient

    from train.view.app import app
    from train.view.gallery import Gallery

    count = tally(
        "Disk and permissions", "`train.view` where the temporary folder is full or read-only: the page says so"
    )
    gallery = Gallery(None, None, None, {})  # type: ignore[arg-type]  # it comes to none of them
    for kind, words in (("full", "No space left"), ("read-only", "Read-only file system")):
        folder = disk(kind)
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        client = TestClient(app(gallery, "token", "127.0.0.1"), base_url="http://127.0.0.1")
        answer = client.post("/segment?token=token", content=bytes(100_000))
        left = [path.name for path in folder.iterdir() if path.name != "filler"]
        told = answer.status_code == 507 and words in answer.text and str(folder) in answer.text
        count.refused(told and not left, f"{kind}: {answer.status_code} {answer.text} {left}")


def test_what_is_printed(toy: Path, tally: Start, many: Callable[[int, int], int]) -> None:
    """Redirected to a file on a full disk, or to a program that ends before it has read all."""
    if not many(0, 1):
        pytest.skip("in the long part: make faults")
    count = tally(
        "Disk and permissions", "output redirected to a full disk: one line; to a program that has ended: quiet"
    )
    for line in (["ingest", "stats", str(toy), "--json"], ["train", "keys"], ["train", "recipes"]):
        command = [sys.executable, "-m", *line]
        with open("/dev/full", "wb") as full:
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT, timeout=200)
        told = done.returncode == 2 and done.stderr.startswith("error: No space left") and done.stderr.count("\n") == 1
        count.refused(told, f"{line}: {done.returncode} {done.stderr[-500:]}")
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, cwd=ROOT, timeout=200)
        os.close(writing)
        count.check(done.stderr == "", f"{line} into a closed pipe: {done.returncode} {done.stderr[-500:]}")
