"""Tables of what `bash bench/on_gpu.sh` found: `python -m bench.gpu_report FOLDER`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from bench.gpu.__main__ import STAGES
from bench.results import table
from ingest.errors import UserError, run
from ingest.shards import atomic

Result = Mapping[str, Any]


def report(folder: Path) -> str:
    """The whole page, Markdown. UserError when the folder holds no stage's results."""
    found = {stage: _read(folder / f"{stage}.json") for stage in STAGES}
    if not any(found.values()):
        raise UserError(f"{folder} holds no results: make them with `bash bench/on_gpu.sh {folder}`")
    devices = {facts.get("device") for facts in found.values() if facts and facts["ok"]}
    lines = ["# Tried out on a CPU" if "cpu" in devices else "# Measured on a GPU", ""]
    for stage, facts in found.items():
        if facts and facts["ok"] and stage in _TABLES:
            title, table = _TABLES[stage]
            lines += [f"## {title}", "", *table(facts["result"]), ""]
            if facts.get("quick"):
                lines += ["With --quick: to see that it works, not how fast.", ""]
    missing = [
        [stage, facts.get("error", "") if facts else "did not run"]
        for stage, facts in found.items()
        if not facts or not facts["ok"]
    ]
    if missing:
        lines += ["## Stages without a result", "", *_table(["stage", "why"], missing), ""]
    return "\n".join(lines)


def _read(path: Path) -> Result | None:
    try:
        facts = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        return {"ok": False, "error": f"{path.name} is no JSON: {error}"}
    if not isinstance(facts, dict) or "ok" not in facts or (facts["ok"] and "result" not in facts):
        return {"ok": False, "error": f"{path.name} is no result of a stage"}
    return facts


def _versions(result: Result) -> list[str]:
    return _table(["what", "version"], [[name, value] for name, value in result["versions"].items()])


def _smoke(result: Result) -> list[str]:
    rows = [[one["thread"], f"{one['cpu_ms_per_image']:.3f}"] for one in result["threads"]]
    return [f"{result['images_per_second']:,.0f} images/s.", "", *_table(["thread", "CPU ms an image"], rows)]


def _streams(result: Result) -> list[str]:
    head = ["augmentations", "mean difference", "98% within", "most", "labels that differ"]
    rows = [
        [name, f"{one['mean']:.2f}", f"{one['p98']:.0f}", one["most"], f"{one['labels_that_differ']:.3%}"]
        for name, one in result.items()
    ]
    return ["Gray levels, CPU device against GPU device.", "", *_table(head, rows)]


def _decoders(result: Result) -> list[str]:
    head = ["hw_decoder_load", "fancy upsampling", "images/s", "mean difference", "98% within", "most"]
    rows = [
        [
            one["hw_decoder_load"],
            "on" if one["fancy"] else "off",
            f"{one['images_per_second']:,.0f}",
            f"{one['mean']:.2f}",
            f"{one['p98']:.0f}",
            one["most"],
        ]
        for one in result["rows"]
    ]
    return [f"{result['files']}; gray levels against the CPU device's decoder.", "", *_table(head, rows)]


def _reuse(result: Result) -> list[str]:
    head = ["batches", "of them changed before a late use", "sums, most apart from the CPU's"]
    rows = [
        [f"{name}: {one['batches']}", one["changed_before_use"], f"{one['most_from_cpu']:.2%}"]
        for name, one in result.items()
    ]
    return _table(head, rows)


def _capture(result: Result) -> list[str]:
    rows = [
        [mode, one.get("error") or f"{one['replays']} replays, at most {one['most_from_eager']:.1e} from eager"]
        for mode, one in result.items()
    ]
    return _table(["capture_error_mode", "beside a live loader"], rows)


def _gradients(result: Result) -> list[str]:
    ways = list(next(iter(result.values())))
    rows = [[way, *(f"{errors[way]:.1e}" for errors in result.values())] for way in ways]
    return ["Error of the gradient, relative to float64.", "", *_table(["", *result], rows)]


def _resident(result: Result) -> list[str]:
    head = [
        "augmentations",
        "mean difference",
        "98% within",
        "most",
        "labels that differ",
        "crops, images/s",
        "decoding s",
    ]
    rows = [
        [
            name,
            f"{one['mean']:.2f}",
            f"{one['p98']:.0f}",
            one["most"],
            f"{one['labels_that_differ']:.3%}",
            f"{one['images_per_second']:,.0f}",
            f"{one['first_batch_s']:.1f}",
        ]
        for name, one in result.items()
    ]
    return ["Gray levels, against the CPU device.", "", *_table(head, rows)]


