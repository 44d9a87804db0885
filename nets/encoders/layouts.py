"""Checkpoints that name an encoder's tensors in another way than timm, and the map from their names to timm's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """One such way of naming."""

    title: str  # whose names they are
    encoder: str  # timm's name of the model that it is mapped to
    telltale: str  # a name that no other layout has
    rename: Callable[[str], str]  # their name -> timm's


# Blocks of each of EfficientNet-Lite0's stages. EfficientNet-PyTorch counts them through, timm within each stage.
_LITE0_STAGES = (1, 2, 2, 3, 3, 4, 1)

_LITE0_ENDS = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
# Both name the norms in a block in the order of the convolutions. The first block does not expand its channels: timm
# then begins to count at the depthwise convolution, and calls the projection conv_pw.
_LITE0_FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_LITE0_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def efficientnet_lite0(name: str) -> str:
    """EfficientNet-PyTorch's name of a tensor -> timm's, such as `_blocks.2._bn0.bias` -> `blocks.1.1.bn1.bias`.

    A name that is none of theirs comes back as it is.
    """
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if block is None:
        part, _, rest = name.partition(".")
        return f"{_LITE0_ENDS[part]}.{rest}" if part in _LITE0_ENDS else name
    index, part, rest = int(block[1]), block[2], block[3]
    parts = _LITE0_FIRST_BLOCK if index == 0 else _LITE0_BLOCK
    for stage, blocks in enumerate(_LITE0_STAGES):
        if index < blocks:
            return f"blocks.{stage}.{index}.{parts[part]}.{rest}" if part in parts else name
        index -= blocks
    return name


LAYOUTS = (
    Layout("EfficientNet-PyTorch", "tf_efficientnet_lite0", "_blocks.0._depthwise_conv.weight", efficientnet_lite0),
)


def recognize(names: Iterable[str]) -> Layout | None:
    """The layout that a file's tensor names are in, None if none of these."""
    present = set(names)
    return next((layout for layout in LAYOUTS if layout.telltale in present), None)


def remedy(names: Iterable[str], file: str, encoder: str) -> str:
    """What to do about a file that does not fit `encoder`: convert it, or find another."""
    layout = recognize(names)
    if layout is None:
        return f"give timm's weights of {encoder}"
    return (
        f"these are {layout.title}'s names: `python -m nets weights {file} --out {layout.encoder}.pth` makes weights "
        f"of {layout.encoder} of it"
    )
