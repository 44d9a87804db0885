"""A measurement in a process of its own: an order goes in as JSON, one line of JSON comes out."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click
from tqdm.auto import tqdm

from ingest.errors import UserError

Numbers = dict[str, float]


# Repeats further apart than this (spread / median) say more of the machine's other work than of the rows.
NOISY = 0.15


class RowFailed(RuntimeError):
    """A row's process died; the message is its last words."""


def medians(repeats: Sequence[Numbers]) -> Numbers:
    """Of each fact over the repeats of a row, at least one."""
    return {key: statistics.median(repeat[key] for repeat in repeats) for key in repeats[0]}


def summarize(found: Mapping[str, Sequence[Numbers]], ratios: Mapping[str, str]) -> dict[str, Numbers]:
    """Medians over the repeats of each row; of images_per_second also low, high and spread (high - low).

    ratios: name of a fact -> the row whose speed it is relative to, such as {"times_naive": "naive"}; left out where
    that row is missing.
    """
    table: dict[str, Numbers] = {}
    for row, repeats in found.items():
        speeds = [repeat["images_per_second"] for repeat in repeats]
        table[row] = medians(repeats)
        table[row] |= {"low": min(speeds), "high": max(speeds), "spread": max(speeds) - min(speeds)}
    for facts in table.values():
        for ratio, row in ratios.items():
            if row in table:
                facts[ratio] = facts["images_per_second"] / table[row]["images_per_second"]
    return table


def noise(table: Mapping[str, Numbers]) -> str:
    """A warning when the repeats of a row lie far apart; else empty. Rows hold images_per_second and spread."""
    worst = max((facts["spread"] / facts["images_per_second"] for facts in table.values()), default=0.0)
    if worst <= NOISY:
        return ""
    return (
        f"warning: repeats of one row lie {worst:.0%} apart: something else runs on this machine. Ratios are only as "
        "good as that; measure again when it is quiet."
    )


def run(module: str, order: dict[str, Any], environment: dict[str, str] | None = None) -> Numbers:
    """What `python -m module` says to `order`, which must name its row. RowFailed when it dies."""
    command = [sys.executable, "-m", module]
    done = subprocess.run(command, input=json.dumps(order), capture_output=True, text=True, env=environment)
    if done.returncode:
        words = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise RowFailed(f"row {order['row']!r} failed: {words[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def rounds(
    rows: Sequence[str], measure: Callable[[str], Numbers], repeats: int, title: str
) -> dict[str, list[Numbers]]:
    """Measures the rows in turn, `repeats` times round, so that a noisy machine hurts all alike.

    A row whose process dies is reported and left out. UserError when every row did.
    """
    found: dict[str, list[Numbers]] = {row: [] for row in rows}
    with tqdm(total=len(rows) * repeats, desc=title, unit="row", leave=False, dynamic_ncols=True, disable=None) as bar:
        for _ in range(repeats):
            for row in list(found):
                bar.set_postfix_str(row)
                try:
                    found[row].append(measure(row))
                except RowFailed as error:
                    click.echo(f"warning: {error}", err=True)
                    del found[row]
                bar.update()
    if not found:
        raise UserError("every row failed: see the warnings above")
    return found
