"""What a layout is: which files one scene becomes, and which lists come beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ingest.scenes.render import Scene, scene

File = tuple[str, bytes]  # path below the written folder, content

SPLIT_STRIDE = 1 << 18  # scenes a split can have before it would repeat the next split's


@dataclass(frozen=True)
class Job:
    """One scene to write: number `index` of `split`, of the world `seed`, in pixels."""

    split: str
    index: int
    seed: int
    height: int
    width: int


@dataclass(frozen=True)
class Layout:
    """`files` runs in worker processes and must depend on its job alone; `lists` runs once, after all of them."""

    name: str
    size: tuple[int, int]  # height, width, of the real dataset's usual image
    splits: dict[str, int]  # scenes a split, unless told otherwise; the order numbers the splits
    files: Callable[[Job], list[File]]
    lists: Callable[[dict[str, int]], list[File]]
    hint: Callable[[str], str]  # the command that ingests the written folder
    # path prefix -> archive name, longest prefix first; what no prefix fits stays beside the archives
    archives: dict[str, str] = field(default_factory=dict)

    def draw(self, job: Job) -> Scene:
        """The job's scene. Splits never share one, and more train scenes leave the val scenes as they are."""
        number = list(self.splits).index(job.split) * SPLIT_STRIDE + job.index
        return scene(job.seed, number, job.height, job.width)
