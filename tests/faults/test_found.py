"""Faults that were found by hand once, each kept as a case: one line, no hang, no memory taken for a claim."""

from __future__ import annotations

import io
import json
import os
import signal
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import nets
from ingest.datasets.folder import load_spec
from ingest.errors import UserError, explain
from tests.faults.ledger import Tally
from tests.ingest.pixels.test_tiff import CLAIMS, png_claim
from train import config
from train.predict.command import command
from train.report import build as report

Start = Callable[[str, str], Tally]
SECTION = "Found before"
DIGITS = "9" * 5000

SPECS: dict[str, str] = {
    "range of a huge integer": f"range: [0, 1{'0' * 400}]",
    "range from nan": "range: [.nan, 1]",
    "bands: true": "bands: true",
    "a tag of another type": "range: !!bool z",
    "a time that is none": "name: !!timestamp x",
    "an integer that is none": "name: !!int x",
    "5,000 digits": f"ignore: [{DIGITS}]",
    "3,000 brackets": f"ignore: {'[' * 3000}",
    "100 kB as a value": f"bands: '{'x' * 100_000}'",
    "a glob that no name fits": "splits: {train: {images: 'img/[z-a].png', labels: 'lbl/*.png'}}",
    "a split's name of 250 letters": f"splits: {{{'t' * 250}: {{images: 'img/*.png', labels: 'lbl/*.png'}}}}",
}

OVERRIDES = [
    "augment.base_size=1e20", f"augment.base_size=1{'0' * 20}", "net.options={name: x}",
    f"optimizer.accumulate=1{'0' * 20}", "data.prefetch=1000000", f"data.batch_size={DIGITS}", "seed=!!int x",
    f"name={'x' * 100_000}", "train.steps=.nan", "data.threads=-1",
]  # fmt: skip


def one_line(count: Tally, what: str, work: Callable[[], Any]) -> None:
    """work() must raise what the command line tells in one line of moderate length."""
    try:
        work()
        count.lost.append(f"{what}: taken")
    except Exception as error:
        told = explain(error)
        count.refused(told is not None and "\n" not in told[0] and len(told[0]) < 2100, f"{what}: {error!r:.300}")


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """What hangs is lost: TimeoutError after so many seconds."""

    def end(*_: object) -> None:
        raise TimeoutError(f"no end after {seconds} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_specs(tmp_path: Path, tally: Start, quick: Any) -> None:
    count = tally(SECTION, "values of specs that ended in a traceback, or were taken")
    base = {"name": "x", "classes": "[a, b]", "splits": "{train: {images: 'i/*', labels: 'l/*.png'}}"}
    path = tmp_path / "spec.yaml"

    def attempt(line: str) -> None:
        key, _, value = line.partition(": ")
        path.write_text("\n".join(f"{k}: {v}" for k, v in (base | {key: value}).items()))
        load_spec(str(path))

    for what, line in SPECS.items():
        if what.startswith("a glob"):
            continue
        one_line(count, what, lambda line=line: attempt(line))
    path.write_bytes("name: caf\u00e9\nclasses: [a]\n".encode("latin-1"))
    one_line(count, "Latin-1", lambda: load_spec(str(path)))
    path.write_text("name: x\nclasses: [~, b]\nsplits: {train: {images: 'i/*', labels: 'l/*.png'}}\n")
    count.check(load_spec(str(path)).classes == ["~", "b"], "a class ~ is named otherwise")
    (tmp_path / "g" / "img").mkdir(parents=True)
    (tmp_path / "g" / "img" / "y.png").write_bytes(png())
    path.write_text(f"name: x\nclasses: [a, b]\n{SPECS['a glob that no name fits']}\n")
    done = quick("folder", tmp_path / "g", "--spec", path, "--out", tmp_path / "out")
    count.refused(done.returncode == 2 and done.stderr.count("\n") == 1 and "[z-a]" in done.stderr, done.stderr[-300:])


def test_overrides(tally: Start) -> None:
    count = tally(SECTION, "values of recipes that ended in a traceback, or made the run hopeless")
    for override in OVERRIDES:
        one_line(count, override[:60], lambda override=override: build_net(override))


def build_net(override: str) -> None:
    """As far as a command goes before it trains: the recipe, and a net of its options."""
    recipe = config.load("scenes_enet", [override])
    try:
        nets.build(recipe.net.name, num_classes=3, **nets.all_options(recipe.net.name, recipe.net.options))
    except nets.NetError as error:
        raise UserError(str(error)) from error


HEIGHT, WIDTH = 20, 30


def png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "bad.png")


def endless(folder: Path) -> None:
    (folder / "bad.png").symlink_to("/dev/zero")


def dangling(folder: Path) -> None:
    (folder / "bad.png").symlink_to("/nowhere/x.png")


def no_utf8(folder: Path) -> None:
    with open(os.fsencode(folder) + b"/bad\xff.png", "wb") as file:
        file.write(png())


def line_feed(folder: Path) -> None:
    (folder / "bad\nname.png").write_bytes(b"no image")


def claiming(kind: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "bad.tif").write_bytes(CLAIMS[kind])


BAD: dict[str, Callable[[Path], object]] = {
    "a pipe": pipe,
    "a link to /dev/zero": endless,
    "a dangling link": dangling,
    "junk under a name with a line feed": line_feed,
    **{f"a TIFF that claims {kind}": claiming(kind) for kind in CLAIMS},
}


