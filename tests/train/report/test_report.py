"""The report: what it shows of a run, whole or not, and what a real browser makes of the page."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ingest.shards.reader import ShardSet
from pipeline.batch import Batch
from tests.conftest import ROOT
from tests.shard_folder import smooth_scene
from train.distributed import Ranks
from train.evaluate import evaluation as evaluate
from train.evaluate import extremes, tables
from train.evaluate.metrics import ConfusionMatrix
from train.log.tracking import Tracker
from train.report import build as report
from train.report import curves as report_curves
from train.report import run as report_run

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
ENVIRONMENT = {"segrail": "0.1.0", "torch": "2.x", "cpu": "2 x fast", "gpu": "none", "commit": "abc"}


def log_line(kind: str, step: int, **values: Any) -> str:
    return json.dumps({"time": 1.79e9 + step, "step": step, "kind": kind, **values}) + "\n"


def start(step: int) -> str:
    return log_line("event", step, what="start", **ENVIRONMENT)


@pytest.fixture(scope="module")
def finished(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder as the trainer's own parts write it."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "config.yaml").write_text("name: toy & co\nnet: {name: enet}\ndata: {path: shards/toy}\n")
    tracker = Tracker(folder, 0, 100)
    tracker.event(0, what="start", **ENVIRONMENT)
    for step in range(10, 101, 10):
        part = {"ce": 2 / step, "lovasz": 0.5, "loss": 2 / step + 0.5, "gradient_norm": 1.0, "memory_gb": 1.25}
        speed = {"images_per_second": 40.0, "data_wait_share": 0.01, "seconds_per_step": 0.1, "momentum": 0.9}
        tracker.scalars(step, "train", part | speed)
        tracker.scalars(step, "lr", {"head_decay": 0.01 / step, "head_no_decay": 0.01 / step})
        if step % 50 == 0:
            ious = {f"iou/class{c}": 0.1 * c for c in range(5)}
            scores = {"miou": 0.5 - step / 1000, "pixel_accuracy": 0.8, "loss": 0.7}
            tracker.scalars(step, "val", {**scores, "images_per_second": 9.0, **ious})
    tracker.close()
    shards, ranks = ShardSet(toy, "val"), Ranks(0, 1, 0, 1, torch.device("cpu"))
    matrix, keeper = ConfusionMatrix(5, "cpu"), extremes.Extremes(shards, count=2)
    for number in range(5):
        image, label = smooth_scene(40, 56, number)
        guess = np.where(np.random.default_rng(number).random(label.shape) < 0.2 * number, 1, label % 5).astype(
            np.uint8
        )
        pictures = torch.from_numpy(image).permute(2, 0, 1)[None]
        labels, guesses = torch.from_numpy(label)[None], torch.from_numpy(guess)[None]
        matrix.update(guesses, labels)
        keeper.look(Batch(pictures, labels, [f"val-{number}"]), guesses)
    found = evaluate.Evaluation(matrix.result(), 5, 1.0)
    facts = {"step": 100, "split": "val"} | tables.as_json(found, shards.manifest.classes)
    (folder / "validation.json").write_text(json.dumps(facts))
    keeper.save(folder, ranks)
    return folder


def browse(
    page: str, folder: Path, probe: str = "", width: int = 1280, shot: Path | None = None
) -> tuple[dict[str, Any], str]:
    """Opens the page in a headless browser. probe: a script that runs once all is loaded, and sets `found`.

    Returns what it found, and what the page wrote to the console.
    """
    if BROWSER is None:
        pytest.skip("needs a browser: chromium, chromium-browser or google-chrome on PATH")
    script = (
        "</body>"
        if not probe
        else (
            "<script>addEventListener('load', () => { const found = {};" + probe + ";"
            "document.documentElement.dataset.found = JSON.stringify(found); });</script></body>"
        )
    )
    file = folder / "probed.html"
    file.write_text(page.replace("</body>", script))
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    # virtual time: the page's own timers and messages are waited for
    flags += " --virtual-time-budget=2000 --disable-component-update --disable-sync --hide-scrollbars"
    flags += " --enable-logging=stderr --v=0"
    show = [f"--screenshot={shot}"] if shot else ["--dump-dom"]
    done = subprocess.run(
        [
            BROWSER,
            *flags.split(),
            f"--user-data-dir={folder / 'profile'}",
            f"--window-size={width},900",
            *show,
            file.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    console = "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)
    found = re.search(r'data-found="([^"]*)"', done.stdout)
    return json.loads(html.unescape(found[1])) if found else {}, console


ALL = """
found.ready = document.documentElement.dataset.script;
found.charts = [...document.querySelectorAll('.chart h3')].map(h => h.firstChild.textContent.trim());
found.lines = document.querySelectorAll('.chart polyline').length;
found.images = [...document.images].map(i => i.naturalWidth);
found.alts = [...document.images].filter(i => i.alt).length;
found.labels = [...document.querySelectorAll('svg[role=img]')].filter(s => s.getAttribute('aria-label')).length;
found.drawings = document.querySelectorAll('svg[role=img]').length;
found.rows = document.querySelectorAll('#classes tbody tr').length;
found.title = document.querySelector('h1').textContent;
found.tiles = [...document.querySelectorAll('.tiles div')].map(t => t.textContent);
found.loaded = performance.getEntriesByType('resource').map(e => e.name).filter(n => !n.startsWith('data:'));
found.overflow = document.documentElement.scrollWidth - innerWidth;
found.width = innerWidth;
found.pwned = window.pwned === true;
"""


def test_a_finished_run_in_a_browser(finished: Path, tmp_path: Path) -> None:
    path = report.write(finished)
    assert path == finished / "report.html" and not list(finished.glob("*.partial"))
    page = path.read_text()
    assert not re.search(r"https?:|//\w+\.\w", page), "the page names an address"
    found, console = browse(page, tmp_path, ALL)
    assert console == ""
    assert found["ready"] == "ready" and found["title"] == "toy & co" and found["loaded"] == []
    named = ["Loss", "mIoU", "Pixel accuracy", "Learning rate", "Momentum", "Speed", "Waiting for data"]
    assert found["charts"] == [*named, "Gradient norm", "Peak memory", "Time per step"]
    assert found["lines"] == 4 + 1 + 1 + 1 + 1 + 2 + 4  # loss, its parts and the validation's; the rest
    assert found["images"] == [56] * 16 and found["alts"] == 16  # 2 best and 2 worst, 4 pictures each
    assert found["labels"] == found["drawings"] == 11
    assert found["rows"] == 5 and found["overflow"] <= 0
    truth = json.loads((finished / "validation.json").read_text())
    shown = [f"{100 * truth[key]:.2f}%at step 100" for key in ("miou", "pixel_accuracy")]
    assert f"last mIoU{shown[0]}" in found["tiles"] and f"pixel accuracy{shown[1]}" in found["tiles"]
    assert {"steps100", "images/s40in training", "data wait1.0%of step time"} <= set(found["tiles"])


def test_pointing_sorting_and_arrow_keys(finished: Path, tmp_path: Path) -> None:
    probe = """
    const point = (svg, x, y) => {
      const box = svg.viewBox.baseVal, at = new DOMPoint(x, y).matrixTransform(svg.getScreenCTM());
      svg.dispatchEvent(new PointerEvent('pointermove', {clientX: at.x, clientY: at.y}));
    };
    const loss = document.querySelector('.chart'), svg = loss.querySelector('svg[tabindex]');
    found.resting = loss.querySelector('output').textContent;
    point(svg, 58 + 0.21 * (440 - 12 - 58), 100);
    found.pointed = loss.querySelector('output').textContent;
    svg.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight'}));
    found.next = loss.querySelector('output').textContent;
    svg.dispatchEvent(new PointerEvent('pointerleave'));
    found.left = loss.querySelector('output').textContent;

    const table = document.querySelector('#classes table'), rows = () => [...table.tBodies[0].rows];
    const names = () => rows().map(r => r.cells[0].textContent), ious = () => rows().map(r => +r.cells[1].dataset.v);
    found.first = names();
    const iou = table.querySelectorAll('th button')[1];
    iou.click(); found.down = ious(); found.sort = iou.parentElement.ariaSort;
    iou.click(); found.up = ious();
    table.querySelector('th button').click(); found.again = names();

    const matrix = document.querySelector('.matrix'), facts = JSON.parse(matrix.querySelector('script').textContent);
    const drawing = matrix.querySelector('svg'), middle = i => facts.margin + (i + .5) * facts.cell;
    point(drawing, middle(1), middle(2));
    found.cell = matrix.querySelector('output').textContent;
    drawing.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight'}));
    found.beside = matrix.querySelector('output').textContent;
    """
    found, console = browse(report.write(finished).read_text(), tmp_path, probe)
    assert console == ""
    assert found["pointed"] == "step 20: train 0.6, validation 0.7 (at 50), ce 0.1, lovasz 0.5"
    assert found["next"].startswith("step 30: train 0.5667,")
    assert found["left"] == found["resting"] == "step 100: train 0.52, validation 0.7, ce 0.02, lovasz 0.5"
    assert found["first"] == found["again"] == [f"class{c}" for c in range(5)]
    assert found["down"] == sorted(found["down"], reverse=True) and found["up"] == found["down"][::-1]
    assert found["sort"] == "descending"
    matrix = json.loads((finished / "validation.json").read_text())["confusion"]
    share = 100 * matrix[2][1] / sum(matrix[2])
    assert found["cell"] == (
        f"{matrix[2][1]:,} of {sum(matrix[2]):,} pixels of class2 ({share:.2f}%) were predicted as class1"
    )
    assert found["beside"].startswith(f"{matrix[2][2]:,} of") and found["beside"].endswith("as class2")


def test_a_narrow_page_does_not_overflow_and_is_drawn(finished: Path, tmp_path: Path) -> None:
    page = report.write(finished).read_text()
    # A window has a least width: the page stands in a frame of a phone's width, and tells the page around it.
    tell = f"<script>addEventListener('load', () => {{ const found = {{}};{ALL};"
    tell += "parent.postMessage(JSON.stringify(found), '*'); });</script></body>"
    (tmp_path / "inner.html").write_text(page.replace("</body>", tell))
    outer = "<!doctype html><html><body><iframe width=340 height=900 style='border:0' src=inner.html></iframe><script>"
    outer += "addEventListener('message', m => document.documentElement.dataset.found = m.data)</script></body></html>"
    found, _ = browse(outer, tmp_path)
    assert found["width"] == 340 and found["overflow"] <= 0 and found["images"] == [56] * 16
    shot = tmp_path / "narrow.png"
    browse(page, tmp_path, width=390, shot=shot)
    with Image.open(shot) as picture:
        assert picture.width == 390 and len(picture.convert("RGB").getcolors(1 << 24) or []) > 50


def test_the_browser_would_tell_of_errors_and_refuse_the_network(finished: Path, tmp_path: Path) -> None:
    """The checks above can fail: a script's error is heard, and the page's policy stops what would be loaded."""
    page = report.write(finished).read_text()
    found, console = browse(page.replace("</main>", '<img src="http://127.0.0.1:9/x.png"></main>'), tmp_path, ALL)
    assert "Content Security Policy" in console and found["images"][-1] == 0
    _, console = browse(page.replace("'use strict';", "'use strict'; nothing();"), tmp_path)
    assert "nothing is not defined" in console


def write_large(folder: Path, classes: int) -> None:
    """A long run on many classes, with names that try to break out of the page."""
    random = np.random.default_rng(0)
    names = [f"a class of a rather long name {c}" for c in range(classes)]
    names[1], names[2] = "<script>window.pwned = true</script>", "</script><img src=x onerror='window.pwned=true'>\"&"
    (folder / "config.yaml").write_text(f"name: '{names[1]}'\n# </pre>{names[2]}\ndata: {{path: /nowhere}}\n")
    lines = [start(0)]
    for step in range(20, 40001, 20):
        value = None if step == 20000 else float(random.lognormal())
        lines.append(log_line("train", step, loss=value, gradient_norm=value, **{names[1]: 1.0}))
    lines.append(log_line("val", 40000, miou=0.3, **{f"iou/{name}": 0.3 for name in names}))
    lines.append(log_line("event", 40000, what=names[2], error=names[1]))
    (folder / "log.jsonl").write_text("".join(lines))
    matrix = (random.random((classes, classes)) ** 12 * 1e6).astype(int)
    matrix[7] = 0
    iou = dict.fromkeys(names, 0.25) | {names[7]: None}
    scores = {"miou": 0.3, "pixel_accuracy": 0.5, "mean_class_accuracy": None, "loss": None}
    facts = {"step": 40000, "split": names[1], "iou": iou, "confusion": matrix.tolist(), "images": 2000, **scores}
    (folder / "validation.json").write_text(json.dumps(facts))
    images = [
        {"key": names[2], "miou": 0.1, "kind": "best", "picture": "gone.png", "columns": [], "iou": {names[1]: 0.1}}
    ]
    palette = random.integers(0, 256, (classes, 3)).tolist()
    (folder / "extremes").mkdir()
    (folder / "extremes" / "extremes.json").write_text(
        json.dumps({"classes": names, "palette": palette, "images": images})
    )


def test_171_classes_stay_small_and_hostile_names_stay_text(tmp_path: Path) -> None:
    write_large(tmp_path, 171)
    path = report.write(tmp_path)
    page = path.read_text()
    assert path.stat().st_size < 1_000_000
    assert page.count("<script>") == 1 and "<img src=x" not in page  # ours
    found, console = browse(page, tmp_path, ALL + "found.pre = document.querySelector('pre').textContent;")
    assert console == "" and found["ready"] == "ready" and not found["pwned"]
    assert found["rows"] == 171 and found["title"].startswith("<script>") and found["overflow"] <= 0
    assert found["pre"] == (tmp_path / "config.yaml").read_text()
    probe = "const b = document.querySelector('.zoom'); found.hidden = b.hidden; b.click();"
    probe += "found.wide = document.querySelector('.matrix svg').clientWidth; found.text = b.textContent"
    found, _ = browse(page, tmp_path, probe)
    assert not found["hidden"] and found["wide"] > 171 * 9 and found["text"] == "fit width"


def test_a_resumed_log_shows_each_step_once_and_only_what_counts(tmp_path: Path) -> None:
    """Killed at 45, resumed from 20 with other log steps: 30 and 40 of the first session never happened."""
    first = "".join(log_line("train", step, loss=9.0) for step in (10, 20, 30, 40))
    best = log_line("event", 40, what="best", miou=0.9) + log_line("val", 40, miou=0.9)
    again = "".join(log_line("train", step, loss=1.0) for step in (25, 35, 35, 45)) + log_line("train", 45, loss=2.0)
    cut = '{"time": 1790000050, "step": 55, "ki'
    (tmp_path / "log.jsonl").write_text(start(0) + first + best + cut + "\n" + start(20) + again)
    run = report_run.read(tmp_path)
    assert run.curve("train", "loss") == {10: 9.0, 20: 9.0, 25: 1.0, 35: 1.0, 45: 2.0}
    assert run.curve("val", "miou") == {} and [event["what"] for event in run.events] == ["start", "start"]
    assert run.seconds == 40 + 25 and "1 damaged line" in run.notes[0]
    page = report.write(tmp_path).read_text()
    assert "Dashed vertical lines" in page and page.count('class="mark"') == 1 and "in 2 sessions" in page


@pytest.mark.parametrize("missing", ["config.yaml", "log.jsonl", "validation.json", "extremes", "all but config.yaml"])
def test_what_is_missing_is_left_out(finished: Path, tmp_path: Path, missing: str) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    for name in ("log.jsonl", "validation.json", "extremes") if "all" in missing else (missing,):
        shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()
    page = report.write(folder).read_text()
    absent = {
        "config.yaml": ["config.yaml is missing"],
        "log.jsonl": ["has logged nothing yet", "The log does not say"],
        "validation.json": ["no confusion matrix", "No final validation"],
        "extremes": ["kept no images"],
        "all but config.yaml": ["logged nothing yet", "no validation scores", "no confusion matrix", "kept no images"],
    }[missing]
    assert all(words in page for words in absent)
    assert (
        page.endswith("</html>\n") and 'class="note">' not in page.replace("No final", "")
    ) or missing == "validation.json"
    if missing == "validation.json":  # the log still knows the IoUs
        assert page.count('class="bar"') == 5 and "45.00%" in page


def test_what_is_damaged_is_left_out_and_noted(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    (folder / "config.yaml").write_text("a: [")
    (folder / "validation.json").write_text('{"iou": {"a": 1}, "dice": {"a": "x"}, "confusion": [[1, 2], [3]]}')
    next((folder / "extremes").glob("best-1*")).write_bytes(b"junk")
    (folder / "log.jsonl").write_bytes(b"\xff\xfe junk\n[1]\nnull\n" + log_line("train", 5, loss=float("nan")).encode())
    page = report.write(folder).read_text()
    assert "config.yaml could not be read" in page and "<pre>a: [</pre>" in page
    assert "confusion matrix does not fit" in page and "3 damaged lines of log.jsonl" in page
    assert page.count("picture could not be read") == 1 and page.count("<img") == 3 * 4
    (folder / "validation.json").write_text("[]")
    (folder / "extremes" / "extremes.json").write_text('{"classes": ["a"]}')
    page = report.write(folder).read_text()
    assert "validation.json could not be read" in page and "extremes.json could not be read" in page
    for name, content in (
        ("validation.json", "[" * 100_000),
        ("validation.json", '{"iou": {"a": 1}, "confusion": [[-1]]}'),
        ("extremes/extremes.json", "[" * 100_000),
        ("extremes/extremes.json", _changed(finished, "miou", "high")),
        ("extremes/extremes.json", _changed(finished, "iou", {"a": 1, "b": "x"})),
        ("log.jsonl", "[" * 100_000 + "\n"),
    ):
        shutil.copytree(finished, folder, dirs_exist_ok=True)
        (folder / name).write_text(content)
        page = report.write(folder).read_text()
        assert any(
            words in page
            for words in (f"{Path(name).name} could not be read", "does not fit", "1 damaged line of log.jsonl")
        )


def _changed(run: Path, key: str, value: Any) -> str:
    """The run's extremes.json with another value in its first image."""
    facts = json.loads((run / "extremes" / "extremes.json").read_text())
    facts["images"][0][key] = value
    return json.dumps(facts)


