"""How far each of an encoder's parameters is from its end, for layer-wise learning-rate decay."""

from __future__ import annotations

import re

from torch import nn

# Where timm's names count stages (resnet "layer1.0", convnext "stages_2.blocks.0", swin "layers_0", regnet "s3.b1",
# efficientnet "blocks.3.1"), a plain ViT's count blocks ("blocks.5").
_STAGE = re.compile(r"(?:^|\.)(?:layers?|stages?|blocks|denseblock|s)[._]?(\d+)(?=[._])")


def distances(encoder: nn.Module) -> dict[int, int]:
    """id of a parameter -> its distance from the encoder's end: the last stage has 1, the first of S has S, and what
    comes before it (stem, patch embedding, tokens, position tables) has S + 1. What comes after the last (a final norm)
    goes with it. A plain ViT's blocks count as stages.

    Empty where the names count no stages.
    """
    names = [(name, parameter) for name, parameter in encoder.named_parameters(remove_duplicate=False)]
    numbers = sorted({int(found[1]) for name, _ in names if (found := _STAGE.search(name))})
    if not numbers:
        return {}
    rank = {number: place for place, number in enumerate(numbers, start=1)}
    distance, current = {}, 0  # 0: still before the first stage
    for name, parameter in names:
        if found := _STAGE.search(name):
            current = rank[int(found[1])]
        distance[id(parameter)] = len(numbers) + 1 - current
    return distance