def ingest_beside_a_good_one(make: Callable[[Path], object], folder: Path, quick: Any, *options: str) -> Any:
    """`ingest folder` on a good image and what `make` makes, each with a label; it must end within a minute."""
    for kind in ("i", "l"):
        (folder / kind).mkdir(parents=True)
    make(folder / "i")
    (folder / "i" / "good.png").write_bytes(png())
    label = np.indices((HEIGHT, WIDTH)).sum(axis=0).astype(np.uint8) % 2
    for image in list((folder / "i").iterdir()):
        Image.fromarray(label).save(folder / "l" / "label.png")
        os.rename(folder / "l" / "label.png", os.fsencode(folder / "l") + b"/" + os.fsencode(image.stem) + b".png")
    (folder / "spec.yaml").write_text("name: x\nclasses: [a, b]\nsplits: {train: {images: 'i/*', labels: 'l/*.png'}}\n")
    with limited(60):
        return quick("folder", folder, "--spec", folder / "spec.yaml", "--out", folder / "out", *options)


def samples(folder: Path) -> int:
    return json.loads((folder / "out" / "dataset.json").read_text())["splits"]["train"]["samples"]


@pytest.mark.parametrize("name", BAD)
def test_files(name: str, tmp_path: Path, quick: Any, tally: Start) -> None:
    count = tally(SECTION, f"{name} among the images: refused by name, left out by `--skip-bad`")
    done = ingest_beside_a_good_one(BAD[name], tmp_path / "a", quick)
    told = done.returncode == 2 and done.stderr.startswith("error: i/bad") and done.stderr.count("\n") == 1
    count.refused(told and not (tmp_path / "a" / "out").exists(), done.stderr[-400:])
    done = ingest_beside_a_good_one(BAD[name], tmp_path / "b", quick, "--skip-bad")
    count.refused(done.returncode == 0 and samples(tmp_path / "b") == 1, done.stderr[-400:])


def test_a_name_that_is_no_utf8(tmp_path: Path, quick: Any, tally: Start) -> None:
    count = tally(SECTION, "a file's name that is no UTF-8: ingested like any other")
    for number, options in enumerate(((), ("--skip-bad",))):
        done = ingest_beside_a_good_one(no_utf8, tmp_path / str(number), quick, *options)
        count.check(done.returncode == 0 and samples(tmp_path / str(number)) == 2, ascii(done.stderr[-400:]))


def test_an_archive_that_unpacks_to_gigabytes(tmp_path: Path, quick: Any, tally: Start) -> None:
    count = tally(SECTION, "a .tar.gz that unpacks to far more than it is")
    for kind in ("i", "l"):
        (tmp_path / "raw" / kind).mkdir(parents=True)
    with tarfile.open(tmp_path / "raw" / "i.tar.gz", "w:gz", compresslevel=1) as held:
        info = tarfile.TarInfo("x.png")
        info.size = 300 << 20
        held.addfile(info, io.BytesIO(bytes(300 << 20)))
    spec = "name: x\nclasses: [a, b]\nsplits: {train: {images: 'i.tar.gz/*', labels: 'l/*.png'}}\n"
    (tmp_path / "raw" / "spec.yaml").write_text(spec)
    with limited(100):
        done = quick("folder", tmp_path / "raw", "--spec", tmp_path / "raw" / "spec.yaml", "--out", tmp_path / "out")
    told = done.returncode == 2 and done.stderr.count("\n") == 1 and "i.tar.gz" in done.stderr
    count.refused(told, done.stderr[-400:])


def test_reports(tmp_path: Path, tally: Start) -> None:
    """Hand-broken files of a run: left out and noted, or refused."""
    count = tally(SECTION, "hand-broken validation.json and extremes.json in the report")
    broken = ["[]", "3", "null", '"x"', "{", '{"iou": 3}', '{"iou": {"a": "x"}, "confusion": [[1]]}', "[[1, 2], 3]",
              '{"images": 3}', '{"images": [3]}', '{"classes": 3, "palette": 3, "images": [{}]}']  # fmt: skip
    for number, text in enumerate(broken):
        for name in ("validation.json", "extremes/extremes.json"):
            folder = tmp_path / f"{number}-{name[0]}"
            (folder / "extremes").mkdir(parents=True)
            (folder / "config.yaml").write_text("name: x\n")
            (folder / name).write_text(text)
            try:
                count.check(report.write(folder).stat().st_size > 0, f"{name}: {text}")
            except UserError as error:
                count.refused("\n" not in str(error), f"{name}: {text}: {error}")


def test_a_picture_of_too_many_pixels_in_prediction(trained: Path, tmp_path: Path, tally: Start) -> None:
    count = tally(SECTION, "prediction of a picture that claims 400 million pixels")
    (tmp_path / "x.png").write_bytes(png_claim(20_000, 20_000))
    words = ["--checkpoint", trained, "--images", tmp_path / "x.png", "--out", tmp_path / "out", "--device", "cpu"]
    done = CliRunner().invoke(command, [str(word) for word in words])
    told = "1 file failed" in done.output and "pixels an image, 400,000,000: cut it" in done.output
    count.refused(told, f"{done.exception!r} {done.exit_code} {done.output[-400:]}")