def test_a_stopped_run_says_so_and_an_early_one_stands(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(start(0) + log_line("train", 10, loss=1.0))
    assert "has not finished" in report.write(tmp_path).read_text()
    log.write_text(log.read_text() + log_line("event", 12, what="stopped", signal=15))
    assert "Stopped at step 12 by SIGTERM" in report.write(tmp_path).read_text()


def test_what_was_monitored_stands_at_the_top(tmp_path: Path) -> None:
    best = log_line("event", 10, what="best", loss=0.5) + log_line("event", 20, what="best", loss=0.25)
    (tmp_path / "log.jsonl").write_text(start(0) + best)
    page = report.write(tmp_path).read_text()
    assert "<dt>best loss</dt><dd>0.25<small>at step 20</small>" in page
    (tmp_path / "log.jsonl").write_text(start(0) + log_line("event", 10, what="best", miou=0.5))
    assert "<dt>best" not in report.write(tmp_path).read_text()


def test_long_curves_are_thinned_to_means_with_their_extremes() -> None:
    points: dict[int, float | None] = {step: 1.0 + step % 2 for step in range(1, 2401)}
    points[1200] = 500.0
    points[7] = None
    places = report_curves.thin(points)
    assert len(places) == 240 and places[-1].step == 2400
    assert max(place.high or 0 for place in places) == 500 and places[0].value == pytest.approx(13 / 9)
    assert places[0].low == 1 and places[0].high == 2
    assert [place.step for place in report_curves.thin({5: 1.0, 9: None})] == [5, 9]
    broken = report_curves.Chart("x", "", [report_curves.Series("x", {1: 1.0, 2: 2.0, 3: None, 4: 2.0, 5: 1.0})])
    assert report_curves.figure(broken, [], 5).count("<polyline") == 2
    spiked = report_curves.Chart("x", "", [report_curves.Series("x", {1: 1.0, 2: 0.5, 3: 1.0, 4: 900.0})])
    assert "(log scale)" in report_curves.figure(spiked, [], 4)
    flat = report_curves.Chart("x", "", [report_curves.Series("x", {1: 0.0})], from_zero=True)
    assert "nan" not in report_curves.figure(flat, [], 1)


def test_rates_that_are_always_equal_share_a_line(finished: Path) -> None:
    charts = {chart.title: chart for chart in report_curves.charts(report_run.read(finished))}
    assert [series.name for series in charts["Learning rate"].series] == ["learning rate"]
    assert charts["mIoU"].best == (50, pytest.approx(45.0))


def test_a_failed_write_leaves_the_old_page(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "report.html"
    out.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError):
        report.write(finished, out)
    assert out.read_text() == "old" and list(tmp_path.iterdir()) == [out]


def test_the_command(finished: Path, tmp_path: Path) -> None:
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "train.report", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    out = tmp_path / "deep" / "page.html"
    done = call(str(finished), "--out", str(out))
    assert done.returncode == 0 and done.stdout == f"{out}\n" and "<h1>toy" in out.read_text()
    for folder, message in (
        (tmp_path / "none", "does not exist"),
        (tmp_path, "no config.yaml and no log.jsonl"),
        (out, "is a file: give its run folder"),
    ):
        done = call(str(folder))
        assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1
