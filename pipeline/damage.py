"""How much of a split is damaged: skipping single samples is fine, training on nothing is not."""

from __future__ import annotations

from ingest.errors import UserError
from ingest.shards.reader import ShardSet
from pipeline.batch import Batch

# Damaged samples after which their share of what was read is trusted before the whole split is known.
ENOUGH = 50


class Damage:
    """Counts what a loader has skipped, and stops where that is more than a share of the split."""

    def __init__(self, shards: ShardSet, limit: float) -> None:
        """limit: the largest share of damaged samples, 0..1."""
        self._shards, self._limit = shards, limit
        self._bad: set[str] = set()
        self._read = self._skipped = 0

    def add(self, batch: Batch) -> None:
        """UserError when too many are damaged: of the split, or of those read so far (after `ENOUGH`)."""
        self._bad.update(batch.skipped)
        self._read += len(batch.keys)
        self._skipped += len(batch.skipped)
        shards = self._shards
        if len(self._bad) > self._limit * len(shards):
            what = f"{len(self._bad)} of the {len(shards)} samples"
        elif self._skipped >= ENOUGH and self._skipped > self._limit * self._read:
            what = f"{self._skipped} of the first {self._read} samples"
        else:
            return
        verify = " and ".join(f"`python -m ingest verify {part.folder}`" for part in shards.parts)
        raise UserError(
            f"{what} of split {shards.split!r} of {shards.folder} are damaged, more than data.max_bad_share = "
            f"{self._limit:g} allows; the last: {self._last(batch)}; see {verify} "
            f"and ingest the dataset again, or raise data.max_bad_share"
        )

    def _last(self, batch: Batch) -> str:
        return ", ".join(f"{key} ({reason})" for key, reason in list(batch.skipped.items())[:2]) or "none"
