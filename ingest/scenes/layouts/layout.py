"""What a layout is: which files one scene becomes, and which lists come beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ingest.scenes import quirks
from ingest.scenes.render import Scene, scene

File = tuple[str, bytes]  # path below the written folder, content

SPLITS = ("train", "val", "test", "extra")  # their order numbers the scenes: append only
SPLIT_STRIDE = 1 << 18  # scenes a split can have before it would repeat the next split's


@dataclass(frozen=True)
class Job:
    """One scene to write: number `index` of `split`, of the world `seed`, in pixels."""

    split: str
    index: int
    seed: int
    height: int
    width: int

    def draw(self) -> Scene:
        """The scene at the job's size. Splits never share one; more scenes in one split change none in another."""
        number = SPLITS.index(self.split) * SPLIT_STRIDE + self.index
        return scene(self.seed, number, self.height, self.width)

    def draw_varied(self) -> Scene:
        """The scene, in one of the differing sizes of a dataset that was gathered from many cameras."""
        number = SPLITS.index(self.split) * SPLIT_STRIDE + self.index
        return scene(self.seed, number, *quirks.size(self.index, self.height, self.width))


@dataclass(frozen=True)
class Archive:
    """An official archive ("" = a loose file beside them), and what the rule's path prefix reads inside it."""

    name: str
    inside: str


@dataclass(frozen=True)
class Layout:
    """`files` runs in worker processes and must depend on its job alone; `lists` runs once, after all of them."""

    name: str
    about: str  # one line for --help
    size: tuple[int, int]  # height, width, of the real dataset's usual image
    splits: dict[str, int]  # scenes a split, unless told otherwise
    files: Callable[[Job], list[File]]
    lists: Callable[[dict[str, int]], list[File]]
    command: str  # that ingests the written folder, with {path} in it
    # path prefix -> archive that holds it; the longest prefix wins, what none fits lies beside the archives
    archives: dict[str, Archive] = field(default_factory=dict)
