"""The sections of a recipe that decide the data stream: `seed`, `data` and `augment` (pipeline/augment.py).

The training recipe adds sections to these; `load` reads these alone and lets the others pass.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from ingest.errors import UserError, nearest
from ingest.shards import folders
from ingest.shards.folders import Folder
from ingest.shards.remote.cache import Cache
from pipeline import checks, recipe
from pipeline.augment import Augment
from pipeline.plan import MAX_SEED


@dataclass
class DataConfig:
    """Where the samples come from, and how they are fed."""

    path: str | list[Folder] = ""
    """Shard folder, as made by `python -m ingest`; or several of the same classes, each with a weight: [{path: a},
    {path: b, weight: 2}]. An epoch visits every sample of a once, of b twice; weight 0.5: every other epoch. Mean and
    std are the first one's."""
    train: str = "train"
    """Split to train on."""
    val: str = "val"
    """Split to validate on; empty: no validation."""
    val_path: str = ""
    """Shard folder of that split, where it is another: to train on coarse labels and validate on fine ones. Same
    classes, in the same order. Empty: path, of several the first."""
    batch_size: int = 8
    """Crops per rank and step. A run that is resumed keeps its global batch, ranks x batch_size: with another number
    of ranks each takes its share of that."""
    val_batch_size: int = 1
    """Whole images of equal size per validation step."""
    val_size: int = 0
    """Side of the images that the net sees in validation, evaluation and prediction, pixels: they are scaled to it, its
    scores back to their own size, where the labels are. For nets trained on scaled images. 0: images as they are."""
    val_side: Literal["longer", "shorter"] = "longer"
    """Which side val_size says."""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    """Where images are decoded and warped; auto: where the net is."""
    hw_decoder_load: float = 0.65
    """Where a GPU decodes JPEGs: the share that its hardware decoder takes, 0..1, the rest its cores. GPUs without
    such a decoder take no notice."""
    cache: Literal["none", "gpu"] = "none"
    """gpu: the training split is decoded once into the GPU's memory (each rank's own), and crops are taken there: no
    image is read, decoded or sent again. For splits that fit decoded: VOC with SBD needs about 8 GB, Cityscapes 25, and
    a quarter more with antialias. Off by default: it is not yet measured on a GPU, and most sets do not fit."""
    threads: int = 0
    """Decoding and warping threads per rank; 0: this rank's share of the cores."""
    prefetch: int = 2
    """Batches made ahead."""
    shuffle_window: int = 0
    """Shards shuffled together: fewer at a time suit disks and network file systems; 0: the whole split."""
    staging_gb: float = 50.0
    """Of a path that is a URL: how much of it the local cache may hold, GB. Shards come in the order in which they are
    read, ahead of that; those go that are needed last. All ranks of a machine share the cache."""
    balance: dict[str, float] = field(default_factory=dict)
    """Class -> share of the crops that are to show it, such as {pole: 0.1, rider: 0.05}: that share of an epoch's crops
    is taken from images with the class, around a place where it is. Of an epoch of N crops the m others go on through
    one order of all images, so that each comes at least once in ceil(N / m) epochs, but for the few in an epoch's tail,
    which does not fill a batch and is left out. Empty: every image once an epoch."""
    on_bad_sample: Literal["error", "skip"] = "error"
    """A training sample whose file is damaged: stop, or count it for nothing (mean color, label 255) and say so."""
    max_bad_share: float = 0.1
    """With on_bad_sample=skip: stop when more than this share of the split's samples is damaged, 0..1."""

    @property
    def staging_cache(self) -> Cache:
        """Where shards behind URLs are staged."""
        return Cache(max_bytes=round(self.staging_gb * 10**9))

    @property
    def folders(self) -> list[Folder]:
        """`path` as a list."""
        return folders.listed(self.path)

    def __post_init__(self) -> None:
        for key, low, high in (
            ("batch_size", 1, 65536),
            ("val_batch_size", 1, 65536),
            ("val_size", 0, 65536),
            ("threads", 0, 1024),
            ("prefetch", 1, 1024),
            ("shuffle_window", 0, 10**9),
        ):
            checks.whole(f"data.{key}", getattr(self, key), low, high)
        checks.number("data.max_bad_share", self.max_bad_share, "[0, 1]")
        checks.number("data.staging_gb", self.staging_gb, "(0, 1e9]")
        checks.number("data.hw_decoder_load", self.hw_decoder_load, "[0, 1]")
        for name, share in self.balance.items():
            checks.number(f"data.balance.{name}", share, "(0, 0.9]")
        if sum(self.balance.values()) > 0.9:
            raise UserError(
                f"data.balance: its shares add up to {sum(self.balance.values()):g}; expected at most 0.9, so that all "
                f"images are still seen"
            )
        if self.balance and self.shuffle_window:
            raise UserError(
                f"data.balance takes images from the whole split, data.shuffle_window = {self.shuffle_window} reads a "
                f"few shards at a time: set data.shuffle_window=0, or leave data.balance out"
            )


