"""Shards that come from URLs: whether the cache can hold what is read at once, and what fetching them costs."""

from __future__ import annotations

import time

from ingest.errors import UserError
from ingest.shards.reader import ShardSet


def check_room(shards: ShardSet, window: int) -> None:
    """UserError when the shards that are shuffled together are more than the cache may hold: each would be fetched
    again and again. window: `data.shuffle_window`."""
    staged = shards.staging
    if not staged:
        return
    room = staged[0].cache.max_bytes
    sizes = sorted((size for part in staged for size in part.shard_bytes), reverse=True)
    needed = sum(sizes[: window or None])
    if needed > room:
        fit, total = 0, 0
        while total + sizes[fit] <= room:
            total, fit = total + sizes[fit], fit + 1
        how_many = f"{window} shards" if window else f"all {len(sizes)} shards"
        raise UserError(
            f"data.staging_gb = {room / 1e9:g}, but data.shuffle_window = {window} reads {how_many} of {staged[0].url} "
            f"at once, {needed / 1e9:.3g} GB: set data.shuffle_window={max(1, fit // 2)} (half of what fits, so that "
            f"others can come meanwhile), or a larger data.staging_gb"
        )


class Meter:
    """Reads the traffic of staged shards from one log step to the next, of this rank."""

    def __init__(self, shards: ShardSet) -> None:
        self._staged = shards.staging
        self._before = self._totals()

    def read(self) -> tuple[float, float, float]:
        """Since the last call: bytes fetched, seconds in which a thread waited for a shard, seconds in all."""
        now = self._totals()
        content, stalled, passed = (b - a for a, b in zip(self._before, now, strict=True))
        self._before = now
        return content, stalled, passed

    def __bool__(self) -> bool:
        """Whether anything is staged at all."""
        return bool(self._staged)

    def _totals(self) -> tuple[float, float, float]:
        fetched = float(sum(part.traffic.fetched_bytes for part in self._staged))
        stalled = sum(part.traffic.stall_seconds for part in self._staged)
        return fetched, stalled, time.monotonic()
