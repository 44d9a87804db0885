"""A run's report: one HTML file that needs nothing else, to open, print or send on.

python -m train.report saved/camvid_enet/2026-11-22_22-25-01
"""

from __future__ import annotations

import signal
from html import escape
from pathlib import Path
from typing import Any

from ingest.shards import atomic, folders
from train.report import run as report_run
from train.report.classes import class_table, confusion
from train.report.curves import best_miou, charts, figure
from train.report.images import images
from train.report.page import page
from train.report.run import RunRecord
from train.report.text import duration, moment, number, percent

FILE = "report.html"


def write(run_folder: Path, out: Path | None = None) -> Path:
    """Writes <run_folder>/report.html (or `out`), atomically, from what the folder holds; returns its path.

    It reads config.yaml, log.jsonl, validation.json and extremes/; any of them may be missing. UserError when the
    folder is no run folder. Raises OSError.
    """
    path = out or run_folder / FILE
    content = render(report_run.read(run_folder))
    path.parent.mkdir(parents=True, exist_ok=True)
    # replace: a log may hold half a character, which UTF-8 cannot
    atomic.write_bytes(path, content.encode("utf-8", errors="replace"))
    return path


def render(run: RunRecord) -> str:
    """The page of a run."""
    resumed = [start["step"] for start in run.starts if start["step"]]
    figures = [figure(chart, resumed, run.last_step) for chart in charts(run)]
    hint = "Dashed vertical lines: the run was resumed. " if resumed else ""
    if any("<polygon" in drawn for drawn in figures):
        hint += "Lines are means of stretches, pale bands reach from their lowest to their highest value. "
    curves = f'<p>{hint}Point at a curve, or use the arrow keys, for its values.</p><div class="charts">{{}}</div>'
    sections = [
        ("Curves", curves.format("".join(figures)) if figures else "<p>The run has logged nothing yet.</p>"),
        ("Classes", _scored_on(run) + class_table(run)),
        ("Confusion", confusion(run)),
        ("Images", images(run)),
        ("Recipe", f"<pre>{escape(run.recipe)}</pre>" if run.recipe else "<p>config.yaml is missing.</p>"),
        ("Environment", _environment(run)),
    ]
    title = f"{_title(run)}: training report"
    footer = f"Written by segrail {escape(str(_environment_of(run).get('segrail', '')))} from {escape(str(run.folder))}"
    return page(title, _header(run), sections, footer)


def _title(run: RunRecord) -> str:
    return str(run.config.get("name") or run.folder.resolve().name)


def _header(run: RunRecord) -> str:
    net, data = (run.config.get(section) for section in ("net", "data"))
    facts = []
    if isinstance(net, dict):
        facts.append(" on ".join(str(net[key]) for key in ("name", "backbone") if net.get(key)))
    if isinstance(data, dict) and data.get("path"):
        path = data["path"]
        facts.append(folders.shown(folders.checked(path, "data.path")) if isinstance(path, list) else str(path))
    if run.starts:
        first, last = run.starts[0], run.starts[-1]
        device = last.get("gpu") if last.get("gpu") not in (None, "none") else last.get("cpu", "")
        ranks = f"{last['ranks']} ranks, " if last.get("ranks", 1) != 1 else ""
        facts += [f"{ranks}{device}", moment(first["time"])]
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in [*_state(run), *run.notes])
    tiles = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(more)}</small></dd></div>"
        for name, value, more in _tiles(run)
    )
    return (
        f'<h1>{escape(_title(run))}</h1><div class="sub">{" · ".join(escape(fact) for fact in facts if fact)}</div>'
        f'<dl class="tiles">{tiles}</dl>{notes}'
    )


def _tiles(run: RunRecord) -> list[tuple[str, str, str]]:
    """The key numbers: (name, value, remark). Those that the run has."""
    tiles = []
    last_step, last_miou = next(reversed(run.curve("val", "miou").items()), (0, None))
    scored = run.validation.get("step", 0) if run.validation else -1
    if run.validation and scored >= last_step:
        last_step, last_miou = scored, run.validation["miou"]
    best = best_miou(run) or ((last_step, last_miou) if last_miou is not None else None)
    if best and last_miou is not None and last_miou > best[1]:
        best = last_step, last_miou
    if best:
        tiles.append(("best mIoU", percent(best[1]), f"at step {best[0]:,}"))
    if last_miou is not None:
        tiles.append(("last mIoU", percent(last_miou), f"at step {last_step:,}"))
    accuracy = run.validation.get("pixel_accuracy")
    if accuracy is not None:
        tiles.append(("pixel accuracy", percent(accuracy), f"at step {scored:,}"))
    tiles += _monitored(run)
    tiles.append(("steps", f"{run.last_step:,}", ""))
    if run.seconds:
        count = len(run.starts)
        tiles.append(("time", duration(run.seconds), f"in {count} sessions" if count > 1 else "with validation"))
    speed, wait = _speed(run)
    if speed is not None:
        tiles.append(("images/s", number(float(f"{speed:.4g}")), "in training"))
    if wait is not None:
        tiles.append(("data wait", f"{100 * wait:.1f}%", "of step time"))
    return tiles


