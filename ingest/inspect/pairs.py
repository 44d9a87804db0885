"""Which masks belong to which images: the globs whose wildcards stand for the same texts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ingest.inspect.families import Family
from ingest.sources.trees import Tree

_UNLIKELY = re.compile(r"inst|color|colour|depth|disp|edge|contour|overlay|vis|preview|blend|train_?ids", re.I)
_ENOUGH = 0.5  # of the images or of the masks must pair


@dataclass(frozen=True)
class Paired:
    """An image family and its masks."""

    images: Family
    image_glob: str
    masks: Family | None  # None: images alone
    mask_glob: str | None
    pairs: tuple[tuple[str, str], ...] = ()
    unpaired: int = 0  # images without a mask
    rivals: tuple[Family, ...] = field(default=())  # other masks that pair as well


def pair(tree: Tree, found: Sequence[Family]) -> list[Paired]:
    """Every image family with the masks that fit it best; image families first that have some."""
    masks = [family for family in found if family.is_masks]
    pictures = [family for family in found if not family.is_masks]
    taken = []
    for images in pictures:
        fits = sorted((_fit(tree, images, one) for one in masks), key=lambda fit: -_score(fit))
        good = [fit for fit in fits if len(fit.pairs) >= _ENOUGH * min(len(images.names), len(fit.masks.names))]  # type: ignore[union-attr]
        if good:
            best = good[0]
            rivals = tuple(
                fit.masks for fit in good[1:] if fit.masks and best.masks and fit.masks.split == best.masks.split
            )
            taken.append(Paired(images, best.image_glob, best.masks, best.mask_glob, best.pairs, best.unpaired, rivals))
        else:
            taken.append(Paired(images, images.glob(False), None, None, unpaired=len(images.names)))
    return sorted(taken, key=lambda one: (one.masks is None, -len(one.images.names)))


def _fit(tree: Tree, images: Family, masks: Family) -> Paired:
    """The two families as far as they pair, by whole stems or without what they begin with."""
    best: Paired | None = None
    for image_head, mask_head in ((False, False), (True, True), (False, True), (True, False)):
        image_glob, mask_glob = images.glob(image_head), masks.glob(mask_head)
        members, labels = set(images.names), set(masks.names)
        by_text = {text: name for name, text in tree.match(mask_glob).items() if name in labels}
        ours = {name: text for name, text in tree.match(image_glob).items() if name in members}
        pairs = tuple((name, by_text[text]) for name, text in ours.items() if text in by_text)
        fit = Paired(images, image_glob, masks, mask_glob, pairs, len(ours) - len(pairs))
        if best is None or len(pairs) > len(best.pairs):
            best = fit
    assert best is not None
    return best


def _score(fit: Paired) -> float:
    """How well masks fit: pairs, then the same split, then masks of values, then names that do not speak against it."""
    assert fit.masks is not None
    same_split = fit.masks.split == fit.images.split
    index = sum(one.kind == "index" for one in fit.masks.looks) / max(1, len(fit.masks.looks))
    unlikely = bool(_UNLIKELY.search(f"{fit.masks.folder}{fit.masks.tail}"))
    return len(fit.pairs) / max(1, len(fit.images.names)) * (2 if same_split else 1) + 0.3 * index - 0.5 * unlikely
