"""docs/parity.md: our nets and recipes beside the published ones."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from typing import Any

from bench.parity import costs
from bench.results import table
from train import config, published

_INTRODUCTION = """# Parity

Segrail's nets and recipes beside the published ones. Made by `python -m bench.parity` of `bench/parity/nets.yaml`,
`train/published.yaml` and `bench/parity/results.json`. On a machine with the data and GPUs

    python -m bench.parity --run ade20k_pspnet

trains a recipe on all GPUs, which share its batch, and fills its row; with `--seeds 3` three times. It goes on where it
was stopped. A run that is there already is taken in by

    python -m bench.parity --add saved/camvid_enet/RUN"""
_NETS = """## Nets

Parameters in millions; GMACs: 10^9 multiply-adds of convolutions and matrix products for one image, in eval mode,
counted by torch's FlopCounterMode. "As built": counted on that project's net. How fast they are:
`python -m bench.nets`."""
_RECIPES = """## Recipes

mIoU in %. Ours is that of the last weights on the validation split, the mean over the seeds and their standard
deviation; no checkpoint was chosen by it. Every setting of both sides: [Recipes](recipes.md)."""
_RUNS = """## Runs

How each of our scores came about. Minutes are wall time, validations included; "best" is the best of the run's
validations."""


def markdown(results: dict[str, Any]) -> str:
    """The page, of what `results.load` gives. Needs every net of nets.yaml to be counted."""
    parts = [_INTRODUCTION, *_nets(results["nets"]), *_recipes(results["runs"]), *_runs(results["runs"])]
    return "\n\n".join(parts) + "\n"


def _nets(counted: dict[str, dict[str, float]]) -> list[str]:
    head = ["net", "classes", "input", "parameters", "published", "GMACs", "published", "source"]
    rows: list[list[str]] = []
    notes: list[str] = []
    for one in costs.load():
        ours, mark = counted[one.key], ""
        if one.note:
            notes.append(f"{len(notes) + 1}. {one.note}")
            mark = f" ({len(notes)})"
        rows.append(
            [
                _name(one) + mark,
                str(one.classes),
                f"{one.size[0]}x{one.size[1]}",
                f"{ours['parameters']:.2f}",
                _or_dash(one.parameters),
                f"{ours['macs']:.2f}" if ours["macs"] < 100 else f"{ours['macs']:.1f}",
                _or_dash(one.macs),
                one.source or "no published figure known",
            ]
        )
    return [_NETS, table.markdown(head, rows), "\n".join(notes)]


def _name(one: costs.Stands) -> str:
    options = ", ".join(
        str(value) if key == "backbone" else f"{key} {str(value).lower()}" for key, value in one.options.items()
    )
    return f"{one.net}{f': {options}' if options else ''}"


def _recipes(runs: Sequence[dict[str, Any]]) -> list[str]:
    """A row for each shipped recipe and each set of conditions that it was trained under."""
    rows = []
    stands = published.load()
    for name in config.shipped():
        one = stands[name]
        rows.append([f"[{name}](recipes.md#{name})", one.source, one.score, "not run", "", "", ""])
        for number, group in enumerate(_groups([run for run in runs if run["recipe"] == name])):
            first = [rows.pop()[0], one.source, one.score] if not number else ["", "", ""]
            rows.append([*first, *_ours(group)])
    head = ["recipe", "stands for", "published", "segrail", "seeds", "minutes a run", "with"]
    return [_RECIPES, table.markdown(head, rows)]


def _groups(runs: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Runs of the same conditions together; those of the recipe as it is shipped come first."""
    found: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        found.setdefault(json.dumps(run["differs"], sort_keys=True), []).append(run)
    return [found[key] for key in sorted(found, key=lambda key: (key != "{}", key))]


def _ours(group: Sequence[dict[str, Any]]) -> list[str]:
    scores = [100 * run["miou"] for run in group]
    spread = f" +- {statistics.stdev(scores):.1f}" if len(scores) > 1 else ""
    differs = ", ".join(f"`{key}={json.dumps(value)}`" for key, value in group[0]["differs"].items())
    minutes = statistics.mean(run["minutes"] for run in group)
    seeds = ", ".join(str(run["seed"]) for run in group)
    return [f"{statistics.mean(scores):.1f}{spread}", seeds, f"{minutes:.0f}", differs or "the recipe as shipped"]


def _runs(runs: Sequence[dict[str, Any]]) -> list[str]:
    if not runs:
        return [_RUNS, "None yet."]
    head = ["command", "seed", "mIoU", "best", "split", "minutes", "machine", "date", "commit", "torch"]
    rows = [
        [
            f"`{run['command']}`",
            str(run["seed"]),
            f"{100 * run['miou']:.2f}",
            "-" if run["best_miou"] is None else f"{100 * run['best_miou']:.2f}",
            run["split"],
            f"{run['minutes']:.0f}",
            run["machine"],
            run["date"],
            f"`{run['commit']}`" + (f" ({run['note']})" if run.get("note") else ""),
            run["versions"].get("torch", "-"),
        ]
        for run in runs
    ]
    return [_RUNS, table.markdown(head, rows)]


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