@dataclass
class _Sections:
    """What `load` reads of a recipe."""

    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    augment: Augment = field(default_factory=Augment)


@dataclass(frozen=True)
class Stream:
    """What, with the dataset, decides every batch."""

    seed: int = 0
    batch_size: int = 8
    """data.batch_size: crops per rank and step."""
    shuffle_window: int = 0
    """data.shuffle_window: shards shuffled together; 0: the whole split."""
    augment: Augment = field(default_factory=Augment)
    balance: dict[str, float] = field(default_factory=dict)
    """data.balance: class -> share of the crops that are to show it."""


def stream_of(seed: int, data: DataConfig, augment: Augment, batch_size: int | None = None) -> Stream:
    """The stream of a recipe's sections. batch_size: None for data.batch_size."""
    return Stream(seed, batch_size or data.batch_size, data.shuffle_window, augment, dict(data.balance))


# Keys of `data` that change the stream; the others say where it is read and how fast.
_DATA = ("batch_size", "shuffle_window", "balance")
KEYS = ["seed", *(f"data.{key}" for key in _DATA), *(f"augment.{key.name}" for key in fields(Augment))]


def load(name: str | None, overrides: Sequence[str] = ()) -> Stream:
    """Reads a recipe file, or a shipped one by name (None: the defaults), with `key=value` overrides.

    UserError names the file and key of a mistake; also of an override that changes nothing in the stream.
    """
    raw = recipe.read(name) if name else {}
    for override in overrides:
        key = override.partition("=")[0]
        if "=" in override and key not in KEYS:
            raise UserError(f"override {override!r} names nothing that the data stream depends on{nearest(key, KEYS)}")
        recipe.apply(raw, override)
    return parse(raw)


def parse(raw: dict[str, Any]) -> Stream:
    """A checked Stream from a recipe's nested plain values. UserError names the dotted key.

    Sections of other names belong to others, unless they look like one of ours misspelled: a slip must not pass for a
    default.
    """
    own = [section.name for section in fields(_Sections)]
    for key in raw:
        close = difflib.get_close_matches(str(key), own, n=1, cutoff=0.7)
        if key not in own and close:
            raise UserError(f"unknown key {str(key)!r}; did you mean {close[0]!r}?")
    sections = recipe.validated(_Sections, {key: normalized(key, raw[key]) for key in own if key in raw})
    checks.whole("seed", sections.seed, 0, MAX_SEED)
    return stream_of(sections.seed, sections.data, sections.augment)


def normalized(section: str, value: Any) -> Any:
    """The section with `data.val=` on the command line, which YAML reads as null, as the empty name that it means, and
    with several folders of `data.path` checked."""
    if section != "data" or not isinstance(value, dict):
        return value
    if "val" in value and value["val"] is None:
        value = {**value, "val": ""}
    return {**value, "path": folders.checked(value["path"], "data.path")} if "path" in value else value
