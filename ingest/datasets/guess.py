"""When a dataset is not where it was looked for: which one does this folder look like?"""

from __future__ import annotations

from ingest.errors import UserError
from ingest.sources.trees import Tree

_SIGNS = {
    "voc": r"(?:JPEGImages|SegmentationClass\w*)/[^/]+",
    "cityscapes": r"(?:leftImg8bit|gtFine|gtCoarse)/[^/]+/[^/]+/[^/]+\.png",
    "ade20k": r"(?:images|annotations)/(?:training|validation)/ADE_[^/]+",
    "cocostuff": r"(?:(?:train|val)2017/\d{12}\.\w+|annotations/[^/]+\.mat)",
}


def like(tree: Tree, but: str = "") -> list[str]:
    """Official datasets whose files these may be."""
    return [name for name, sign in _SIGNS.items() if name != but and next(tree.find(sign), None)]


def not_found(tree: Tree, name: str, looked_for: str) -> UserError:
    """What was looked for, what is there, and which other dataset it looks like."""
    others = like(tree, name)
    advice = (
        f"it looks like {others[0]}: python -m ingest {others[0]} {tree.root}"
        if others
        else "give the folder of the unpacked dataset or of its archives (any other dataset goes by `ingest folder`)"
    )
    return UserError(f"{tree.root} is no {name}: looked for {looked_for}, found {tree.describe()}; {advice}")