def _monitored(run: RunRecord) -> list[tuple[str, str, str]]:
    """What made best.pt the best, where that was not the mIoU."""
    marks = [event for event in run.events if event.get("what") == "best"]
    if not marks:
        return []
    return [
        (f"best {name}", number(value) if name == "loss" else percent(value), f"at step {marks[-1]['step']:,}")
        for name, value in marks[-1].items()
        if name not in ("time", "step", "kind", "what", "miou") and isinstance(value, (int, float))
    ]


def _speed(run: RunRecord) -> tuple[float | None, float | None]:
    """Images a second and the share of time spent waiting, over the whole run; each stretch counts by its seconds."""
    rates, waits = run.curve("train", "images_per_second"), run.curve("train", "data_wait_share")
    each = run.curve("train", "seconds_per_step")
    before, seconds, images, waited = 0, 0.0, 0.0, 0.0
    for step, rate in rates.items():
        length = (step - before) * (each.get(step) or 0.0)
        before = step
        if rate is not None and length > 0:
            seconds, images = seconds + length, images + rate * length
            waited += (waits.get(step) or 0.0) * length
    if not seconds:
        return None, None
    return images / seconds, waited / seconds if waits else None


def _state(run: RunRecord) -> list[str]:
    """What the reader must know before reading on."""
    stops = [event for event in run.events if event.get("what") == "stopped"]
    if stops and stops[-1]["step"] >= run.last_step and run.events[-1] is stops[-1]:
        try:
            name = signal.Signals(int(stops[-1]["signal"])).name
        except (KeyError, ValueError, TypeError):
            name = "a signal"
        return [f"Stopped at step {run.last_step:,} by {name}: go on with --resume auto."]
    if run.validation and run.validation.get("step", run.last_step) < run.last_step:
        return [f"The scores by class are of step {run.validation['step']:,}, the run is at {run.last_step:,}."]
    if not run.validation and run.curve("train", "loss"):
        return [
            f"No final validation: the run is at step {run.last_step:,}, and has not finished or has no split to score."
        ]
    return []


def _scored_on(run: RunRecord) -> str:
    if not run.validation:
        return ""
    split, count = run.validation.get("split"), run.validation.get("images")
    what = [f"split {split}"] if split else []
    what += [f"{count:,} whole images"] if isinstance(count, int) else []
    what += [f"step {run.validation['step']:,}"] if "step" in run.validation else []
    counted, classes = run.validation.get("miou_classes"), len(run.validation["iou"])
    what += [f"mIoU over {counted} of {classes} classes"] if isinstance(counted, int) and counted < classes else []
    mean = run.validation["mean_class_accuracy"]
    what += [f"mean recall {percent(mean)}"] if mean is not None else []
    return f"<p>{escape(', '.join(what))}. A click on a heading sorts.</p>"


def _environment_of(run: RunRecord) -> dict[str, Any]:
    """Of the last session."""
    own = ("time", "step", "kind", "what")
    return {key: value for key, value in run.starts[-1].items() if key not in own} if run.starts else {}


def _environment(run: RunRecord) -> str:
    facts = "".join(f"<dt>{escape(k)}</dt><dd>{escape(str(v))}</dd>" for k, v in _environment_of(run).items())
    parts = [f'<dl class="facts">{facts}</dl>' if facts else "<p>The log does not say.</p>"]
    events = [event for event in run.events if event.get("what") != "best"]
    if len(events) > 1:
        rows = []
        for event in events[-50:]:
            more = {k: v for k, v in event.items() if k not in ("time", "step", "kind", "what")}
            said = f"commit {more.get('commit', 'unknown')}" if event.get("what") == "start" else _plain(more)
            rows.append(
                f"<tr><td class=name>{moment(event['time'])}</td><td>{event['step']:,}</td>"
                f"<td class=name>{escape(str(event.get('what', '')))}</td><td class=name>{escape(said)}</td></tr>"
            )
        head = "<tr><th class=name>time</th><th>step</th><th class=name>event</th><th class=name></th></tr>"
        table = f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"
        parts.append(f'<h3>Events</h3><div class="scroll">{table}</div>')
    return "".join(parts)


def _plain(facts: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in facts.items())
