"""What a stage is given and gives."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ingest.errors import UserError

# Plain values that go into JSON.
Result = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """Where a stage works."""

    folder: Path
    """Of all stages: results, and the scenes that the first one draws."""
    device: torch.device
    data: Path | None = None
    """A shard folder to measure on; None: drawn scenes."""
    quick: bool = False
    """As small as makes sense: to see that it works, not how fast."""

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def shards(self) -> Path:
        """The shard folder to measure on. UserError when the stage `scenes` has not made it."""
        found = self.data or self.folder / "scenes" / "voc"
        if not (found / "dataset.json").is_file():
            raise UserError(f"{found} is no shard folder: run the stage `scenes` first, or give --data")
        return found

    def needs_gpu(self) -> None:
        """UserError on a CPU."""
        if not self.on_gpu:
            raise UserError("this stage says something only on a GPU")


def photos() -> list[Path]:
    """Real JPEG files, for what depends on their being sharp and colorful: $SEGRAIL_REALDATA, or none."""
    folder = os.environ.get("SEGRAIL_REALDATA", Path(__file__).resolve().parents[3] / "shared" / "data")
    return sorted(Path(folder).rglob("*.jpg"))[:8]
