"""Looks for the loader settings that are fastest on this machine, and says them as recipe lines."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bench.data.setting import Setting

# A setting must be this much faster to be worth more threads, memory, or batches of another size.
WORTH = 1.03
WORTH_A_SPLIT = 1.10


@dataclass(frozen=True)
class Tried:
    """One setting and its speed, the median of the repeats."""

    setting: Setting
    images_per_second: float


# images/s of one setting
Measure = Callable[[Setting], float]


def tune(start: Setting, cores: int, repeats: int, measure: Measure) -> tuple[Setting, list[Tried]]:
    """Threads first, then prefetch, then half and quarter batches, each with the best of those before.

    Returns the setting chosen and all that were tried. Settings of one round are measured in turn, so that a noisy
    machine hurts all alike; among those as fast as the fastest (within 3%) the most modest is taken. A batch is only
    split where that gains 10%: batch norm then sees smaller batches.
    """
    tried: list[Tried] = []

    def best(candidates: Sequence[Setting], worth: float) -> Setting:
        speeds: dict[Setting, list[float]] = {candidate: [] for candidate in candidates}
        for _ in range(repeats):
            for candidate in candidates:
                speeds[candidate].append(measure(candidate))
        found = [Tried(candidate, statistics.median(speeds[candidate])) for candidate in candidates]
        tried.extend(found)
        fastest = max(one.images_per_second for one in found)
        return next(one.setting for one in found if one.images_per_second * worth >= fastest)

    chosen = best([replace(start, threads=count) for count in thread_counts(cores)], WORTH)
    chosen = best([replace(chosen, prefetch=depth) for depth in (1, 2, 4)], WORTH)
    # the whole batch comes first: it is the most modest choice
    batches = [start.batch // parts for parts in (1, 2, 4) if start.batch % parts == 0]
    if len(batches) > 1:
        chosen = best([replace(chosen, batch=batch) for batch in batches], WORTH_A_SPLIT)
    return chosen, tried


def thread_counts(cores: int) -> list[int]:
    """Candidates, ascending: powers of two up to the cores, all of them, and half as many again."""
    powers = [2**power for power in range(cores.bit_length()) if 2**power < cores]
    return sorted({1, *powers, cores, cores + (cores + 1) // 2})


def recipe_lines(chosen: Setting, batch: int) -> str:
    """What to paste into a recipe whose data.batch_size is `batch`."""
    lines = ["data:", f"  threads: {chosen.threads}", f"  prefetch: {chosen.prefetch}", f"  batch_size: {chosen.batch}"]
    if chosen.batch != batch:
        parts = batch // chosen.batch
        lines += ["optimizer:", f"  accumulate: {parts}   # {parts} x {chosen.batch} crops a step, as before"]
    return "\n".join(lines)


def render(tried: Sequence[Tried]) -> str:
    """What was tried, for a terminal."""
    lines = ["threads  prefetch  batch  images/s"]
    for one in tried:
        setting = one.setting
        lines.append(f"{setting.threads:7d}  {setting.prefetch:8d}  {setting.batch:5d}  {one.images_per_second:8.1f}")
    return "\n".join(lines)