def _levers(result: Result) -> list[str]:
    rows = [
        [name, one["error"], "", ""]
        if "error" in one
        else [name, f"{one['images_per_second']:,.1f}", f"{one['wait_share']:.1%}", f"{one.get('gpu_mb', 0):.0f}"]
        for name, one in result.items()
    ]
    return _table(["net: key", "images/s", "wait", "GPU MB"], rows)


def _loader(result: Result) -> list[str]:
    lines = []
    for title, one in result.items():
        if "error" in one:
            lines += [f"{title}: {one['error']}", ""]
            continue
        head = ["row", "images/s", "of the limit", "CPU ms an image", "GPU MB"]
        rows = [
            [
                row,
                f"{facts['images_per_second']:,.0f}",
                f"{facts['share_of_limit']:.2f}" if "share_of_limit" in facts else "-",
                f"{1000 * facts['cpu_seconds_per_image']:.2f}",
                f"{facts.get('gpu_mb', 0):.0f}",
            ]
            for row, facts in one["rows"].items()
        ]
        lines += [f"{title}. {one['bound']}", "", *_table(head, rows), ""]
    return lines[:-1]


def _training(result: Result) -> list[str]:
    lines = []
    for title, found in result.items():
        if "error" in found:
            lines += [f"{title}: {found['error']}", ""]
            continue
        head = ["row", "images/s", "of cached", "x naive", "wait", "CPU ms an image", "GPU MB"]
        rows = [
            [
                row,
                f"{facts['images_per_second']:,.1f}",
                f"{facts['share_of_cached']:.2f}" if "share_of_cached" in facts else "-",
                f"{facts['times_naive']:.2f}" if "times_naive" in facts else "-",
                f"{facts['wait_share']:.1%}",
                f"{1000 * facts['cpu_seconds_per_image']:.1f}",
                f"{facts.get('gpu_mb', 0):.0f}",
            ]
            for row, facts in found.items()
        ]
        lines += [title, "", *_table(head, rows), ""]
    return lines[:-1]


def _tests(result: Result) -> list[str]:
    line = f"{result['passed']} passed, {len(result['failed'])} failed, {result['skipped']} skipped."
    return [line, *([""] if result["failed"] else []), *(f"- {name}" for name in result["failed"])]


def _nets(result: Result) -> list[str]:
    setting = result["setting"]
    head = ["net", "library", "encoder", "mode", "GMACs", "forward, images/s", "training, images/s", "MB"]
    rows = [
        [
            *(one[key] for key in ("net", "library", "note", "mode", "gmacs")),
            f"{one['forward']:,.1f}",
            f"{one['train']:,.1f}",
            f"{one['peak_mb']:,.0f}",
        ]
        for one in result["rows"]
    ]
    return [f"{setting['size']}x{setting['size']}, batch {setting['batch']}.", "", *_table(head, rows)]


_TABLES: dict[str, tuple[str, Callable[[Result], list[str]]]] = {
    "versions": ("Machine and versions", _versions),
    "smoke": ("The GPU device at work", _smoke),
    "streams": ("The same stream on both devices", _streams),
    "decoders": ("JPEG decoders", _decoders),
    "reuse": ("Batches used late", _reuse),
    "capture": ("CUDA graphs", _capture),
    "gradients": ("Upsampling's gradient", _gradients),
    "resident": ("Images kept on the GPU (data.cache=gpu)", _resident),
    "loader": ("Loader (bench.loader)", _loader),
    "training": ("Training (bench.train)", _training),
    "levers": ("Keys that are off by default", _levers),
    "tests": ("Tests that need a GPU", _tests),
    "nets": ("Nets (bench.nets)", _nets),
}


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Markdown."""
    cells = [[" ".join(str(cell).split()).replace("|", "/") for cell in row] for row in rows]
    return table.markdown(head, cells).splitlines()


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Also write the page into this file.")
def command(folder: Path, out: Path | None) -> None:
    """Turn the results of `bash bench/on_gpu.sh FOLDER` into tables, and name the stages that have none."""
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: give the one that bench/on_gpu.sh wrote to")
    page = report(folder)
    click.echo(page)
    if out is not None:
        atomic.write_text(out, page)


if __name__ == "__main__":
    run(command, "python -m bench.gpu_report")
